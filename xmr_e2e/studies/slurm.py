"""Slurm's commands, as far as arrays of runs need them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from xmr_e2e.errors import XmrError
from xmr_e2e.escape import shell


def require_slurm(script: Path, otherwise: str) -> None:
    """Raise XmrError where nothing can be submitted from here. otherwise: what to do instead, in words."""
    if not shutil.which("sbatch"):
        raise XmrError(f"--submit: there is no sbatch on this machine: submit from a login node of the cluster, or "
                       f"{otherwise}")  # fmt: skip
    if not script.exists():
        raise XmrError(f"--submit: there is no {script} here: go to the project's root")


def submit_array(name: str, indices: Sequence[int], script: Path, *arguments: str, at_once: int | None = None) -> str:
    """Submit an array of tasks with these ascending indices; return the job's number.

    Raises:
        XmrError: Slurm refuses.
    """
    throttle = f"%{at_once}" if at_once else ""
    array = f"--array={ranges(indices)}{throttle}"
    return _slurm("sbatch", "--parsable", f"--job-name={name}", array, str(script), *arguments)


def queued() -> set[tuple[int, str]]:
    """(index, job's name) of the user's array tasks that were submitted from here and wait or run.

    Raises:
        XmrError: Slurm cannot be asked.
    """
    lines = _slurm("squeue", "--me", "--noheader", "--array", "--format=%K %j %Z").splitlines()
    jobs = [line.split(" ", 2) for line in lines]
    here = Path.cwd()
    return {(int(index), name) for index, name, folder in jobs if Path(folder) == here and index.isdecimal()}


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as Slurm takes them: "0,2-4"."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1][1:] = [number]
        else:
            found.append([number])
    return ",".join("-".join(map(str, ends)) for ends in found)


def _slurm(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise XmrError(f"--submit: {shell(*command)}: {done.stderr.strip()}")
    return done.stdout.strip()
