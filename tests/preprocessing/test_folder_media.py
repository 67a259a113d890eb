"""One's own sounds, videos and shapes: in tables and class folders, paired or not, decoded once at building."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocessing.common.media import MediaOptions
from preprocessing.folder.class_folders import samples_of_folders
from preprocessing.folder.columns import Columns
from preprocessing.folder.command import folder
from preprocessing.folder.drawn import Fractions, with_splits
from preprocessing.folder.found import Found
from preprocessing.folder.table_samples import samples_of_table
from tests import ROOT
from tests.helpers.built import image_bytes, manifest, samples, write
from tests.helpers.media_bytes import COLORS, frames_of, mp4, off, sound_in_mp4, wav
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import BuildOptions

ALONE = BuildOptions(workers=1)
SHARED = ROOT.parent / "shared" / "data"


def table_of(raw: Path, rows: list[dict[str, Any]], chosen: Columns = Columns()) -> Found:
    table = write(raw.parent / "t.jsonl", "\n".join(map(json.dumps, rows)))
    return samples_of_table(raw, table, chosen)


def members(out: Path) -> dict[str, dict[str, bytes]]:
    """Source -> extension -> bytes of all samples."""
    found: dict[str, dict[str, bytes]] = {}
    for shard in out.glob("*.tar"):
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                found.setdefault(key, {})[extension] = tar.extractfile(member).read()  # type: ignore[union-attr]
    return {json.loads(own["json"])["source"]: own for own in found.values()}


# ---- tables


def test_a_row_may_have_any_modalities(tmp_path: Path) -> None:
    rows = [
        {"image": "a.jpg", "text": "a dog", "audio": "a.wav", "label": "dog"},
        {"audio": "b.wav", "label": "dog"},
        {"image": "", "text": None, "video": "c.mp4", "audio": None, "label": "sea"},
        {"shape3d": "d.off", "text": "a box", "label": "sea"},
        {"text": "only words", "label": "sea"},
        {"texts": ["more", "words"], "label": "sea"},
    ]
    found = table_of(tmp_path / "raw", rows)
    raw = tmp_path / "raw"
    assert [(s.source, s.image, dict(s.media), s.texts) for s in found.samples] == [
        ("a.jpg", raw / "a.jpg", {"audio": raw / "a.wav"}, ("a dog",)),
        ("b.wav", None, {"audio": raw / "b.wav"}, ()),
        ("c.mp4", None, {"video": raw / "c.mp4"}, ()),
        ("d.off", None, {"shape3d": raw / "d.off"}, ("a box",)),
        ("text/000001", None, {}, ("only words",)),
        ("text/000002", None, {}, ("more", "words")),
    ]
    assert found.required == () and not found.notes


def test_pairs_of_pictures_and_texts_stay_required_and_others_are_not(tmp_path: Path) -> None:
    paired = [{"image": "a.jpg", "text": "one"}, {"image": "b.jpg", "text": ""}, {"image": "", "text": "two"}]
    assert table_of(tmp_path / "raw", paired).required == ("image", "text")
    assert table_of(tmp_path / "raw", [{"image": "a.jpg", "text": ""}, {"image": "", "text": "two"}]).required == ()
    assert table_of(tmp_path / "raw", [{"image": "a.jpg", "label": "x"}]).required == ()
    with pytest.raises(XmrError, match=r"the columns are image, label, words; wanted are image, text .*audio, video"):
        table_of(tmp_path / "raw", [{"image": "a.jpg", "label": "x", "words": "a text?"}])
    with pytest.raises(XmrError, match="the columns are file, text; wanted are image, text"):
        table_of(tmp_path / "raw", [{"file": "a.wav", "text": "a sound of another column"}])
    chosen = table_of(tmp_path / "raw", [{"image": "a.jpg", "label": "x", "words": "no"}], Columns(image="image"))
    assert chosen.notes == ["t.jsonl: columns not used: words"]


def test_a_table_in_the_folder_is_found_and_one_command_builds_it(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    names = [f"audio/{label}/{number}.wav" for label in ("low", "high") for number in range(4)]
    for number, name in enumerate(names):
        write(raw / name, wav(pitch=200 + 100 * number))
    rows = [{"audio": name, "label": name.split("/")[1]} for name in names]
    write(raw / "table.jsonl", "\n".join(map(json.dumps, rows)))
    folder(raw, tmp_path / "out", build=ALONE)
    found = members(tmp_path / "out")
    assert set(found) == set(names)
    assert all(found[name]["wav"] == (raw / name).read_bytes() for name in names)
    assert Counter(sample["split"] for sample in samples(tmp_path / "out").values()) == {
        "train": 4,
        "val": 2,
        "test": 2,
    }
    assert manifest(tmp_path / "out")["required"] == []
    assert set(manifest(tmp_path / "out")["options"]) == {"resize", "shard_samples", "max_pixels"}
    write(raw / "table.csv", "audio,label\n")
    with pytest.raises(XmrError, match=r"table\.csv and table\.jsonl; say with --table"):
        folder(raw, tmp_path / "other", build=ALONE)


def test_class_folders_of_pictures_with_texts_come_before_a_table(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for number in range(2):
        write(raw / "dog" / f"{number}.jpg", image_bytes())
    write(raw / "table.csv", "image,text,label\ndog/0.jpg,of the table,cat\n")
    folder(raw, tmp_path / "table", build=ALONE)
    assert [sample["labels"] for sample in samples(tmp_path / "table").values()] == [["cat"]]
    for number in range(2):
        write(raw / "dog" / f"{number}.txt", "beside it")
    folder(raw, tmp_path / "folders", build=ALONE)
    assert {tuple(sample["labels"]) for sample in samples(tmp_path / "folders").values()} == {("dog",)}
    assert "table.csv is not read, since there are class folders: name it with --table" in manifest(
        tmp_path / "folders"
    )["notes"]  # fmt: skip
    folder(raw, tmp_path / "chosen", text_column=("text",), build=ALONE)
    assert [sample["texts"] for sample in samples(tmp_path / "chosen").values()] == [["of the table"]]


def test_columns_of_media_can_be_chosen(tmp_path: Path) -> None:
    rows = [{"file": "a.wav", "film": "a.mp4", "mesh": "a.off", "label": "x"}]
    found = table_of(tmp_path / "raw", rows, Columns(audio="File", video="film", shape3d="mesh"))
    assert {name: path.name for name, path in found.samples[0].media.items()} == {
        "audio": "a.wav", "video": "a.mp4", "shape3d": "a.off",
    }  # fmt: skip
    with pytest.raises(XmrError, match=r"--video-column: .* has no column 'movie'; it has file, film"):
        table_of(tmp_path / "raw", rows, Columns(video="movie"))


def test_copies_in_two_of_the_splits_that_a_table_gives_are_named(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for name, pitch in (("a", 300), ("b", 300), ("c", 300), ("d", 400), ("e", 400), ("f", 500)):
        write(raw / f"{name}.wav", wav(pitch=pitch))
    splits = {"a": "train", "b": "train", "c": "test", "d": "val", "e": "val", "f": "test"}
    rows = [{"audio": f"{name}.wav", "label": "x", "split": split} for name, split in splits.items()]
    write(raw / "table.jsonl", "\n".join(map(json.dumps, rows)))
    folder(raw, tmp_path / "out", build=ALONE)
    (note,) = [note for note in manifest(tmp_path / "out")["notes"] if "same bytes" in note]
    assert note.startswith("3 files have the same bytes as some in another split, such as b.wav and c.wav: ")
    assert "xmr shards audit" in note
    write(raw / "c.wav", wav(pitch=600))
    folder(raw, tmp_path / "other", build=ALONE)
    assert not any("same bytes" in note for note in manifest(tmp_path / "other")["notes"])


def test_one_picture_with_two_sounds_is_two_samples_in_one_split(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    rows = [{"image": "p.jpg", "audio": f"{number}.wav", "label": "x"} for number in range(2)]
    rows += [{"image": "p.jpg", "audio": "0.wav", "label": "x", "text": "joined to the first"}]
    rows += [{"audio": f"{number}.wav", "label": "x"} for number in range(2, 12)]
    write(raw / "p.jpg", image_bytes())
    for number in range(12):
        write(raw / f"{number}.wav", f"sound {number}")
    write(raw / "7.wav", "sound 1")  # a copy
    found = table_of(raw, rows)
    shared = ["p.jpg + 0.wav", "p.jpg + 1.wav"]
    assert [sample.source for sample in found.samples[:2]] == shared
    assert found.samples[0].texts == ("joined to the first",)
    drawn = set()
    for seed in range(20):
        given = with_splits(found, raw, Fractions(val=0.3, test=0.3, seed=seed))
        split_of = {sample.source: sample.split for sample in given.samples}
        assert len({split_of[name] for name in (*shared, "7.wav")}) == 1
        drawn.add(split_of["7.wav"])
    assert drawn == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"audio": "", "text": " ", "label": "x"}, "line 1: nothing stands in audio, text"),
        ({"audio": "../out.wav"}, r"line 1: \.\./out\.wav lies outside of"),
        ({"audio": "a.wav", "video": "link/a.mp4"}, r"line 1: link/a\.mp4 leads out of .*--outside"),
        ({"audio": 3}, 'line 1: "audio" must be the path of a file'),
    ],
)
def test_paths_of_media_are_held_to_the_folder(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    write(tmp_path / "out.wav", wav())
    write(tmp_path / "elsewhere" / "a.mp4", "private")
    write(tmp_path / "raw" / "a.wav", wav())
    (tmp_path / "raw" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(XmrError, match=message):
        table_of(tmp_path / "raw", [row])


# ---- class folders


def test_files_of_one_name_are_one_sample_and_others_are_their_own(tmp_path: Path) -> None:
    for name in (
        "dog/1.jpg",
        "dog/1.WAV",
        "dog/2.wav",
        "dog/3.off",
        "sea/4.mp4",
        "sea/5.jpg",
        "sea/6.wav",
        "sea/6.flac",
    ):
        write(tmp_path / name, name)
    for name in ("dog/1.txt", "sea/7.txt", "sea/6.txt"):
        write(tmp_path / name, f"text of {name}\nsecond")
    write(tmp_path / "top.mp4", "stray")
    found = samples_of_folders(tmp_path)
    assert found.required == () and not found.skipped
    assert {s.source: ({name: path.name for name, path in s.files.items()}, s.labels[0], len(s.texts))
            for s in found.samples} == {
        "dog/1.jpg": ({"image": "1.jpg", "audio": "1.WAV"}, "dog", 2),
        "dog/2.wav": ({"audio": "2.wav"}, "dog", 0),
        "dog/3.off": ({"shape3d": "3.off"}, "dog", 0),
        "sea/4.mp4": ({"video": "4.mp4"}, "sea", 0),
        "sea/5.jpg": ({"image": "5.jpg"}, "sea", 0),
        "sea/6.flac": ({"audio": "6.flac"}, "sea", 2),
        "sea/6.wav": ({"audio": "6.wav"}, "sea", 2),
        "sea/7.txt": ({}, "sea", 2),
    }  # fmt: skip
    assert found.together == [["sea/6.flac", "sea/6.wav"]]
    assert sorted(found.notes) == [
        "1 files have a text with others of the same name and stay in their split, such as sea/6.flac and sea/6.wav",
        "1 video files are in no class folder and not used, such as top.mp4",
    ]


def test_folders_of_splits_hold_class_folders(tmp_path: Path) -> None:
    for name in ("train/dog/1.wav", "Train/sea/1.wav", "dev/dog/1.wav", "test/sea/2.wav"):
        write(tmp_path / name.replace("Train", "train"), name)
    found = samples_of_folders(tmp_path)
    assert found.has_splits
    assert sorted((sample.source, sample.split, sample.labels) for sample in found.samples) == [
        ("dev/dog/1.wav", "val", ("dog",)),
        ("test/sea/2.wav", "test", ("sea",)),
        ("train/dog/1.wav", "train", ("dog",)),
        ("train/sea/1.wav", "train", ("sea",)),
    ]


def test_pictures_without_a_text_in_folders_of_splits_keep_their_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for number in range(3):
            write(tmp_path / split / "dog" / f"{number}.jpg", f"{split} {number}")
            write(tmp_path / split / "dog" / f"{number}.txt", "a text")
        write(tmp_path / split / "dog" / "lone.jpg", f"{split} lone")
    found = with_splits(samples_of_folders(tmp_path), tmp_path, Fractions(val=0.3))
    assert {item.source: item.split for item in found.skipped}["test/dog/lone.jpg"] == "test"
    assert Counter(sample.split for sample in found.samples)["test"] == 3
    assert found.required == ("image", "text")


# ---- decoding at building


def test_what_cannot_be_decoded_is_skipped_with_its_reason(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    contents = {
        "audio": {"good.wav": wav(), "noise.wav": b"RIFF" + bytes(200), "long.wav": wav(3.0)},
        "video": {"good.mp4": mp4(), "silent.mp4": sound_in_mp4(), "cut.mp4": mp4()[:200]},
        "shape3d": {"good.off": off(), "cut.off": off()[:60], "flat.off": off((0.0, 0.0, 0.0))},
    }
    rows = []
    for modality, files in contents.items():
        for name, data in files.items():
            write(raw / name, data)
            rows.append({modality: name, "label": "x", "split": "train"})
    write(raw / "table.jsonl", "\n".join(map(json.dumps, rows)))
    with pytest.raises(XmrError, match=r"6 of 9 samples cannot be used, more than --max-skipped 0\.01"):
        folder(raw, tmp_path / "out", media=MediaOptions(max_seconds=2), build=ALONE)
    lenient = BuildOptions(workers=1, max_skipped=0.7)
    folder(raw, tmp_path / "out", media=MediaOptions(max_seconds=2), build=lenient)
    reasons = {item["source"]: item["reason"] for item in manifest(tmp_path / "out")["skipped"]}
    assert set(reasons) == {"noise.wav", "long.wav", "silent.mp4", "cut.mp4", "cut.off", "flat.off"}
    assert "audio file noise.wav: " in reasons["noise.wav"]
    assert "above the bound of 2" in reasons["long.wav"] and reasons["long.wav"].endswith("raise --max-seconds")
    assert "no video in it, only audio" in reasons["silent.mp4"]
    assert "flat.off: the shape has no extent" in reasons["flat.off"]
    assert set(samples(tmp_path / "out")) == {"good.wav", "good.mp4", "good.off"}
    assert manifest(tmp_path / "out")["options"]["max_seconds"] == 2


def test_a_video_becomes_a_few_of_its_frames(tmp_path: Path) -> None:
    write(tmp_path / "raw" / "red" / "a.mp4", mp4(each=25))
    for split, number in (("all", None), ("four", 4)):
        folder(tmp_path / "raw", tmp_path / split, media=MediaOptions(frames=number), val=0.0, test=0.0,
               build=BuildOptions(workers=1, resize=32))  # fmt: skip
    whole, few = (frames_of(members(tmp_path / name)["red/a.mp4"]["mp4"]) for name in ("all", "four"))
    assert whole.shape == (100, 64, 96, 3) and few.shape == (4, 32, 48, 3)
    assert np.abs(few.mean((1, 2)) - np.array(COLORS)).max() < 12
    assert manifest(tmp_path / "four")["options"]["frames"] == 4
    with pytest.raises(XmrError, match="made from other input or with other options"):
        folder(tmp_path / "raw", tmp_path / "four", media=MediaOptions(frames=3), val=0.0, test=0.0,
               build=BuildOptions(workers=1, resize=32))  # fmt: skip
    with pytest.raises(XmrError, match="--frames must be at least 1"):
        folder(tmp_path / "raw", tmp_path / "none", media=MediaOptions(frames=0), build=ALONE)


# ---- real files


@pytest.mark.parametrize(
    ("name", "counts"), [("animals4", {"image": 320, "audio": 220, "text": 999}), ("shapes4", {"shape3d": 100})]
)
def test_real_tables_are_taken_as_they_are(name: str, counts: dict[str, int]) -> None:
    raw = SHARED / name
    if not raw.exists():
        pytest.skip(f"{raw} is not there")
    found = samples_of_table(raw, raw / "table.jsonl")
    kinds = Counter(name for sample in found.samples for name in (*sample.files, *(["text"] if sample.texts else [])))
    assert kinds == counts and found.required == () and found.has_splits and not found.notes
    assert all(path.is_file() for sample in found.samples for path in sample.files.values())
