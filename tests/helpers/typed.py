"""Python programs as a person types them, in processes that need no import: the server of `forked` forks them.

A new process that trains takes six seconds of a core before it looks at its options. Tests about what is typed,
printed and left behind do without; `launched` starts new ones, for those that are about the start.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.helpers.forked import PATIENCE, SERVER, environments_of_ranks, settle


class Typed:
    """`python WORDS`, in a session of its own: a file's path, -m MODULE or -c CODE, after -P or not, and what follows.

    Args:
        prepare: called in the process before the program; a function of a module, which changes what it is tried with.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        prepare: Callable[[], object] = os.getpid,
    ) -> None:
        self.words = list(words)
        self._folder = tempfile.TemporaryDirectory(prefix="typed-")
        self._out, self._errors = (Path(self._folder.name, name) for name in ("out", "errors"))
        environment = dict(os.environ if env is None else env)
        given = (self.words, self._out, self._errors, str(cwd or Path.cwd()), environment, prepare)
        self.process = SERVER.Process(target=_run, args=given)
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        return self.process.exitcode

    def kill(self) -> None:
        """End it and all that it started, at once."""
        os.killpg(self.pid, signal.SIGKILL)

    def end(self) -> subprocess.CompletedProcess[str]:
        """Its exit status and what it printed, once it has ended."""
        self.process.join(PATIENCE)
        status = self.process.exitcode
        if status is None:
            self.kill()
        out, errors = (path.read_text() if path.exists() else "" for path in (self._out, self._errors))
        assert status is not None, f"{self.words} does not end: {out}{errors}"
        self._folder.cleanup()
        return subprocess.CompletedProcess(self.words, status, out, errors)


def typed(
    words: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    prepare: Callable[[], object] = os.getpid,
) -> subprocess.CompletedProcess[str]:
    """`python WORDS`, once it has ended."""
    return Typed(words, cwd=cwd, env=env, prepare=prepare).end()


def typed_ranks(words: Sequence[str], processes: int) -> list[subprocess.CompletedProcess[str]]:
    """`python WORDS` in processes that are one training, as a launcher starts them, once all have ended."""
    started = [Typed(words, env={**os.environ, **rank}) for rank in environments_of_ranks(processes)]
    return [each.end() for each in started]


def _run(
    words: list[str],
    out: Path,
    errors: Path,
    cwd: str,
    environment: Mapping[str, str],
    prepare: Callable[[], object],
) -> None:
    settle(out, errors, environment)
    os.chdir(cwd)
    prepare()
    where = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    if words[0] == "-P":
        words = words[1:]
    else:  # the path begins with the folder of a file, or with the current one
        where.insert(0, str(Path(words[0]).resolve().parent) if words[0] not in ("-m", "-c") else cwd)
    sys.path[:0] = where
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
