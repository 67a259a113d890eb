"""`xmr recipes`, the recipes' copies in a user's folder, and the names that they import."""

from __future__ import annotations

import ast
import importlib
import os
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import xmr_e2e
import xmr_e2e.methods
import xmr_e2e.towers
from tests import ROOT
from tests.helpers.made_runs import METHODS, Made
from xmr_e2e.cli import main
from xmr_e2e.configuration import to_document
from xmr_e2e.doctor.recipe import load_experiment
from xmr_e2e.methods.discovery import all_methods
from xmr_e2e.studies.recipes import describe, find_recipes

RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("[!_]*.py"))
PACKAGES = (xmr_e2e, xmr_e2e.methods, xmr_e2e.towers)


def lines_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(words) == 0
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


# ---- the list


def test_each_recipe_has_a_line_with_its_published_figures(capsys: pytest.CaptureFixture[str]) -> None:
    _, *lines = lines_of(["recipes"], capsys)
    assert [line.split()[0] for line in lines] == RECIPES
    shown = {line.split()[0]: line for line in lines}
    assert shown["alscor_pascal"].split(maxsplit=1)[1].split("  ")[0] == "ALSCOR"
    assert "Pascal Sentence" in shown["alscor_pascal"] and shown["alscor_pascal"].endswith("mAP@50 0.6392 0.6841")
    assert shown["drcl_xmedia"].endswith("mAP@all 0.902 0.909")
    assert shown["semantic_sharing_mirflickr"].endswith("NDCG@500 0.663 0.713")
    assert shown["semantic_sharing_mscoco"].endswith("NDCG@500 0.772 0.900 (COCO1K), 0.721 0.827 (COCO5K)")
    assert shown["acmr_flickr8k"].endswith("Flickr8k")
    assert lines_of(["recipes", "list"], capsys)[1:] == lines


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_listed_is_what_the_docstring_says(name: str) -> None:
    recipe = describe(find_recipes()[name])
    text = find_recipes()[name].read_text()
    assert recipe.title and recipe.dataset and recipe.shards
    assert text.startswith(f'"""{recipe.title}') and f" on {recipe.dataset}" in text.splitlines()[0]
    assert bool(recipe.published) == ("\nPublished, " in text)


# ---- copies


@pytest.mark.parametrize("name", ["alscor_pascal", "acmr_flickr8k"])
def test_a_copy_is_the_same_recipe_in_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (line,) = lines_of(["recipes", "copy", name, "mine/my recipes"], capsys)
    copy = Path("mine/my recipes") / f"{name}.py"
    assert line == f"{copy}; to train it: python '{copy}'"
    assert copy.read_bytes() == find_recipes()[name].read_bytes()
    wanted = to_document(importlib.import_module(f"recipes.{name}").experiment())
    assert to_document(runpy.run_path(str(copy))["experiment"]()) == wanted
    assert to_document(load_experiment(copy, [])) == wanted


@pytest.mark.slow
@pytest.mark.parametrize("place", ["checkout", "wheel"])
def test_a_copied_recipe_finds_the_one_that_it_builds_on(place: str, tmp_path: Path) -> None:
    """As a program in a folder of its own, with the package as a checkout has it, and as pyproject.toml packs it."""
    package = tmp_path / "packages/xmr_e2e"
    package.mkdir(parents=True)
    for path in (ROOT / "xmr_e2e").iterdir():
        (package / path.name).symlink_to(path)
    if place == "wheel":
        sources = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
        ((packed, name),) = sources["sources"].items()
        (package.parent / name).unlink()
        (package.parent / name).symlink_to(ROOT / packed)
    assert main(["recipes", "copy", "drcl_xmedia", str(tmp_path / "mine.py")]) == 0
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "COLUMNS": "200"}
    command = [sys.executable, "mine.py", "--help-all"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "DRCL on XMedia's five modalities" in done.stdout and "(default: drcl_xmedia)" in done.stdout


def test_a_file_that_exists_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "alscor_pascal.py").write_text("mine")
    for out in (tmp_path, tmp_path / "alscor_pascal.py"):
        assert main(["recipes", "copy", "alscor_pascal", str(out)]) == 2
        assert "exists, and is left as it is" in capsys.readouterr().err
    assert (tmp_path / "alscor_pascal.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["alscor", "_flickr8k_small", "../recipes/alscor_pascal", "__init__"])
def test_what_is_no_recipe_is_not_copied(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "copy", name, str(tmp_path)]) == 2
    assert f"no recipe is called {name}; there are acmr_flickr8k, " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# ---- the names that recipes import


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_the_public_names_are_those_that_type_checkers_see(package: ModuleType) -> None:
    tree = ast.parse(Path(str(package.__file__)).read_text())
    (checked,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in checked.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: node.module for node in imports for alias in node.names}
    assert set(package.__all__) == set(seen)
    for name, module in seen.items():
        assert getattr(package, name) is getattr(importlib.import_module(str(module)), name)
        assert getattr(package, name).__module__ == module  # what saved models name
    with pytest.raises(AttributeError, match=rf"module '{package.__name__}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_every_method_of_the_package_is_public() -> None:
    public = {getattr(xmr_e2e.methods, name) for name in xmr_e2e.methods.__all__}
    assert set(all_methods()) <= public


def test_the_package_and_its_command_are_imported_without_torch() -> None:
    code = "import sys, xmr_e2e.methods, xmr_e2e.towers, xmr_e2e.cli; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_commands_that_compute_nothing_need_no_torch(tiny_shards: Path, tmp_path: Path) -> None:
    """One after the other in one process: what one of them imports, all would have."""
    for name, method in METHODS.items():
        Made(method=name, config=method).write(tmp_path / "runs" / name)
    table = ["table", str(tmp_path / "runs"), "--out", str(tmp_path / "table.md")]
    shown = ["shards", "info", str(tiny_shards)]
    commands = [["--help"], ["table", "--help"], table, shown, ["study"], ["recipes", "--help"], ["recipes"]]
    code = f"""
import sys
from xmr_e2e.cli import main
for words in {commands!r}:
    try:
        assert not main(words), words
    except SystemExit as end:
        assert not end.code, words
    assert "torch" not in sys.modules, words
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    text = (tmp_path / "table.md").read_text()
    assert all(title in text for title in ("ALSCOR", "DRCL", "DSCMR", "SDCMR"))


@pytest.mark.slow
def test_a_recipe_is_imported_with_torch_and_what_its_options_need_alone() -> None:
    """All else is imported by a training."""
    heavy = (
        "accelerate",
        "torchvision",
        "transformers",
        "tensorboard",
        "scipy",
        "sklearn",
        "gensim",
        "av",
        "matplotlib",
    )
    code = f"import sys, recipes.dscmr_wikipedia; print(*[name for name in {heavy!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    assert not found.stdout.strip()
