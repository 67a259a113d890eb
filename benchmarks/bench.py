"""Files of tests, those that look at a file first, run in forks on a copy of the tree."""

from __future__ import annotations

import ast
import importlib
import json
import math
import multiprocessing.context
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import NoReturn

import psutil
import pytest

from xmr_e2e.console import console
from xmr_e2e.errors import XmrError
from xmr_e2e.files import write_atomically

ROOT = Path(__file__).parents[1]
OWN = {"xmr_e2e", "preprocessing", "recipes", "benchmarks", "tests"}
"""packages that each fork imports again, from the copy"""
DEPTH = 3
"""a test file sees a file that it imports, or that what it imports imports; the nearer ones are asked first"""
PATIENCE = 10.0
"""seconds of a core that tests may take beyond twice what they took before: after that, they hang"""
ASLEEP = 10
"""so many times longer than that, tests may wait for others"""
NEAR = 4
"""so many times longer than all others, tests named after the file may take"""
NO_TESTS = 255
"""exit status of a fork that comes to a file whose tests are all left out"""
LEFT_OUT = ", left out"


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
    return frozenset(each for each in (f"{path}.py" for path in paths) if (root / each).is_file())


def _seen_from(root: Path, test: str) -> dict[str, int]:
    """The distance of each file from a file of tests, up to DEPTH; helpers of tests are no distance of their own."""
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
def _starts_processes(test: Path) -> bool:
    """True for a file of tests that waits for other processes."""
    text = test.read_text()
    return any(word in text for word in ("subprocess", "spawn", "project_folder"))


@cache
def tests_of(root: Path, file: str) -> tuple[tuple[str, ...], ...]:
    """Files of tests that look at a file: those named after it, those that import it, those farther away (but
    those that start processes)."""
    groups: tuple[list[str], ...] = tuple([] for _ in range(DEPTH + 1))
    words = set(Path(file).stem.split("_"))
    for path in sorted((root / "tests").rglob("test_*.py")):
        test = str(path.relative_to(root))
        distance = _seen_from(root, test).get(file, DEPTH + 1)
        if words <= set(path.stem.split("_")):
            groups[0].append(test)
        elif distance < DEPTH or (distance == DEPTH and not _starts_processes(path)):
            groups[distance].append(test)
    return tuple(map(tuple, groups))


# ---- running them


class Bench:
    """Runs files of tests in forks of this process, on a copy of the tree.

    Args:
        tree: the copy, which is changed.
        slow: run tests marked slow, too.
        most: seconds of a core that the tests of a mutant may cost, beside those named after its file.
        memory: a file that remembers the seconds of each file of tests from one run to the next. They only decide which
            tests are asked, in which order and for how long; that one passes unchanged is seen in each run.
    """

    def __init__(self, tree: Path, *, slow: bool, most: float, memory: Path) -> None:
        self.tree = tree
        self._log, self._now = tree.parent / "log", tree.parent / "now"
        self._slow = slow
        self._most = most
        self._memory = memory
        self._seconds: dict[str, float] = json.loads(memory.read_text()) if memory.exists() else {}
        self._passes: set[str] = set()
        self._written = 0

    def judge(self, file: str, source: str) -> str | None:
        """The file of tests that fails with this text of a file only, or None."""
        left = NEAR * self._most
        for group in tests_of(self.tree, file):
            # The known ones together, the quickest first; then the others one by one, since many need not be.
            known = sorted((test for test in group if test in self._seconds), key=self._seconds.__getitem__)
            unknown = sorted(set(group) - set(known), key=self._effort)
            for tests in [known, *([test] for test in unknown)]:
                affordable: list[str] = []
                for test in tests:
                    if sum(self._seconds.get(each, 0.0) for each in [*affordable, test]) < left:
                        affordable.append(test)
                failed, seconds = self._failed(file, source, affordable, left)
                left -= seconds
                if failed:
                    return failed
            left = min(left, self._most)
        return None

    def _failed(self, file: str, source: str, tests: Sequence[str], left: float) -> tuple[str | None, float]:
        """The first of these files that fails with the change only, None if there is none; and seconds of a core."""
        tests = [test for test in tests if self._seconds.get(test, 0.0) < left]
        if not tests:
            return None, 0.0
        limit = self._limit(tests)
        path = self.tree / file
        plain = path.read_text()
        path.write_text(source)
        self._written += 1
        os.utime(path, (self._written, self._written))  # another time than that of any bytecode that is there
        try:
            failed, end, seconds = self._run(tests, limit)
        finally:
            path.write_text(plain)
        if failed is None:
            if len(tests) == 1:
                self._remember(tests[0], seconds)
            return None, seconds
        if end == LEFT_OUT:
            self._remember(failed, math.inf)
        else:
            seconds += self._check(failed, left)
            if self._seconds[failed] < left and (not end or limit >= self._limit([failed])):
                return f"{failed}{end}", seconds
        # without that file of tests, or with the time that it needs
        failed, more = self._failed(file, source, tests, left)
        return failed, seconds + more

    def _effort(self, test: str) -> tuple[bool, int]:
        """The sort key of files of tests that are not known yet."""
        return _starts_processes(self.tree / test), (self.tree / test).stat().st_size

    def _limit(self, tests: Sequence[str]) -> float:
        return PATIENCE + 2 * sum(self._seconds.get(test, 0.0) for test in tests)

    def _check(self, test: str, left: float) -> float:
        """Run a file of tests unchanged, for so many seconds at most: if it fails, it is asked no more. Returns the
        seconds that this took; 0 where it was seen before."""
        if test in self._passes:
            return 0.0
        failed, end, seconds = self._run([test], left)
        if failed and not end:
            console.print(f"{test} fails without any change, and is not asked:")
            console.print(self._log.read_text(errors="replace")[-500:], markup=False)
            self._remember(test, math.inf)
        else:
            self._remember(test, max(seconds, left) if end else seconds)
            if not end:
                self._passes.add(test)
        return seconds

    def _remember(self, test: str, seconds: float) -> None:
        self._seconds[test] = round(seconds, 2)
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        finite = {test: each for test, each in sorted(self._seconds.items()) if each < math.inf}
        write_atomically(self._memory, json.dumps(finite, indent=1).encode())

    def _run(self, tests: Sequence[str], limit: float) -> tuple[str | None, str, float]:
        """The first of these files that fails, None if they pass; why it was ended, if so; and seconds of a core."""
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
            return self._now.read_text(), f", ended by {signal.Signals(-number).name}", seconds
        if number == NO_TESTS:
            return self._now.read_text(), LEFT_OUT, seconds
        return tests[number - 1] if number else None, "", seconds

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
            sys.dont_write_bytecode = False  # or each fork would compile everything again
            # Processes that tests start need not import everything again, each for itself.
            contexts = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]
            contexts["spawn"] = contexts["forkserver"]
            contexts["forkserver"].set_forkserver_preload(["torch", "accelerate", "pytest", "xmr_e2e.models.embed"])
            options = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={self.tree.parent / 'temporary'}"]
            if not self._slow:
                options += ["-m", "not slow"]
            for number, test in enumerate(tests, 1):
                self._now.write_text(test)
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
    for path in sorted([*(root / "xmr_e2e").rglob("*.py"), *(root / "tests").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                wanted = [(alias.name, "") for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                wanted = [(node.module, alias.name) for alias in node.names]
            else:
                continue
            for module, name in wanted:
                if module.partition(".")[0] not in OWN:
                    with suppress(Exception):  # optional ones; and some load what they offer when it is asked for
                        getattr(importlib.import_module(module), name, None)
