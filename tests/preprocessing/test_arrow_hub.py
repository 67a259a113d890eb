"""`xmr shards from-hf USER/NAME` by the real library, against a stand-in of the hub in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import ROOT
from tests.helpers.built import image_bytes, manifest, write
from tests.helpers.hub_of_datasets import COMMIT, hub_of
from tests.helpers.stored import stored

pytestmark = pytest.mark.slow

START = """
import json, sys
from xmr_e2e.cli import main
names, out = json.loads(sys.argv[1]), sys.argv[2]
for name in names:
    print(f"== {name}", file=sys.stderr)
    status = main(["shards", "from-hf", name, f"{out}/{name.replace('/', '-')}", "--workers", "1"])
    print(f"\\nstatus {status}", file=sys.stderr)
"""
CAPTIONS = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})


def picture(number: int) -> bytes:
    return image_bytes((number * 40, 9, 90))


def publish(folder: Path, pictures: list[dict[str, Any]]) -> None:
    """A Parquet file whose pictures are these."""
    (folder / "data").mkdir(parents=True)
    rows = [{"image": each, "caption": f"text {number}"} for number, each in enumerate(pictures)]
    for split in ("train", "validation"):
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        pq.write_table(pa.Table.from_pylist(rows, CAPTIONS.arrow_schema), path)


def publish_folder(folder: Path) -> None:
    """Pictures as files, with captions in a table."""
    for split in ("train", "test"):
        for number in range(3):
            write(folder / split / f"{number}.jpg", picture(number))
        lines = ["file_name,caption", *(f"{number}.jpg,text {number}" for number in range(3))]
        write(folder / split / "metadata.csv", "\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], list[str]]:
    """Shards of several datasets, what was said of each, and what the hub was asked for."""
    home = tmp_path_factory.mktemp("hub")
    mine = write(home / "mine.jpg", picture(0))
    publish(home / "root/someone/set", [{"bytes": picture(number), "path": None} for number in range(4)])
    publish_folder(home / "root/someone/files")
    write(home / "root/someone/program/program.py", f"open({str(home / 'ran')!r}, 'w')")
    publish(home / "root/someone/mine", [{"bytes": None, "path": str(mine)}])
    names = ["someone/set", "someone/files", "someone/program", "someone/mine", "someone/nothing"]
    with hub_of(home / "root") as (address, asked):
        own = {"HF_ENDPOINT": address, "HF_HOME": str(home / "hf"), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-c", START, json.dumps(names), str(home / "out")]
        done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said = dict(part.split("\n", 1) for part in done.stderr.split("== ")[1:])
    assert not (home / "ran").exists()
    return home / "out", said, asked


def test_a_stream_of_the_hub_becomes_shards_of_one_commit(built: tuple[Path, dict[str, str], list[str]]) -> None:
    out, said, asked = built
    assert "status 0" in said["someone/set"]
    found = stored(out / "someone-set")
    assert {(split, sample.image, sample.texts) for (split, _), sample in found.items()} == {
        (split, picture(number), (f"text {number}",)) for split in ("train", "val") for number in range(4)
    }
    (origin, *_) = (note for note in manifest(out / "someone-set")["notes"] if note.startswith("from "))
    assert origin.startswith(f"from someone/set of the Hugging Face hub, commit {COMMIT}: pictures of image, texts of")
    files = [path for path in asked if path.startswith("/datasets/someone/set/resolve/")]
    assert files and all(path.startswith(f"/datasets/someone/set/resolve/{COMMIT}/") for path in files)


def test_files_of_a_dataset_are_fetched_from_it(built: tuple[Path, dict[str, str], list[str]]) -> None:
    out, said, _ = built
    assert "status 0" in said["someone/files"], said["someone/files"]
    found = stored(out / "someone-files")
    assert {(split, sample.image, sample.texts) for (split, _), sample in found.items()} == {
        (split, picture(number), (f"text {number}",)) for split in ("train", "test") for number in range(3)
    }


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("someone/program", "someone/program: cannot be loaded as a dataset: "),
        ("someone/nothing", "someone/nothing: cannot be loaded as a dataset: "),
        ("someone/mine", "lies outside of someone/mine"),
    ],
)
def test_a_program_another_file_and_nothing_are_refused(
    name: str, problem: str, built: tuple[Path, dict[str, str], list[str]]
) -> None:
    """The path of a file of the reader's own stands in the last one."""
    out, said, _ = built
    assert "status 2" in said[name] and problem in " ".join(said[name].split())
    assert not (out / name.replace("/", "-")).exists()
