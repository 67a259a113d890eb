"""The four commands that docs/own_data.md begins with, one after the other on a table of pictures and texts."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.helpers.pages import prose_and_code
from tests.helpers.project_folder import own_pairs
from tests.helpers.typed import typed

HEADING = "A table of pictures and texts"
SHORTER = {"recipes/contrastive_flickr8k.py": ["--train.epochs", "2", "--data.workers", "0"]}
"""what is added for a test"""


def commands() -> list[list[str]]:
    """The section's command lines, as words."""
    _, code = prose_and_code("docs/own_data.md")
    lines = (block.text for block in code if block.heading == HEADING and not block.language)
    return [shlex.split(line) for line in "".join(lines).splitlines()]


def start(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Its shards are built by a new process; what imports torch is `typed`."""
    program = {"python": [], "xmr": ["-m", "xmr_e2e.cli"]}[words[0]]
    given = [*program, *words[1:], *SHORTER.get(words[1], [])]
    if "preprocessing.folder" in given:
        return subprocess.run([sys.executable, *given], cwd=folder, capture_output=True, text=True)
    return typed(given, cwd=folder)


@pytest.mark.slow
def test_a_table_of_pictures_and_texts_is_built_trained_measured_and_searched(tmp_path: Path) -> None:
    for name in ("recipes", "preprocessing"):
        (tmp_path / name).symlink_to(ROOT / name)
    own_pairs(tmp_path / "my_pairs")
    words = commands()
    assert [each[:3] for each in words] == [
        ["python", "-m", "preprocessing.folder"],
        ["python", "recipes/contrastive_flickr8k.py", "--data.shards"],
        ["xmr", "eval", "runs/contrastive_flickr8k/first"],
        ["xmr", "search", "runs/contrastive_flickr8k/first"],
    ]
    ended = [start(each, tmp_path) for each in words]
    assert [each.returncode for each in ended] == [0] * len(words), ended
    printed = [each.stdout + each.stderr for each in ended]
    result = json.loads((tmp_path / "runs/contrastive_flickr8k/first/evaluation/test.json").read_bytes())
    assert result["protocol"]["name"] == "captions"
    assert (
        result["model"]["figures"]["image_to_text"]["gallery"]
        == 2 * result["model"]["figures"]["text_to_image"]["gallery"]
    )
    assert "rsum" in printed[2] and "mAP" not in printed[2]
    assert "a dog on the grass (test)" in printed[3]
