"""How much the tests see: places of the program are changed, one at a time, and the tests that look at them are run.

    python -m benchmarks.mutation --seed 1 --places 40
    python -m benchmarks.mutation --seed 1 --places 20 --paths xmr_e2e/methods --json build/mutation.json

Places are drawn with the seed; with the same seed and paths, more of them begin with those of fewer. A change that no
test saw is shown with its file and line: a test is missing, or the program does the same as before, which a person has
to decide. Works on a copy of the tree. Tests are imported and run in forks of one process that has torch and the like
already. Exit status: 0 if all changes were seen, 1 if some were not.
"""

from __future__ import annotations

import ast
import gc
import importlib
import json
import math
import multiprocessing.context
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import NoReturn

import psutil
import pytest
import tyro
from rich.table import Table

from benchmarks.mutants import places, same_code
from xmr_e2e.console import console, report_errors
from xmr_e2e.errors import XmrError
from xmr_e2e.files import write_atomically

ROOT = Path(__file__).parents[1]
OWN = {"xmr_e2e", "preprocessing", "recipes", "benchmarks", "conftest"}
"""packages that each fork imports anew, from the copy"""
STEP = "step accumulate checkpoint signals validate embed"
"""files of `engine` that training rests on"""
DEFAULT = (
    *(Path(f"xmr_e2e/{room}") for room in "objectives methods data evaluation".split()),
    *(Path(f"xmr_e2e/engine/{name}.py") for name in STEP.split()),
)
DEPTH = 2
"""a test file sees a file that it imports, or that what it imports imports; the nearer ones are asked first"""
PATIENCE = 10.0
"""seconds of a core that tests may take beyond four times what they took unchanged: after that, they hang"""
ASLEEP = 10
"""so many times longer than that, tests may wait for others"""
NO_TESTS = 255
"""exit status of a fork whose tests are all left out"""


@dataclass(frozen=True)
class Mutant:
    """A changed file."""

    file: str
    line: int
    kind: str
    before: str
    after: str
    source: str


@dataclass(frozen=True)
class Verdict:
    """What the tests said of a mutant: the file of tests that failed, or nothing."""

    file: str
    line: int
    kind: str
    before: str
    after: str
    seen_by: str | None
    seconds: float

    @property
    def room(self) -> str:
        return str(Path(self.file).parent)


def draw(root: Path, paths: Sequence[Path], seed: int, count: int) -> list[Mutant]:
    """So many mutants of the Python files below these paths.

    Raises:
        XmrError: a path that is not there, or fewer places than that.
    """
    found = []
    for file in _python_files(root, paths):
        tree = ast.parse((root / file).read_text())
        found += [(file, tree, place) for place in places(tree)]
    chance = random.Random(seed)
    chance.shuffle(found)
    mutants: list[Mutant] = []
    for file, tree, place in found:
        if len(mutants) == count:
            return mutants
        change = chance.choice(place.changes)
        source = place.source(tree, change)
        if not same_code(compile(source, file, "exec"), compile(ast.unparse(tree), file, "exec")):
            before, after = (shortened(ast.unparse(node)) for node in (place.node, change.node))
            line = getattr(place.node, "lineno", getattr(place.parent, "lineno", 0))
            mutants.append(Mutant(file, line, change.kind, before, after, source))
    if len(mutants) < count:
        raise XmrError(f"--places {count}: there are {len(mutants)} places to change below --paths")
    return mutants


def shortened(text: str) -> str:
    """One line of at most 160 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 160 else f"{line[:159]}…"


def _python_files(root: Path, paths: Sequence[Path]) -> list[str]:
    files = set()
    for path in paths:
        if not (root / path).exists():
            raise XmrError(f"--paths {path}: there is no such file or folder in {root}")
        found = (root / path).rglob("*.py") if (root / path).is_dir() else [root / path]
        files |= {str(each.relative_to(root)) for each in found}
    return sorted(files)


# ---- which tests look at a file


@cache
def _imported(root: Path, file: str) -> frozenset[str]:
    """The project's files that a file imports, helpers of tests among them."""
    names = set()
    for node in ast.walk(ast.parse((root / file).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    paths = {name.replace(".", "/") for name in names}
    candidates = {f"{path}.py" for path in paths} | {f"tests/{path}.py" for path in paths}
    return frozenset(each for each in candidates if (root / each).is_file())


def _seen_from(root: Path, test: str) -> dict[str, int]:
    """How far each file is from a file of tests, up to DEPTH; helpers of tests are no distance of their own."""
    distances, edge, depth = {test: 0}, [test], 0
    while edge and depth < DEPTH:
        reached: list[str] = []
        helpers = list(edge)
        while helpers:
            for each in _imported(root, helpers.pop()) - distances.keys():
                is_helper = each.startswith("tests/")
                distances[each] = depth if is_helper else depth + 1
                (helpers if is_helper else reached).append(each)
        edge, depth = reached, depth + 1
    return distances


@cache
def tests_of(root: Path, file: str) -> tuple[tuple[str, ...], ...]:
    """Files of tests that look at a file: those named after it, those that import it, those farther away."""
    groups: tuple[list[str], ...] = tuple([] for _ in range(DEPTH + 1))
    words = set(Path(file).stem.split("_"))
    for path in sorted((root / "tests").glob("test_*.py")):
        test = str(path.relative_to(root))
        distance = _seen_from(root, test).get(file, DEPTH + 1)
        if words <= set(path.stem.split("_")):
            groups[0].append(test)
        elif distance <= DEPTH:
            groups[distance].append(test)
    return tuple(map(tuple, groups))


# ---- running them


class Bench:
    """Runs files of tests in forks of this process, on a copy of the tree.

    Args:
        tree: the copy, which is changed.
        most: seconds of tests, as measured unchanged, that a mutant may cost.
    """

    def __init__(self, tree: Path, *, slow: bool, most: float) -> None:
        self.tree = tree
        self._log = tree.parent / "log"
        self._slow = slow
        self._most = most
        self._seconds: dict[str, float] = {}

    def judge(self, mutant: Mutant) -> str | None:
        """The file of tests that fails with this mutant, or None.

        Raises:
            XmrError: one fails without it.
        """
        path, left = self.tree / mutant.file, self._most
        plain = path.read_text()
        for group in tests_of(self.tree, mutant.file):
            files = self._affordable(group, left)
            left -= sum(self._seconds[file] for file in files)
            path.write_text(mutant.source)
            os.utime(path, (0, 0))  # another time than that of the bytecode that is there
            try:
                failed, _ = self._run(files, PATIENCE + 4 * sum(self._seconds[file] for file in files))
            finally:
                path.write_text(plain)
            if failed is not None:
                return failed
        return None

    def _affordable(self, tests: Sequence[str], left: float) -> list[str]:
        """Of these files, the quickest, as many as there is time for; they are measured when they are first needed."""
        files = []
        for test in tests:
            if test not in self._seconds:
                self._seconds[test] = self._measured(test)
        for test in sorted(tests, key=self._seconds.__getitem__):
            left -= self._seconds[test]
            if left >= 0:
                files.append(test)
        return files

    def _measured(self, test: str) -> float:
        """Seconds of a core, unchanged; infinity where that is more than a mutant may cost, or all are left out."""
        failed, seconds = self._run([test], self._most)
        if failed is None:
            return seconds
        if failed != test:
            return math.inf
        raise XmrError(f"{test} fails without any change:\n{self._log.read_text(errors='replace')[-2000:]}")

    def _run(self, tests: Sequence[str], limit: float) -> tuple[str | None, float]:
        """The first of these files that fails, or why there was an end, None if they pass; and seconds of a core."""
        child = os.fork()
        if not child:
            self._be_child(tests, limit)
        end = time.monotonic() + ASLEEP * limit
        while True:
            done, status, used = os.wait4(child, os.WNOHANG)
            if done:
                break
            if time.monotonic() > end:
                os.killpg(child, signal.SIGKILL)
            time.sleep(0.02)
        for process in psutil.pids():  # what tests have started and left
            with suppress(OSError):
                if os.getsid(process) == child:
                    os.kill(process, signal.SIGKILL)
        number, seconds = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
        if number < 0:
            name = signal.Signals(-number).name
            return f"{' or '.join(tests)}, ended by {name}", seconds
        if number == NO_TESTS:
            return "no tests", seconds
        return tests[number - 1] if number else None, seconds

    def _be_child(self, tests: Sequence[str], limit: float) -> NoReturn:
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), resource.RLIM_INFINITY))
            output = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.chdir(self.tree)
            for name in [name for name in sys.modules if name.partition(".")[0] in OWN]:
                del sys.modules[name]
            sys.path[:] = [str(self.tree), *(path for path in sys.path if Path(path).resolve() not in (ROOT, Path()))]
            os.environ["PYTHONPATH"] = str(self.tree)
            # Processes that tests start need not import everything again, each for itself.
            contexts = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]
            contexts["spawn"] = contexts["forkserver"]
            contexts["forkserver"].set_forkserver_preload(["torch", "accelerate", "pytest", "xmr_e2e.engine.embed"])
            options = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={self.tree.parent / 'temporary'}"]
            if not self._slow:
                options += ["-m", "not slow"]
            for number, test in enumerate(tests, 1):
                if status := pytest.main([*options, test]):
                    os._exit(NO_TESTS if status == pytest.ExitCode.NO_TESTS_COLLECTED else number)
            os._exit(0)
        except BaseException:
            os._exit(len(tests))


@contextmanager
def copied(root: Path) -> Iterator[Path]:
    """A copy of the files that git knows or would take, in a temporary folder."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if listed.returncode:
        raise XmrError(f"{root}: {listed.stderr.strip()}")
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder).resolve() / "tree"
        for name in filter(None, listed.stdout.split("\0")):
            if (root / name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, tree / name)
        yield tree


def import_others(root: Path) -> None:
    """Import what the project and its tests import from elsewhere, so that forks need not."""
    for plugin in entry_points(group="pytest11"):
        plugin.load()
    for path in sorted([*(root / "xmr_e2e").rglob("*.py"), *(root / "tests").glob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                wanted = [(alias.name, "") for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                wanted = [(node.module, alias.name) for alias in node.names]
            else:
                continue
            for module, name in wanted:
                if module.partition(".")[0] not in OWN and not (root / "tests" / f"{module}.py").exists():
                    with suppress(Exception):  # optional ones; and some load what they offer when it is asked for
                        getattr(importlib.import_module(module), name, None)


# ---- the command


def mutate(
    seed: int = 0,
    places: int = 40,
    skip: int = 0,
    paths: tuple[Path, ...] = DEFAULT,
    slow: bool = False,
    most: float = 30.0,
    json: Path | None = None,
) -> int:
    """Change places of the program, one at a time, and list the changes that no test sees.

    Args:
        seed: of the draw.
        places: how many are drawn.
        skip: those of the draw that are passed over, as an earlier run had them.
        paths: files and folders to draw from.
        slow: run tests marked slow, too.
        most: seconds of a core that the tests of one change may take; those nearest to it come first, then the
            quickest.
        json: a file for the result.
    """
    mutants = sorted(draw(ROOT, paths, seed, skip + places)[skip:], key=lambda each: (each.file, each.line))
    import_others(ROOT)
    gc.collect()
    gc.freeze()  # so that forks do not copy what they do not change
    verdicts = []
    with copied(ROOT) as tree:
        for file in {mutant.file for mutant in mutants}:  # as the changed ones are written, for tests that read sources
            (tree / file).write_text(ast.unparse(ast.parse((tree / file).read_text())))
        bench = Bench(tree, slow=slow, most=most)
        for number, mutant in enumerate(mutants, 1):
            began = time.monotonic()
            seen_by = bench.judge(mutant)
            own = {name: value for name, value in asdict(mutant).items() if name != "source"}
            verdicts.append(Verdict(**own, seen_by=seen_by, seconds=round(time.monotonic() - began, 1)))
            console.print(f"{number}/{len(mutants)} {_line(verdicts[-1])}")
            if json is not None:
                _write(json, verdicts)
    _show(verdicts)
    return int(any(verdict.seen_by is None for verdict in verdicts))


def _line(verdict: Verdict) -> str:
    fate = f"seen by {verdict.seen_by}" if verdict.seen_by else "SURVIVED"
    change = f"{verdict.kind}: {verdict.before} => {verdict.after}"
    return f"{verdict.file}:{verdict.line} {change} | {fate}, {verdict.seconds:.1f} s"


def _write(path: Path, verdicts: Sequence[Verdict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps([asdict(each) for each in verdicts], indent=1).encode())


def _show(verdicts: Sequence[Verdict]) -> None:
    table = Table("room", "changes", "seen", "share")
    drawn, seen = Counter(each.room for each in verdicts), Counter(each.room for each in verdicts if each.seen_by)
    for room in [*sorted(drawn), "all"]:
        one, other = (sum(each.values()) if room == "all" else each[room] for each in (drawn, seen))
        table.add_row(room, str(one), str(other), f"{other / one:.0%}")
    console.print(table)
    for verdict in verdicts:
        if not verdict.seen_by:
            console.print(_line(verdict))


def main() -> int:
    """The command; its exit status."""
    return report_errors(lambda: tyro.cli(mutate, prog="python -m benchmarks.mutation", description=__doc__))


if __name__ == "__main__":
    sys.exit(main())
