"""What is installed: pyproject.toml's ranges, the versions that are known to pass, and the lowest ones."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distributions, packages_distributions, requires
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests import ROOT
from xmr_e2e import extras

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
SERVED_DIFFERENTLY = re.compile(r"torch|torchvision|triton|setuptools|pip|nvidia-.*|cuda-.*")
"""packages of which machines are served different versions, and what is tied to these"""


def plain(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {extra: list(map(Requirement, lines)) for extra, lines in PROJECT["optional-dependencies"].items()}
OF_TESTS = [*EXTRAS.pop("dev"), *EXTRAS.pop("docs")]
CORE = {plain(r.name): r for r in map(Requirement, PROJECT["dependencies"])}
PROGRAM = CORE | {plain(r.name): r for extra in EXTRAS.values() for r in extra}
TESTS = {plain(r.name): r for r in OF_TESTS if r.name != PROJECT["name"]}
DIRECT = PROGRAM | TESTS


def constraints() -> dict[str, str]:
    """Name -> version, as constraints.txt has them."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


@pytest.fixture
def lowest() -> ModuleType:
    """The script that says which versions are the lowest."""
    spec = importlib.util.spec_from_file_location("lowest", ROOT / ".ci" / "lowest.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_constraints_are_versions_of_what_every_machine_is_served() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    named = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z][\w.-]*==[\w.!+]+", line) for line in named)  # neither addresses nor hashes
    assert len({plain(line.split("==")[0]) for line in named}) == len(named)
    assert not [name for name in map(plain, constraints()) if SERVED_DIFFERENTLY.fullmatch(name)]
    assert not [line for line in named if "+" in line]  # a build of one machine


def test_constraints_name_every_direct_dependency_within_its_range() -> None:
    known = {plain(name): number for name, number in constraints().items()}
    assert {name for name in DIRECT if not SERVED_DIFFERENTLY.fullmatch(name)} <= known.keys()
    for name in DIRECT.keys() & known.keys():
        assert DIRECT[name].specifier.contains(known[name]), f"{name}=={known[name]} is not {DIRECT[name]}"


def needed() -> set[str]:
    """Directly or through others, of what is installed here, on any of the Pythons."""
    found: set[str] = set()
    waiting = [(name, frozenset(requirement.extras)) for name, requirement in DIRECT.items()]
    seen = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        found.add(name)
        for requirement in dependencies(name, extras):
            step = plain(requirement.name), frozenset(requirement.extras)
            if step not in seen:
                seen.add(step)
                waiting.append(step)
    return found


def dependencies(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    try:
        lines = requires(name) or []
    except PackageNotFoundError:  # on another Python or system
        return
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        places = [{"extra": extra, "python_version": python} for extra in ("", *extras) for python in PYTHONS]
        if marker is None or any(marker.evaluate(place) for place in places):
            yield requirement


@pytest.mark.skipif(sys.platform != "linux", reason="constraints.txt is that of Linux")
def test_constraints_name_nothing_that_is_not_needed() -> None:
    known = {plain(name): number for name, number in constraints().items()}
    installed = {plain(found.name): found.version for found in distributions()}
    others = [name for name in known.keys() & installed.keys() if installed[name] != known[name]]
    if others:
        pytest.skip(f"this environment has other versions: {', '.join(sorted(others))}")
    assert known.keys() <= needed()


def test_the_lowest_versions_are_the_lower_bounds(lowest: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    bounds = {plain(name): bound for name, bound in lowest.lower_bounds().items()}
    assert bounds.keys() == DIRECT.keys()
    for name, bound in bounds.items():
        assert SpecifierSet(f">={bound}") in [SpecifierSet(str(part)) for part in DIRECT[name].specifier]
        assert DIRECT[name].specifier.contains(bound)
    lowest.lowest_on_offer = lambda name, bound: "2.12.1"
    lowest.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "torch<=2.12.1"  # a bound that pip can meet here, and no version that all are to have
    assert {line.partition("==")[0] for line in lines[:-1]} == {plain(n) for n in bounds} - {"torch", "torchvision"}


def test_a_requirement_without_a_lower_bound_is_named(lowest: ModuleType, tmp_path: Path) -> None:
    text = '[project]\nname = "xmr-e2e"\ndependencies = []\n[project.optional-dependencies]\nextra = ["numpy<3"]\n'
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(ValueError, match="numpy<3: every requirement is to begin as NAME>=VERSION"):
        lowest.lower_bounds(tmp_path / "pyproject.toml")


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("torch (2.15.0)\nAvailable versions: 2.15.0, 2.13.0+cpu, 2.12.0, 2.11.1, 2.9.0\n", "2.11.1"),
        ("torch (2.15.0)\nAvailable versions: 2.15.0, 2.14.1\n", "2.14.1"),
        ("torch (2.9.0)\nAvailable versions: 2.9.0\n", None),
        ("", None),
    ],
)
def test_of_torch_the_lowest_is_asked_for_that_is_served(
    lowest: ModuleType, monkeypatch: pytest.MonkeyPatch, listed: str, expected: str | None
) -> None:
    done = lowest.subprocess.CompletedProcess([], 0, listed, "")
    monkeypatch.setattr(lowest.subprocess, "run", lambda *words, **options: done)
    assert lowest.lowest_on_offer("torch", "2.11") == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folders", "declared"),
    [(("xmr_e2e", "preprocessing", "recipes"), PROGRAM), (("tests", "benchmarks"), DIRECT)],
    ids=["the program", "the tests"],
)
def test_what_is_imported_is_declared(folders: tuple[str, ...], declared: dict[str, Requirement]) -> None:
    """Else it is there by chance, until the package that brought it along does without it."""
    own = {"xmr_e2e", "preprocessing", "recipes", "benchmarks", "tests"}
    own |= extras.BY_HAND.keys()  # what no list of requirements can have beside the rest
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    imported = {name: path for path in sources for name in imports(path)}
    packages = installed()
    for name in imported.keys() - sys.stdlib_module_names - own:
        candidates = {plain(package) for package in packages.get(name, [name])}
        assert candidates & declared.keys(), f"{imported[name]} imports {name}, which pyproject.toml does not name"


def test_the_tests_have_every_extra() -> None:
    """By which `make test` and the lowest versions have them, too."""
    (own,) = (requirement for requirement in OF_TESTS if requirement.name == PROJECT["name"])
    assert own.extras == EXTRAS.keys() == extras.EXTRAS.keys()


@cache
def installed() -> Mapping[str, list[str]]:
    """Module -> the packages that have it; to look through all of them takes seconds."""
    return packages_distributions()


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_is_looked_for_by_the_modules_of_its_packages(extra: str) -> None:
    packages = installed()
    brought = {plain(package) for module in extras.EXTRAS[extra] for package in packages[module]}
    assert {plain(requirement.name) for requirement in EXTRAS[extra]} <= brought
    assert not brought & CORE.keys()


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
