"""The notebooks of docs/tutorials: each runs from its first cell to its last, in an empty folder."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT

FOLDER = ROOT / "docs" / "tutorials"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
INSTALLED = all(map(importlib.util.find_spec, ("nbmake", "ipykernel")))


def read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / name).read_bytes())
    return document


def environment(folder: Path) -> dict[str, str]:
    """That of a reader who has activated the environment, with nothing of his own in it."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"PATH": programs, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "IPYTHONDIR": str(folder / "ipython")}
    return {**os.environ, **own}


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="nbmake and ipykernel are not installed")
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_from_an_empty_folder(name: str, tmp_path: Path) -> None:
    shutil.copy(FOLDER / name, tmp_path)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbmake", "--overwrite", name]
    done = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    cells = [cell for cell in json.loads((tmp_path / name).read_bytes())["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in cells)
    shown = ["".join(output.get("data", {}).get("text/html", "")) for cell in cells for output in cell["outputs"]]
    assert any("mathjax_ignore" in html and "<td>random</td>" in html for html in shown)  # a run or result shows itself


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_says_that_its_data_is_drawn_and_has_no_output(name: str) -> None:
    """Figures in it would be those of one machine, on drawn pictures, and other ones with each version."""
    cells = read(name)["cells"]
    assert "**synthetic" in "".join(map("".join, (cell["source"] for cell in cells if cell["cell_type"] == "markdown")))
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def test_the_page_names_each_notebook() -> None:
    assert set(re.findall(r"\(([\w-]+\.ipynb)\)", (FOLDER / "README.md").read_text())) == set(NOTEBOOKS)
    assert len(NOTEBOOKS) == 3
