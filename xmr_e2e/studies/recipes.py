"""The recipes of the package: a list of them beside the papers' figures, and a copy in a user's folder."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

import xmr_e2e.recipes
from xmr_e2e.errors import XmrError
from xmr_e2e.studies.published import papers, published_tables

PUBLISHED_AS = {"mirflickr": "mirflickr25k"}
"""name of a folder of shards -> its dataset, where they differ"""


@dataclass(frozen=True)
class RecipeInfo:
    """A recipe as its docstring describes it."""

    name: str
    title: str
    dataset: str
    shards: str
    """name of the folder that the builder of the docstring fills"""

    @property
    def published(self) -> str:
        """The paper's figures from image to text and back: "mAP@50 0.6392 0.6841"; "" where it has none."""
        paper = next((paper for paper in papers() if self.name.startswith(f"{paper}_")), "")
        dataset = PUBLISHED_AS.get(self.shards, self.shards)
        tables = [table for table in published_tables() if (table.paper, table.dataset) == (paper, dataset)]
        if not tables:
            return ""
        of_tables = []
        for table in tables:
            figures = table.figures(paper)
            where = f" ({table.printed})" if len(tables) > 1 else ""
            of_tables.append(f"{figures['image_to_text']} {figures['text_to_image']}{where}")
        return f"{tables[0].metric} {', '.join(of_tables)}"


def find_recipes() -> dict[str, Path]:
    """The package's recipes by name."""
    (folder,) = xmr_e2e.recipes.__path__
    return {path.stem: path for path in sorted(Path(folder).glob("[!_]*.py"))}


def describe(path: Path) -> RecipeInfo:
    """Read a recipe's docstring, without running it: "METHOD on DATASET: ...", and how its shards are built."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    title, _, dataset = re.split(r": | \(|, end to end", text, maxsplit=1)[0].partition(" on ")
    built = re.search(r"^    python -m preprocessing\.\w+ \S+ \S*shards/([^\s/]+)(?: |$)", text, re.MULTILINE)
    return RecipeInfo(path.stem, title.rstrip(","), dataset, built[1] if built else "")


def recipes_table() -> Table:
    """A row for each recipe: name, method, dataset, published figures."""
    table = Table(box=None, pad_edge=False)
    table.add_column("recipe", no_wrap=True)
    table.add_column("method", no_wrap=True)
    table.add_column("dataset")
    table.add_column("published, image to text and text to image")
    for path in find_recipes().values():
        recipe = describe(path)
        table.add_row(recipe.name, recipe.title, recipe.dataset, recipe.published)
    return table


def copy_recipe(name: str, out: Path) -> Path:
    """Copy a recipe to a file, or into a folder under its own name; return the file.

    What it imports of another recipe, it still imports from the package.

    Raises:
        XmrError: no such recipe, or the file exists.
    """
    return copy_file(name, find_recipes(), out, "recipe")


def copy_file(name: str, files: Mapping[str, Path], out: Path, kind: str) -> Path:
    """Copy one of the package's files to a file, or into a folder under its own name; return the file.

    Args:
        files: by name.
        kind: what they are, for errors.

    Raises:
        XmrError: there is none of this name, or the file exists.
    """
    if name not in files:
        raise XmrError(f"no {kind} is called {name}; there are {', '.join(files)}")
    target = out if out.suffix == ".py" else out / f"{name}.py"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(target, "xb") as stream:
            stream.write(files[name].read_bytes())
    except FileExistsError:
        raise XmrError(f"{target} exists, and is left as it is: name another file or folder behind {name}") from None
    return target
