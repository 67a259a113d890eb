"""Files of studies: those of the package, and a user's own."""

from __future__ import annotations

import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import xmr_e2e.recipes
from xmr_e2e.errors import XmrError
from xmr_e2e.studies.recipes import copy_file

if TYPE_CHECKING:
    from xmr_e2e.studies.study import Study


def find_studies() -> dict[str, Path]:
    """The package's studies by name."""
    (folder,) = xmr_e2e.recipes.__path__
    return {path.stem: path for path in sorted(Path(folder, "studies").glob("[!_]*.py"))}


def study_file(name: str) -> Path:
    """The file of a study: of the package's by name, or of any other by its path.

    Raises:
        XmrError: there is neither.
    """
    known = find_studies()
    if name in known:
        return known[name]
    path = Path(name)
    if path.suffix == ".py" and path.is_file():
        return path
    raise XmrError(f"{name} is neither a file nor one of the studies: {', '.join(known)}")


def load_study(path: Path, shards: Path | None = None, runs: Path = Path("runs")) -> Study:
    """The study that a file's function `study` returns, under the file's name.

    Args:
        shards: the folder in which the folders of shards lie, in place of the recipes' own.
        runs: the folder of run folders.

    Raises:
        XmrError: the file has no such function, or the study is not possible.
    """
    from xmr_e2e.studies.study import Study, study_of  # with torch, which a list of studies needs not

    found = runpy.run_path(str(path), run_name=path.stem).get("study")
    study = study_of(found, runs) if callable(found) else None
    if not isinstance(study, Study):
        raise XmrError(f"{path} is no study: it has no function `study` that returns one (xmr study copy NAME)")
    if shards is not None:
        moved = [
            replace(each, data=replace(each.data, shards=shards / each.data.shards.name)) for each in study.recipes
        ]
        study = replace(study, recipes=tuple(moved))
    return replace(study, name=study.name or re.sub(r"[^\w.-]", "-", path.stem))


def copy_study(name: str, out: Path) -> Path:
    """Copy a study of the package to a file, or into a folder under its own name; return the file.

    Raises:
        XmrError: no such study, or the file exists.
    """
    return copy_file(name, find_studies(), out, "study")
