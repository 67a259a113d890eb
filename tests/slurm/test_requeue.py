"""Jobs that are told to stop: which go back to the queue and on, and which end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers.built import write

if TYPE_CHECKING:
    from tests.helpers.slurm_cluster import Slurm

pytestmark = pytest.mark.slow

pytest_plugins = ["tests.helpers.slurm_cluster"]

# A recipe that waits for a signal, "saves", one rank after the other, and ends with its first argument. A later start
# of the same job says so.
STOPPED = """
import os, pathlib, signal, sys, time
if int(os.environ.get("SLURM_RESTART_COUNT", 0)):
    sys.exit(print("goes on", *sys.argv[1:]))
def stop(number, frame):
    signal.signal(number, signal.SIG_DFL)  # from here on it dies of it as any program does
    time.sleep(1 + 2 * int(os.environ["RANK"]))
    print("saved after", signal.Signals(number).name)
    sys.exit(int(sys.argv[-1]))
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, stop)
pathlib.Path("started-" + os.environ["RANK"]).touch()
time.sleep(120)
"""


def start(slurm: Slurm, root: Path, *options: str, status: int = 75) -> str:
    """The job of a recipe that ends with this status when it is told to stop, on two nodes, once it has started."""
    write(root / "stopped.py", STOPPED)
    nodes = ("--nodes=2", "--ntasks-per-node=1")
    job = slurm.submit(root, *nodes, *options, "slurm/train.sh", "stopped.py", str(status))
    slurm.wait_for(lambda: len(list(root.glob("started-*"))) == 2, "the start of the job")
    return job


@pytest.mark.parametrize("to", [pytest.param((), id="the processes"), pytest.param(("--batch",), id="the time limit")])
def test_at_usr1_all_save_and_the_job_goes_back_to_the_queue_and_on(
    to: tuple[str, ...], slurm: Slurm, root: Path
) -> None:
    job = start(slurm, root)
    slurm.command("scancel", *to, "--signal=USR1", job)
    slurm.wait_for_requeue(job)
    assert slurm.log(root, job).count("saved after SIGUSR1") == 2
    assert slurm.wait(job) == 0, slurm.log(root, job)
    assert slurm.log(root, job).count(f"goes on --train.name slurm-{job} 75") == 2
    assert "start 1, on n[1-2]" in slurm.log(root, job) and "start 2, on n[1-2]" in slurm.log(root, job)
    assert [path.name for path in (root / "runs/slurm").iterdir()] == [f"{job}.out"]


def test_preempted_with_grace_all_save_and_the_job_goes_back_to_the_queue(slurm: Slurm, root: Path) -> None:
    job = start(slurm, root, "--partition=spare")
    other = slurm.submit(root, "--partition=gpu", "--nodes=2", "--exclusive", "--wrap=true")
    slurm.wait_for_requeue(job)
    assert slurm.log(root, job).count("saved after SIGTERM") == 2
    assert slurm.wait(other) == 0
    assert slurm.wait(job) == 0, slurm.log(root, job)
    assert slurm.log(root, job).count("goes on") == 2


@pytest.mark.parametrize(
    ("how", "status"),
    [
        pytest.param(("--signal=TERM",), 75, id="terminated"),
        pytest.param((), 75, id="cancelled"),
        pytest.param(("--signal=USR1",), 2, id="an error while it saves"),
    ],
)
def test_nothing_else_goes_back_to_the_queue(how: tuple[str, ...], status: int, slurm: Slurm, root: Path) -> None:
    job = start(slurm, root, status=status)
    slurm.command("scancel", *how, job)
    assert slurm.wait(job) == status, slurm.log(root, job)
    assert slurm.log(root, job).count("saved after") == 2
    assert slurm.field(job, "Restarts") == "0"


def test_a_job_that_may_not_be_requeued_says_how_to_go_on(slurm: Slurm, root: Path) -> None:
    job = start(slurm, root, "--no-requeue")
    slurm.command("scancel", "--signal=USR1", job)
    assert slurm.wait(job) == 75, slurm.log(root, job)
    assert f"submit it again with --train.name slurm-{job}" in slurm.log(root, job)
