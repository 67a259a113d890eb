"""A method that is not of this project: as docs/own_method.md shows it, in a folder outside, in processes of its own.

It is trained by its recipe, measured, exported and loaded; and what could not be loaded again never begins.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import ROOT
from tests.helpers.pages import blocks
from tests.helpers.small_methods import IMAGE, TEXT, build
from tests.helpers.typed import typed
from xmr_e2e.configuration import check_restorable
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method, MethodConfig
from xmr_e2e.methods.cca import Cca
from xmr_e2e.methods.discovery import method_name, method_title
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.plugins import import_named, take_imports
from xmr_e2e.towers.base import DatasetInfo, TowerConfig

FILES = {re.findall(r"# (\w+\.py)", block.text)[0]: block.text for block in blocks("py")}
SMALL = (
    "--data.image-size 32 --data.load-size 32 --data.words.dim 8 --data.workers 0 --train.epochs 2 "
    "--train.batch-size 20 --train.name first"
).split()
RUN = "runs/my_recipe/first"
COMMANDS = """
import sys
from xmr_e2e.cli import main
own = ["--import", "my_method.py"]
assert main(["eval", "RUN"]) == 2
assert "my_method" not in sys.modules
for words in (
    "eval RUN", "report RUN --out page.html", "export RUN exported", "embed RUN SHARDS --out rows.npy", "table runs"
):
    assert main([*own, *words.split()]) == 0, words
from pathlib import Path; from xmr_e2e.runs.run import Run
assert type(Run(Path("RUN")).experiment().method) is sys.modules["my_method"].Contrast  # to go on with
"""
LOAD = """
import sys
import xmr_e2e
model = xmr_e2e.load("exported")
print(type(model.config), model.embed_texts(["a picture of apple"]).shape)
"""


def run(folder: Path, *words: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """Python in a folder, with the project and nothing else of it."""
    return typed(words, cwd=folder, env=environment(path))


def environment(path: str = "") -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), path)))}


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mine")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def test_a_method_of_ones_own_takes_sixty_lines() -> None:
    assert set(FILES) == {"my_method.py", "my_recipe.py"}
    assert sum(len(text.splitlines()) for text in FILES.values()) <= 60


@pytest.mark.slow
def test_a_method_of_ones_own_is_trained_measured_exported_and_loaded(mine: Path, tiny_shards: Path) -> None:
    words = [sys.executable, "my_recipe.py", "--data.shards", str(tiny_shards), *SMALL]
    done = subprocess.run(words, cwd=mine, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (mine / RUN / "evaluation/test.json").exists()

    done = run(mine, "-c", COMMANDS.replace("RUN", RUN).replace("SHARDS", str(tiny_shards)))
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert "my_method:Contrast' is no configuration of this package" in said and "xmr --import my_method" in said
    card, page = (mine / "exported/README.md").read_text(), (mine / "page.html").read_text()
    for text in (card, page):
        assert "Contrast" in text and "van den Oord et al." in text
    assert "\nimport my_method  #" in card
    assert "Contrast" in done.stdout  # the table

    done = run(mine, "-c", f"import my_method\n{LOAD}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["<class", "'my_method.Contrast'>", "(1,", "64)"]

    # Installed, it is imported by the entry point; a package that offers another module changes nothing.
    points = mine / "mine-1.0.dist-info/entry_points.txt"
    points.parent.mkdir()
    (points.parent / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    elsewhere = mine / "elsewhere"
    elsewhere.mkdir()
    (mine / "exported").rename(elsewhere / "exported")
    for offered, status in (("my_method", 0), ("my_recipe", 1)):
        points.write_text(f"[xmr_e2e.methods]\nmine = {offered}\n")
        done = run(elsewhere, "-P", "-c", LOAD, path=str(mine))
        assert done.returncode == status, done.stderr


@pytest.mark.slow
def test_a_class_of_the_recipes_own_file_never_begins(mine: Path, tiny_shards: Path, tmp_path: Path) -> None:
    recipe = FILES["my_recipe.py"].replace("from my_method import Contrast\n", "")
    (tmp_path / "all.py").write_text(FILES["my_method.py"] + recipe)
    done = run(tmp_path, "all.py", "--data.shards", str(tiny_shards), *SMALL)
    assert done.returncode == 2
    assert "Contrast could not be loaded again: it is defined in the file that is run" in " ".join(done.stderr.split())
    assert not (tmp_path / "runs").exists()


# ---- configurations that could not be loaded again


@dataclass(frozen=True, kw_only=True)
class Toy(MethodConfig):
    """A method without options."""

    image: TowerConfig | None = None
    text: TowerConfig | None = None

    def build(self, dataset: DatasetInfo) -> Method:
        return build("cca")


@dataclass(frozen=True, kw_only=True)
class Listing(Toy):
    widths: list[int] = field(default_factory=lambda: [1])


@dataclass(frozen=True, kw_only=True)
class Either(Toy):
    either: int | str = 1


@dataclass(frozen=True, kw_only=True)
class Numbered(Toy):
    numbered: dict[int, str] = field(default_factory=lambda: {1: "a"})


@dataclass(frozen=True, kw_only=True)
class Variant(Dscmr):
    """Of a paper's method."""

    choice: tuple[int, ...] = (1, 2)


def test_what_could_not_be_loaded_again_is_refused_and_what_could_is_not() -> None:
    check_restorable(Cca(image=IMAGE, text=TEXT))
    check_restorable(Variant(image=IMAGE, text=TEXT))
    for kind, message in (
        (Listing, r"widths: a field of the type list\[int\] cannot be read"),
        (Either, "either: a field of the type int | str cannot be read"),
        (Numbered, "could not be loaded again as it is"),
    ):
        with pytest.raises(XmrError, match=message):
            check_restorable(kind())

    @dataclass(frozen=True, kw_only=True)
    class Local(Variant):
        """Of a function."""

    with pytest.raises(
        XmrError, match=r"Local could not be loaded again: it is not what tests.methods.test_sixth_method has"
    ):
        check_restorable(Local(image=IMAGE, text=TEXT))


def test_a_variant_is_not_given_out_for_the_papers_method() -> None:
    assert (Variant.title, Variant.citation, Variant.protocols) == ("Variant", "", ())
    assert method_name("my_package.dscmr:Dscmr") == "my_package.dscmr:Dscmr"
    assert method_name("xmr_e2e.methods.dscmr:Dscmr") == "dscmr" and method_title("dscmr") == "DSCMR"
    assert method_title(f"{__name__}:Variant") == "Variant" and method_title("unknown.module:Other") == "Other"


# ---- xmr --import


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file within two packages; what is imported of it, and from where, is forgotten after the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "outer_of_test/inner"
    folder.mkdir(parents=True)
    for each in (folder, folder.parent):
        (each / "__init__.py").write_text("")
    (folder / "method.py").write_text("from outer_of_test.inner import __name__ as around\n")
    yield folder
    for name in [name for name in sys.modules if name.startswith("outer_of_test")]:
        del sys.modules[name]


def test_a_file_is_imported_under_the_name_of_its_packages(package: Path) -> None:
    found = import_named(str(package / "method.py"))
    assert (found.__name__, found.around) == ("outer_of_test.inner.method", "outer_of_test.inner")
    assert sys.path[-1] == str(package.parents[1])
    assert import_named("outer_of_test.inner.method") is found
    assert import_named(str(package / "__init__.py")).__name__ == "outer_of_test.inner"


def test_what_cannot_be_imported_is_said_in_a_line(package: Path) -> None:
    (package / "fails.py").write_text("1 / 0\n")
    taken = package.parents[1] / "json.py"
    taken.write_text("")
    for words, message in (
        (["--import"], "name a module"),
        (["--import", "nowhere.at_all", "eval"], "No module named 'nowhere'"),
        (["--import=nowhere.py", "eval"], "there is no such file"),
        (["--import", str(package / "fails.py"), "eval"], "ZeroDivisionError: division by zero"),
        (["--import", str(taken), "eval"], "another module is called json"),
        (["eval", "run", "--import", "json"], "stands before the command"),
    ):
        with pytest.raises(XmrError, match=message):
            take_imports(words)
    assert take_imports(["--import", "json", "--import=math", "eval", "run"]) == ["eval", "run"]
