"""The commands in benchmarks/, on a miniature."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMALL = "--train.epochs=1 --train.batch-size=20 --data.image-size=32 --data.load-size=32 --data.workers=0"


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.methods", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )


def test_the_table_of_methods_has_each_setting_and_the_random_row_and_is_gone_on_with(
    tiny_shards: Path, tmp_path: Path
) -> None:
    (tmp_path / "flickr8k").symlink_to(tiny_shards)
    out = tmp_path / "table.csv"
    arguments = [str(tmp_path), str(out), "--runs", str(tmp_path / "runs"), f"--options={SMALL}"]
    first = command(*arguments, "--only", "deep_sm_flickr8k")
    assert first.returncode == 0, first.stderr
    with open(out, newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["method"], row["towers"]) for row in rows[:2]] == [("deep_sm", "end to end"), ("deep_sm", "frozen")]
    assert rows[2]["method"] == "random ranking"
    assert all(0 < float(row["image_to_text mAP@all"]) <= 1 for row in rows)
    assert rows[1]["command"].startswith("accelerate launch recipes/deep_sm_flickr8k.py --method.frozen")
    assert str(tmp_path) not in out.read_text()
    before = out.read_bytes()
    again = command(*arguments, "--only", "deep_sm_flickr8k")
    assert again.returncode == 0
    assert "deep_sm_flickr8k, frozen" not in again.stdout  # it is in the table already
    assert out.read_bytes() == before


def test_an_unknown_recipe_is_an_error(tmp_path: Path) -> None:
    result = command(str(tmp_path), str(tmp_path / "x.csv"), "--only", "nothing")
    assert result.returncode == 2
    assert "--only nothing: no such recipe" in result.stdout + result.stderr
