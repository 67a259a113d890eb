"""The runs of a study as arrays of Slurm's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from xmr_e2e.errors import XmrError
from xmr_e2e.escape import one_line
from xmr_e2e.files import write_atomically
from xmr_e2e.studies.plan import Plan, PlannedRun
from xmr_e2e.studies.slurm import queued, ranges, require_slurm, submit_array

SCRIPT = Path("slurm/study.sh")
LIST = "runs-{number}.txt"
LONGEST_ARRAY = 1000
"""tasks of an array; Slurm's MaxArraySize is 1001 by default"""


def submit_study(plan: Plan, file: Path, at_once: int | None = None) -> Iterator[str]:
    """Submit what a plan has to do; what was done, in lines.

    A list in RUNS/studies/NAME says which run a task of an array is. Runs that wait in the queue, or are trained, are
    not submitted again.

    Args:
        file: the study's.
        at_once: tasks of an array that run at a time, at most.

    Raises:
        XmrError: there is no sbatch or no slurm/study.sh here, Slurm refuses, or a name has characters that a list
            cannot have.
    """
    require_slurm(SCRIPT, "run the study here, without --submit")
    folder = plan.folder / "studies" / plan.study.name
    submitted = _queued_runs(plan, folder)
    left = [run for run in plan.runs if run.is_to_do and run.folder.name not in submitted]
    waiting = sum(run.is_to_do for run in plan.runs) - len(left)
    if waiting:
        yield f"{waiting} runs are in the queue"
    for first in range(0, len(left), LONGEST_ARRAY):
        part = left[first : first + LONGEST_ARRAY]
        written = _write_list(folder, part)
        name = _job_name(plan, written)
        job = submit_array(name, range(len(part)), SCRIPT, str(file), str(written), str(plan.folder), at_once=at_once)
        yield f"{len(part)} runs are job {job}, tasks {ranges(range(len(part)))}: {written}"


def _write_list(folder: Path, runs: Sequence[PlannedRun]) -> Path:
    """A line for each run, which slurm/study.sh reads: row, seed, name of the folder, shards."""
    heads = [(run.row.key, str(run.seed), run.folder.name) for run in runs]
    lines = [" ".join((*head, str(run.row.experiment.data.shards))) for head, run in zip(heads, runs)]
    for head, line in zip(heads, lines):
        if any(len(word.split()) != 1 for word in head) or one_line(line) != line:
            raise XmrError(f"--submit: {line!r}: Slurm cannot be handed such a name; rename recipe or folder")
    folder.mkdir(parents=True, exist_ok=True)
    number = 1 + len(list(folder.glob(LIST.format(number="*"))))
    path = folder / LIST.format(number=number)
    write_atomically(path, "".join(f"{line}\n" for line in lines).encode())
    return path


def _job_name(plan: Plan, written: Path) -> str:
    return f"{plan.study.name}.{written.stem}"


def _queued_runs(plan: Plan, folder: Path) -> set[str]:
    """Names of the folders of the study's runs that wait in the queue or run."""
    tasks = queued()
    found = set()
    for path in folder.glob(LIST.format(number="*")):
        lines = path.read_text().splitlines()
        found |= {line.split()[2] for index, line in enumerate(lines) if (index, _job_name(plan, path)) in tasks}
    return found
