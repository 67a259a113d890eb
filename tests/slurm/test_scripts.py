"""The scripts of slurm/ on a real Slurm of four nodes, which all are this machine, with recipes that train nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers.built import write

if TYPE_CHECKING:
    from tests.helpers.slurm_cluster import Slurm

pytestmark = pytest.mark.slow

pytest_plugins = ["tests.helpers.slurm_cluster"]

# A recipe that says what it was started with.
PROBE = """
import json, os, sys
names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURMD_NODENAME"]
print(json.dumps([{name: os.environ[name] for name in names}, sys.argv[1:]]))
"""
# One that waits for a file, and stops at SIGUSR1.
WAITING = """
import os, pathlib, signal, sys, time
print("options", *sys.argv[1:])
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
pathlib.Path("started-" + os.environ["SLURM_ARRAY_TASK_ID"]).touch()
while not pathlib.Path("end").exists():
    time.sleep(0.2)
"""
# One whose first process fails while the others wait for it.
BROKEN = """
import os, sys, time
sys.exit("0" == os.environ["RANK"] and 2 or time.sleep(120))
"""


@pytest.mark.parametrize(
    ("options", "ranks"),
    [
        ("--partition=gpu --nodes=2", [("g1", 0), ("g1", 1), ("g2", 0), ("g2", 1)]),  # a process on each GPU
        ("--partition=gpu --nodes=2 --ntasks-per-node=1", [("g1", 0), ("g2", 0)]),
        ("--partition=gpu --oversubscribe --gpus-per-node=1 --mem=100", [("g1", 0)]),
        ("--nodes=2", [("n1", 0), ("n2", 0)]),  # one process on each node without GPUs
    ],
)
def test_processes_know_their_places_and_get_the_recipes_options(
    slurm: Slurm, root: Path, options: str, ranks: list[tuple[str, int]]
) -> None:
    write(root / "probe.py", PROBE)
    job = slurm.submit(root, *options.split(" "), "slurm/train.sh", "probe.py", "--name", "two words", "*")
    assert slurm.wait(job) == 0, slurm.log(root, job)
    lines = [line.partition(": ")[2] for line in slurm.log(root, job).splitlines() if ': [{"RANK"' in line]
    started = sorted((json.loads(line) for line in lines), key=lambda found: int(found[0]["RANK"]))
    assert [(place["SLURMD_NODENAME"], int(place["LOCAL_RANK"])) for place, _ in started] == ranks
    assert [int(place["RANK"]) for place, _ in started] == list(range(len(ranks)))
    assert {int(place["WORLD_SIZE"]) for place, _ in started} == {len(ranks)}
    local = {int(place["LOCAL_WORLD_SIZE"]) for place, _ in started}
    assert local == {max(number for _, number in ranks) + 1}
    assert {place["MASTER_ADDR"] for place, _ in started} == {"127.0.0.1"}
    assert {int(place["MASTER_PORT"]) for place, _ in started} == {20000 + int(job)}
    options_got = ["--train.name", f"slurm-{job}", "--name", "two words", "*"]
    assert all(arguments == options_got for _, arguments in started)


def test_one_process_that_fails_ends_the_job_with_its_status(slurm: Slurm, root: Path) -> None:
    write(root / "broken.py", BROKEN)
    job = slurm.submit(root, "--nodes=2", "slurm/train.sh", "broken.py")
    assert slurm.wait(job, seconds=60) == 2, slurm.log(root, job)


def test_without_an_active_environment_venv_is_used_and_an_output_of_sbatch_is_kept(slurm: Slurm, root: Path) -> None:
    write(root / "probe.py", "import os; print(os.environ['VIRTUAL_ENV'])")
    write(root / ".venv/bin/activate", f"export VIRTUAL_ENV=here PATH={Path(sys.executable).parent}:$PATH")
    job = slurm.submit(root, "--output=mine", "slurm/train.sh", "probe.py", path="/usr/bin:/bin")
    assert slurm.wait(job) == 0
    assert (root / "mine").read_text().endswith("0: here\n")
    assert not list((root / "runs/slurm").iterdir())


def test_in_a_container_its_command_stands_before_each_python(
    slurm: Slurm, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No environment of the host is looked for."""
    monkeypatch.setitem(slurm.environment, "XMR_CONTAINER", f"env PATH={Path(sys.executable).parent} INSIDE=yes")
    write(root / "probe.py", "import os; print('inside:', os.environ['INSIDE'])")
    job = slurm.submit(root, "--nodes=2", "slurm/train.sh", "probe.py", path="/usr/bin:/bin")
    assert slurm.wait(job) == 0, slurm.log(root, job)
    assert slurm.log(root, job).count("inside: yes") == 2


def test_seeds_are_runs_of_their_own_and_only_the_one_that_is_told_to_goes_back_to_the_queue(
    slurm: Slurm, root: Path
) -> None:
    write(root / "waiting.py", WAITING)
    job = slurm.submit(root, "--array=2-3", "slurm/seeds.sh", "waiting.py", "--train.epochs", "9")
    slurm.wait_for(lambda: len(list(root.glob("started-*"))) == 2, "the start of the tasks")
    slurm.command("scancel", "--signal=USR1", f"{job}_3")  # which has the id of the whole array
    slurm.wait_for_requeue(f"{job}_3")
    (root / "end").touch()
    for seed, starts in ((2, 1), (3, 2)):
        task = f"{job}_{seed}"
        assert slurm.wait(task) == 0, slurm.log(root, task)
        names = f"--train.name slurm-{task} --train.name slurm-{job}-seed-{seed}"
        options = f"options {names} --train.seed {seed} --train.epochs 9\n"
        assert slurm.log(root, task).count(options) == starts


def test_an_array_with_gaps_builds_no_shards(slurm: Slurm, root: Path) -> None:
    job = slurm.submit(root, "--array=0,2", "slurm/build_shards.sh", "mscoco", "raw", "shards")
    assert [slurm.wait(f"{job}_{task}") for task in (0, 2)] == [2, 2]
    assert "--array must be a range without gaps" in slurm.log(root, f"{job}_0")
