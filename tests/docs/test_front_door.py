"""The front door: licence, citation, changelog, the documentation's site, forms, workflows, and the walk by which a
paper is added."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

import xmr_e2e
from tests import ROOT
from tests.helpers.miniatures import miniatures, small
from tests.helpers.pages import PAGES
from tests.helpers.recipes import DOCTOR, fresh_accelerator, recipe
from xmr_e2e.cli import main
from xmr_e2e.methods.discovery import method_title
from xmr_e2e.runs.environment import environment
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.runs.run import Run
from xmr_e2e.studies.published import papers
from xmr_e2e.training.processes import make_accelerator
from xmr_e2e.training.trainer import Trainer

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""sha256 of https://www.apache.org/licenses/LICENSE-2.0.txt"""


def read_yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


# ---- licence, citation, changelog


def test_the_licence_is_the_one_that_is_declared() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    assert PROJECT["license-files"] == ["LICENSE"]
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2
    assert read_yaml("CITATION.cff")["license"] == PROJECT["license"]


def test_the_citation_is_complete_and_names_each_paper() -> None:
    citation = read_yaml("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert str(citation["version"]) == xmr_e2e.__version__
    references = citation["references"]
    assert len(references) == 5
    assert all({"type", "title", "authors", "year"} <= paper.keys() for paper in references)
    titles = {paper["notes"].partition(";")[0] for paper in references}
    assert titles == {method_title(name) for name in papers()}


def test_addresses_agree() -> None:
    address = PROJECT["urls"]["Repository"]
    site = read_yaml("mkdocs.yml")
    assert address == read_yaml("CITATION.cff")["repository-code"] == site["repo_url"]
    assert PROJECT["urls"]["Documentation"] == site["site_url"]
    pages = [ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", ROOT / ".github/ISSUE_TEMPLATE/config.yml"]
    for page in pages:
        assert set(re.findall(r"https://github\.com/xmr[\w-]*/[\w-]+", page.read_text())) == {address}


def test_the_changelog_begins_with_what_is_not_released() -> None:
    headings = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    assert all(date for _, date in headings[1:])


# ---- the documentation's site


def places(nav: Any) -> Iterator[str]:
    """The pages of a nav, at any depth."""
    if isinstance(nav, str):
        yield nav
    else:
        for item in nav.values() if isinstance(nav, dict) else nav:
            yield from places(item)


def test_each_page_has_its_place_in_the_site() -> None:
    named = list(places(read_yaml("mkdocs.yml")["nav"]))
    assert sorted(named) == sorted(page.removeprefix("docs/") for page in PAGES if page != "README.md")


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("mkdocs"), reason="the documentation's packages are not installed")
@pytest.mark.parametrize(("link", "status"), [("index.md", 0), ("nowhere.md", 1), ("index.md#nowhere", 1)])
def test_a_link_that_leads_nowhere_ends_the_build(link: str, status: int, tmp_path: Path) -> None:
    """By the Makefile's own command, which builds the pages as they are in `make check`."""
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text()) | {"nav": [{"Home": "index.md"}], "plugins": []}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(site))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text(f"# Home\n\n[link]({link})\n")
    (options,) = re.findall(r"\$\(BIN\)/mkdocs (.+)", (ROOT / "Makefile").read_text())
    command = [sys.executable, "-m", "mkdocs", *options.split()]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert built.returncode == status, built.stderr
    assert (f"'{link}'" in built.stderr) == bool(status)


# ---- forms and workflows


def targets() -> set[str]:
    """The names that `make` knows."""
    (line,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert all(re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for name in line.split())
    return set(line.split())


PLACES = (".github/**/*.*", ".ci/*", ".pre-commit-config.yaml", "README.md", "CONTRIBUTING.md", "docs/**/*.md")
CALLERS = sorted(
    path.relative_to(ROOT).as_posix() for pattern in PLACES for path in ROOT.glob(pattern) if path.is_file()
)
"""files that call `make`"""


def test_what_is_made_can_be_made() -> None:
    called = {
        (caller, target)
        for caller in CALLERS
        for target in re.findall(r"(?:^|`|run: )\s*make ([a-z]+)\b", (ROOT / caller).read_text(), re.MULTILINE)
    }
    assert {target for _, target in called} >= {"check", "fast", "test", "docs", "demo"}
    assert {target for _, target in called} <= targets()


def steps(workflow: Any) -> Iterator[str]:
    for job in workflow["jobs"].values():
        for values in job.get("strategy", {}).get("matrix", {"": [""]}).values():
            for value in values:
                commands = [step["run"] for step in job["steps"] if "run" in step]
                yield from (re.sub(r"\$\{\{ matrix\.\w+ \}\}", value, command) for command in commands)


@pytest.mark.parametrize("name", [caller for caller in CALLERS if "/workflows/" in caller])
def test_a_workflow_calls_make_or_a_script_that_does(name: str) -> None:
    for command in steps(read_yaml(name)):
        script = re.search(r"\.ci/\w+", command)
        text = (ROOT / script[0]).read_text() if script else command
        assert re.search(r"^make \w+", text, re.MULTILINE), command


def test_the_forms_are_forms() -> None:
    """A form that GitHub cannot read is left out there without a word."""
    forms = [path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    assert {form.stem for form in forms} == {"bug", "feature", "paper"}
    for form in forms:
        document = yaml.safe_load(form.read_text())
        assert {"name", "description", "body"} <= document.keys()
        identifiers = [field["id"] for field in document["body"]]
        assert len(set(identifiers)) == len(identifiers)
        assert all(field["attributes"]["label"] for field in document["body"])
    assert {"command", "doctor", "expected"} <= {
        field["id"] for field in read_yaml(".github/ISSUE_TEMPLATE/bug.yml")["body"]
    }


def test_hooks_before_a_commit_are_the_environments_own_tools() -> None:
    (repository,) = read_yaml(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    makefile = (ROOT / "Makefile").read_text()
    for hook in repository["hooks"]:
        assert hook["language"] == "system"  # no version of its own
        tool = hook["entry"].removeprefix(".venv/bin/").partition(" ")[0]
        assert tool != hook["entry"] and f"\t$(BIN)/{tool}" in makefile
        assert version(tool.replace("lint-imports", "import-linter"))


# ---- the walk by which a paper is added

WALK = (ROOT / "CONTRIBUTING.md").read_text().partition("## To add a paper")[2].partition("\n## ")[0]
FILES = dict(re.findall(r"^\*\*\d\. .*?`([\w/]+\.py)`.*?^```python\n(.*?)^```", WALK, re.MULTILINE | re.DOTALL))
"""the page's files, by the place that it names for each"""
OBJECTIVE, TEST, METHOD, RECIPE = FILES
ELSEWHERE = {
    OBJECTIVE: "infonce_loss.py",
    TEST: "test_infonce.py",
    METHOD: "infonce.py",
    RECIPE: "my_recipe.py",
}
"""the names that the page gives them in a folder outside the project"""


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules that a test imports, and folders that it finds them in, are its own."""
    known = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in set(sys.modules) - known:
        if "infonce" in name or name == "xmr_recipe":
            del sys.modules[name]


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: None) -> Path:
    """The page's files as if they had been written into the project, which stays as it is."""
    for name, code in FILES.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    for room in ("objectives", "methods"):
        package = importlib.import_module(f"xmr_e2e.{room}")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / "project/xmr_e2e" / room)])
    return tmp_path / "project"


@pytest.fixture
def outside(tmp_path: Path, forgotten: None) -> Path:
    """The page's files beside each other, with the imports that it names for that."""
    moved = {f"xmr_e2e.{room}.infonce": ELSEWHERE[name].removesuffix(".py")
             for room, name in (("objectives", OBJECTIVE), ("methods", METHOD))}  # fmt: skip
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, code in FILES.items():
        for old, new in moved.items():
            if f"from {old} import" in code:
                (line,) = re.findall(rf"from {old} import \w+", code)
                assert f"`{line.replace(old, new)}`" in WALK
                code = code.replace(old, new)
        (folder / ELSEWHERE[name]).write_text(code)
    sys.path.insert(0, str(folder))
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return miniatures(tmp_path_factory.mktemp("walk"))(recipe("alscor_pascal").experiment())


def walked_tests(path: Path) -> list[Callable[[], None]]:
    names: dict[str, Any] = {}
    exec(compile(path.read_text(), path, "exec"), names)
    return [value for name, value in names.items() if name.startswith("test_")]


def examined(path: Path, shards: Path) -> int:
    return main(["doctor", str(path), "--data.shards", str(shards), *DOCTOR.split(" ")])


def test_the_walk_names_each_file_that_it_needs() -> None:
    assert [name.partition("/")[0] for name in FILES] == ["xmr_e2e", "tests", "xmr_e2e", "recipes"]
    assert all(f"`{name}`" in WALK for name in ELSEWHERE.values())
    lines = FILES[RECIPE].splitlines()
    assert 30 <= len(lines) <= 65  # as test_recipes.py asks of each


def test_the_walks_code_is_as_the_linters_want_it(inside: Path) -> None:
    (inside / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    own = ("--config", 'lint.isort.known-first-party = ["xmr_e2e"]')  # of which only a part lies here
    for words in (["check", *own], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "."]
        done = subprocess.run(command, cwd=inside, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_a_paper_that_was_added_by_the_walk_trains_and_is_loaded(inside: Path, tiny: Path, tmp_path: Path) -> None:
    (test,) = walked_tests(inside / TEST)
    test()
    assert examined(inside / RECIPE, tiny) == 0
    experiment: Experiment = sys.modules["xmr_recipe"].experiment()
    assert experiment.name == Path(RECIPE).stem
    reduced = small(experiment, tiny)
    run = Run(tmp_path / "run")
    run.start(reduced, environment(reduced, 1))
    with fresh_accelerator():
        Trainer(reduced, run, make_accelerator(reduced.train)).fit()
    assert xmr_e2e.load(run.folder).embed_texts("a small picture").shape == (1, 128)


@pytest.mark.slow
def test_a_paper_in_a_folder_outside_the_project_passes_its_test_and_a_dry_run(outside: Path, tiny: Path) -> None:
    (test,) = walked_tests(outside / ELSEWHERE[TEST])
    test()
    assert examined(outside / ELSEWHERE[RECIPE], tiny) == 0
    method = sys.modules["xmr_recipe"].experiment().method
    assert type(method).__module__ == "infonce"
