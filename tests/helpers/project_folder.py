"""A reader's project folder in miniature: what a command of the documentation names comes to be in it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import savemat

from tests import ROOT
from tests.helpers.builders import flickr8k_raw, pascal_raw
from tests.helpers.built import image_bytes, samples, write
from tests.helpers.drawn import draw_image
from tests.helpers.made_regions import picture, write_tsv
from tests.helpers.made_transformers import write_clip
from tests.helpers.raw_flickr30k import flickr30k_raw
from tests.helpers.raw_mirflickr import mirflickr_raw
from tests.helpers.raw_mscoco import coco
from tests.helpers.raw_nuswide import CONCEPTS, TEN, name_of
from tests.helpers.raw_nuswide import lay_out as nuswide_files
from tests.helpers.raw_websearch import websearch_raw
from tests.helpers.raw_wikipedia import wikipedia_raw
from tests.helpers.raw_xmedia import five_views, write_lists, xmedia_raw
from xmr_e2e.models.saved_model import load
from xmr_e2e.shards.parquet import write_parquet

RUN = "runs/alscor_pascal/20261122-120000"
OWN = {"dog": "a brown dog runs on grass", "sea": "waves break, on a beach"}
"""classes of the reader's own data, and their text"""
SHARED = ("recipes", "slurm", "preprocessing", "benchmarks")
OUTPUT = (
    ("python -m preprocessing.synthetic", 0),
    ("python -m preprocessing.folder", 1),
    ("python -m benchmarks.methods", 1),
    ("xmr shards mount", 1),
    ("xmr shards from-parquet", 1),
    ("xmr shards from-hf", 1),
    ("xmr shards to-parquet", 1),
    ("xmr shards sheet", 1),
    ("xmr export", 1),
)
"""beginning of a command -> which of the words behind it names what the command itself makes; otherwise the one behind
RAW"""


def nuswide_raw(raw: Path) -> Path:
    """60 images as published, each with one of the ten concepts of 10k and one other."""
    others = [concept for concept in CONCEPTS if concept not in TEN]
    labels = {name_of(n): (TEN[n % 10], others[n % len(others)]) for n in range(60)}
    tags = {image: f"tag{n} nikon" for n, image in enumerate(labels)}
    write(raw / "NUS_WID_Tags/TagList1k.txt", "nikon\ncanon\n")
    write(raw / "NUS_WID_Tags/AllTags1k.txt", "1\t0\t\n" * len(labels))
    return nuswide_files(raw, labels, tags)


def xmedia_with_lists(raw: Path) -> Path:
    write_lists(xmedia_raw(raw), {"train": 7, "test": 6}, 4)
    return raw


def xmedianet_raw(raw: Path) -> Path:
    write_lists(raw, {"train": 12, "test": 8}, 4)
    savemat(raw / "XMediaNet5View_Doc2Vec.mat", five_views())
    return raw


RAW: dict[str, Callable[[Path], Path]] = {
    "wikipedia": wikipedia_raw,
    "pascal_sentence": pascal_raw,
    "nuswide": nuswide_raw,
    "xmedia": xmedia_with_lists,
    "xmedianet": xmedianet_raw,
    "websearch": websearch_raw,
    "mirflickr": mirflickr_raw,
    "mscoco": coco,
    "flickr8k": flickr8k_raw,
    "flickr30k": flickr30k_raw,
}
"""dataset -> what makes its publisher's files in miniature"""


def raw_of(line: str) -> str:
    """The dataset whose publisher's files are meant by RAW in a command."""
    builder = re.search(r"(?:preprocessing\.|build_shards\.sh )(\w+)", line)
    assert builder, line
    if builder[1] in ("flickr", "caption_labels"):
        return "flickr30k" if "flickr30k" in line else "flickr8k"
    return builder[1]


@dataclass(frozen=True)
class Project:
    """root: the folder, which is the current one. shards: a miniature that stands for any. run: a finished run."""

    root: Path
    shards: Path
    run: Path

    def __post_init__(self) -> None:
        for name in SHARED:
            (self.root / name).symlink_to(ROOT / name)
        self._make_run(self.root / RUN)

    def provide(self, line: str, words: list[str]) -> list[str]:
        """Make what a command needs; return its words, with patterns of file names replaced as a shell does."""
        made = self._made_by(line, words)
        for word in words:
            if word != made:
                self._make(word.removeprefix("file=@"), line)
        return [name for word in words for name in self._expand(word)]

    def _made_by(self, line: str, words: list[str]) -> str | None:
        for beginning, place in OUTPUT:
            if line.startswith(beginning):
                return words[len(beginning.split(" ")) + place]
        return words[words.index("RAW") + 1] if "RAW" in words else None

    def _make(self, word: str, line: str) -> None:
        path = self.root / re.sub(r"\*+", "1", re.sub(r"\[.*?\]", "1", word))
        if path.exists() or "://" in word or word.startswith("/") or path.suffix == ".pth":
            return
        if word == "RAW":
            RAW[raw_of(line)](path)
        elif re.fullmatch(r"RUN\w*|runs/\w+/.*", word):
            self._make_run(path)
        elif re.fullmatch(r"SHARDS|data/shards/\w+", word):
            shutil.copytree(self.shards, path)
            if line.startswith("xmr shards trust"):
                write(path / "remote.json", '{"url": "https://host/", "cache": null, "cache_bytes": 1}')
        elif word == "data/shards":
            for name in ("flickr8k", "flickr8k_concepts"):
                shutil.copytree(self.shards, path / name)
        elif word.startswith("my_tars/"):
            tars_of_another_tool(self.root / "my_tars")
        elif word.startswith("my_pairs"):
            own_pairs(self.root / "my_pairs")
        elif word in ("my_parquet", "my_dataset"):
            write_parquet(self.shards, path)
        elif word.startswith("my_"):
            own_data(self.root / word.partition("/")[0])
        elif word == "TABLE" or path.suffix == ".csv":
            write(path, label_table(self.root / "RAW"))
        elif path.suffix == ".json":
            write(path, json.dumps({"caption": ["caption"], "rare": ["rare"]}))
        elif path.suffix in (".jpg", ".png"):
            draw_image(path)
        elif path.suffix == ".tsv":
            write_tsv(path, {source: picture(0, count=36) for source in samples(self.shards)})
        elif re.fullmatch(r"(photos|pictures)/?", word):
            draw_image(path / "photo.jpg")
        elif word == "vectors.txt":
            write(path, "2 8\n" + "".join(f"{name}{' 0.1' * 8}\n" for name in ("small", "park")))
        elif word == "glove.npy":
            np.save(path, np.linspace(-1, 1, 16, dtype=np.float32).reshape(2, 8))
            write(path.with_suffix(".txt"), "small\npark\n")
        elif word == "clip":
            write_clip(path)
        elif word == "model" and line.startswith("xmr push"):
            load(self.run).save_pretrained(path)
        elif word == "exclude.txt":
            write(path, f"{next(iter(OWN))}/0.jpg\n")
        elif word == "texts.txt":
            write(path, "a small park in autumn\n" * 8)  # words that gensim does not leave out as rare
        elif path.suffix == ".txt":
            write(path, "\n".join(OWN.values()))

    def _make_run(self, path: Path) -> None:
        """The finished run; its files are the same ones, since those of models are large."""
        shutil.copytree(self.run, path, copy_function=os.link)

    def _expand(self, word: str) -> list[str]:
        found = sorted(self.root.glob(word)) if re.search(r"[*\[]", word) and " " not in word else []
        return [path.relative_to(self.root).as_posix() for path in found] or [word]


def own_data(folder: Path) -> None:
    """Three pictures of each class with a text beside each; and the same as tables."""
    rows = [(f"{label}/{number}.jpg", text, label) for label, text in OWN.items() for number in range(3)]
    for image, text, _ in rows:
        write(draw_image(folder / image).with_suffix(".txt"), text)
    table = io.StringIO()
    csv.writer(table).writerows([("image", "text", "label"), *rows])
    write(folder / "table.csv", table.getvalue())
    write(folder / "table.jsonl", "\n".join(json.dumps(dict(zip(("image", "text", "label"), row))) for row in rows))


def own_pairs(folder: Path, pictures: int = 30) -> None:
    """Pictures and a table with only their texts: two rows of each."""
    lines = ["image,text"]
    for number in range(pictures):
        draw_image(folder / f"photos/{number:04d}.jpg")
        text = list(OWN.values())[number % len(OWN)]
        lines += [f'photos/{number:04d}.jpg,"{text}"', f'photos/{number:04d}.jpg,"{text}, number {number}"']
    write(folder / "table.csv", "\n".join(lines))


def tars_of_another_tool(folder: Path) -> None:
    """Six tars of two samples: a picture, its text and its class."""
    folder.mkdir()
    for number in range(6):
        with tarfile.open(folder / f"{number:05d}.tar", "w") as tar:
            for label, text in OWN.items():
                members = {"jpg": image_bytes(), "txt": text.encode(), "cls": label.encode()}
                for extension, data in members.items():
                    member = tarfile.TarInfo(f"{number:05d}_{label}.{extension}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def label_table(raw: Path) -> str:
    """For preprocessing.flickr: the raw folder's pictures in three splits and two classes."""
    names = sorted(path.name for path in raw.glob("*/*.jpg"))
    splits = ("train", "train", "val", "test")
    lines = [f"{name},{splits[number % 4]},{list(OWN)[number // 2 % 2]}\n" for number, name in enumerate(names)]
    return "image,split,label\n" + "".join(lines)
