"""A Slurm of the tests' own: real daemons on this machine, everything they write in one folder, no service touched.

A test module that says `pytest_plugins = ["tests.helpers.slurm_cluster"]` has the fixtures `slurm` and `root`.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests import ROOT

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
SEARCHED = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
NODES = ("n1", "n2", "g1", "g2")
# Partition "main" is n1 and n2, with a core each. "gpu" is g1 and g2, with two cores and two things that pass for
# GPUs each, and jobs there preempt those of "spare". Addresses are numbers, so that no name needs to be resolved, and
# cores and memory need not be there. Once a second Slurm looks for jobs whose time to start has come.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
SlurmdUser={user}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=4000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=4000
NodeName=g1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[3]} CPUs=2 RealMemory=4000 Gres=gpu:2
NodeName=g2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[4]} CPUs=2 RealMemory=4000 Gres=gpu:2
PartitionName=main Nodes=n1,n2 Default=YES
PartitionName=gpu Nodes=g1,g2
PartitionName=spare Nodes=g1,g2 PriorityTier=0 GraceTime=30
"""
GPUS = "NodeName=g[1-2] Name=gpu File=/dev/null\nNodeName=g[1-2] Name=gpu File=/dev/zero\n"
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


class Slurm:
    """A running cluster of two plain nodes and two with GPUs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        own = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        self.environment = {**own, "SLURM_CONF": str(folder / "slurm.conf")}

    def command(self, *words: str) -> str:
        """The output of one of Slurm's commands."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def submit(self, root: Path, *arguments: str, path: str | None = None) -> str:
        """`sbatch` with these arguments in the folder root; the job's id.

        path: the job's PATH; by default the environment of this Python is active.
        """
        active = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**self.environment, "PATH": path or active}
        done = subprocess.run(
            ["sbatch", "--parsable", *arguments], cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def wait(self, job: str, seconds: float = 240) -> int:
        """The exit status of a job's script, once it has ended (`sbatch --wait` looks only every ten seconds)."""
        self.wait_for(lambda: self.field(job, "JobState") in ENDED, f"job {job}", seconds)
        status, signal = map(int, self.field(job, "ExitCode").split(":"))
        return 128 + signal if signal else status

    def wait_for_requeue(self, job: str) -> None:
        """Wait until a job has gone back to the queue, and let it start without the pause of two minutes."""
        self.wait_for(lambda: self.field(job, "JobState") == "PENDING", f"the requeue of job {job}", 120)
        # Not in the same second: nodes refuse what was allowed before they have heard of the requeue.
        self.command("scontrol", "update", f"jobid={job}", "StartTime=now+2")

    @staticmethod
    def wait_for(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
        """Look five times a second whether a condition holds; fail when it does not in time."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what}: waited {seconds} seconds for nothing"
            time.sleep(0.2)

    @staticmethod
    def log(root: Path, job: str) -> str:
        """What a job has printed."""
        return (root / f"runs/slurm/{job}.out").read_text()

    def field(self, job: str, name: str) -> str:
        """What `scontrol show job` says, such as "Restarts"."""
        found = re.search(rf"\b{name}=(\S+)", self.command("scontrol", "show", "job", job))
        assert found
        return found[1]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder like the project's root, with runs of its own."""
    root = tmp_path / "root"
    root.mkdir()
    for name in ("slurm", "recipes"):
        (root / name).symlink_to(ROOT / name)
    return root


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A cluster that all tests of the session share."""
    missing = [name for name in PROGRAMS if not shutil.which(name, path=SEARCHED)]
    if missing:
        pytest.skip(f"no {', '.join(missing)} on this machine (Debian: apt-get install slurm-wlm munge)")
    folder = tmp_path_factory.mktemp("slurm")
    cluster = Slurm(folder)
    _configure(folder)
    with ExitStack() as daemons:
        munge = (f"--{name}={folder}/munge.{name.removesuffix('-file')}" for name in
                 ("key-file", "socket", "pid-file", "log-file", "seed-file"))  # fmt: skip
        daemons.enter_context(_daemon(cluster, "munged", "--foreground", "--force", *munge))
        cluster.wait_for((folder / "munge.socket").exists, "munged")
        daemons.enter_context(_daemon(cluster, "slurmctld", "-D"))
        for node in NODES:
            daemons.enter_context(_daemon(cluster, "slurmd", "-D", "-N", node))
        cluster.wait_for(lambda: _idle_nodes(cluster) == set(NODES), f"the nodes of {folder}")
        yield cluster
        _end_jobs(cluster)


def _configure(folder: Path) -> None:
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    text = CONFIGURATION.format(folder=folder, host=socket.gethostname(), user=user, ports=_free_ports(1 + len(NODES)))
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text(GPUS)
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))


def _free_ports(count: int) -> list[int]:
    with ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def _daemon(cluster: Slurm, name: str, *options: str) -> Iterator[None]:
    program = shutil.which(name, path=SEARCHED)
    assert program
    with open(cluster.folder / f"{name}.log", "a") as log:
        process = subprocess.Popen([program, *options], env=cluster.environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def _idle_nodes(cluster: Slurm) -> set[str]:
    shown = subprocess.run(
        ["sinfo", "--noheader", "--Node", "--format=%N %T"], env=cluster.environment, capture_output=True, text=True
    )
    return {line.split()[0] for line in shown.stdout.splitlines() if line.endswith(" idle")}


def _end_jobs(cluster: Slurm) -> None:
    """What a failed test left behind."""
    for job in set(cluster.command("squeue", "--noheader", "--format=%F").split()):  # of an array, all of it
        cluster.command("scancel", job)
    cluster.wait_for(lambda: not cluster.command("squeue", "--noheader"), "the end of the last jobs")
