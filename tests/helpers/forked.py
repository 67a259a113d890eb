"""Trainings in processes of their own that need no import: a server that has imported everything forks them.

A process that begins with `import torch` takes seconds of a core before it trains; tests that kill, stop and cut off
many of them could not afford it.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing import start_processes

from xmr_e2e.console import report_errors, setup_logging
from xmr_e2e.data.config import Data
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.methods.base import MethodConfig
from xmr_e2e.methods.drcl import Drcl
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn
from xmr_e2e.training.launch import run_experiment
from xmr_e2e.training.processes import make_accelerator

PATIENCE = 300
"""seconds until a process that was expected to end or to come to a point is given up"""
SERVER = multiprocessing.get_context("forkserver")
# What trainings import, also later: torchvision and SciPy take longest.
SERVER.set_forkserver_preload(
    [
        "xmr_e2e.training.launch",
        "xmr_e2e.training.preflight",
        "xmr_e2e.training.trainer",
        "torch.utils.tensorboard",
        "tests.helpers.small_methods",
        "xmr_e2e.towers.networks",
        "gensim.models",
        "deepspeed",
        "pytest",
        # and what figures and reports import
        "xmr_e2e.runs.evaluate",
        "xmr_e2e.runs.report",
        "sklearn.manifold",
    ]
)
OF_THE_MACHINE = ("images_per_second", "data_wait", "seconds", "peak_memory")
"""keys of records that differ from run to run"""

DRCL = Drcl(image=ImageTower("resnet10_slim", weights="none"), text=TextCnn(kernels=8), hidden=16, dim=8)


def tiny(shards: Path, runs: Path, method: MethodConfig = DRCL, *, workers: int = 0, **train: Any) -> Experiment:
    """A miniature: 5 steps per epoch of the tiny shards, two epochs of each stage; its run is RUNS/tiny/run."""
    return Experiment(
        name="tiny",
        data=Data(shards, image_size=32, load_size=32, words=WordVectors(dim=6), workers=workers),
        method=method,
        optimizer=Optimizer(lr=3e-3),
        train=Train(**{"epochs": 2, "batch_size": 8, "runs": runs, "name": "run", "report": False, **train}),
    )


class Training:
    """A training in a process of its own session, as its recipe's command would run it."""

    def __init__(self, experiment: Experiment, log: Path, prepare: Callable[[], None], rank: Mapping[str, str]) -> None:
        self.log = log
        self.process = SERVER.Process(target=_train, args=(experiment, log, prepare, {**os.environ, **rank}))
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def is_over(self) -> bool:
        return self.process.exitcode is not None

    @property
    def printed(self) -> str:
        """With any white space as one blank, as the console breaks lines."""
        return " ".join(self.log.read_text().split())

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait_for(self, seen: Callable[[], Any]) -> None:
        """Until something is seen, while the training runs."""
        deadline = time.monotonic() + PATIENCE
        while not seen():
            assert not self.is_over, f"the training ended early: {self.log.read_text()}"
            assert time.monotonic() < deadline, f"the training did not get so far: {self.log.read_text()}"
            time.sleep(0.002)

    def end(self) -> int:
        """The exit status, once it has ended."""
        self.process.join(PATIENCE)
        assert self.process.exitcode is not None, f"the training does not end: {self.log.read_text()}"
        return self.process.exitcode


@contextmanager
def trainings(
    experiment: Experiment, folder: Path, *, prepare: Callable[[], None] = os.getpid, processes: int = 1
) -> Iterator[list[Training]]:
    """The processes of a training, started without a launcher that would end all when one fails.

    Args:
        prepare: called in each process before it trains; a function of a module, which changes what is to fail.
    """
    ranks = environments_of_ranks(processes)
    started = [Training(experiment, folder / f"rank-{number}.log", prepare, rank) for number, rank in enumerate(ranks)]
    try:
        yield started
    finally:
        for training in started:
            if not training.is_over:
                os.killpg(training.pid, signal.SIGKILL)
                training.process.join()


def environments_of_ranks(processes: int) -> list[dict[str, str]]:
    """The variables by which processes find each other, for each of them; none for a single one."""
    if processes == 1:
        return [{}]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(processes)}
    return [{**group, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def run_ranks(function: Callable[..., None], arguments: tuple[Any, ...], processes: int) -> None:
    """Call a function of a module in so many processes, each with its rank ahead of the arguments.

    Raises:
        torch.multiprocessing.ProcessException: one of them failed; with what it raised.
    """
    start_processes(function, arguments, processes, start_method="forkserver")


def train(experiment: Experiment, folder: Path, *, prepare: Callable[[], None] = os.getpid) -> Training:
    """A training in one process, which has ended."""
    with trainings(experiment, folder, prepare=prepare) as (training,):
        training.end()
    return training


def result(run: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """All that must not depend on interruptions: what is recorded but for time and memory, and the figures."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timeless = [{name: r[name] for name in r if name not in OF_THE_MACHINE} for r in records]
    figures = json.loads((run / "evaluation" / "test.json").read_text())
    assert figures.pop("training")["seconds"] > 0
    return timeless, figures


def settle(out: Path, errors: Path, environment: Mapping[str, str]) -> None:
    """In a process that was forked: a session, an environment and outputs of its own, as a new process has them."""
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, set())  # a server for loader processes blocks what is for the training
    # Loader processes are started as in a process that no server has forked.
    SERVER.set_forkserver_preload(["xmr_e2e.data.loader"])
    gc.freeze()  # of what was imported, the collector would copy every page from the server
    for path, number in ((out, 1), (errors, 2)):
        with open(path, "a") as stream:
            os.dup2(stream.fileno(), number)
    os.environ.clear()  # the server's own is that of whichever test started it
    os.environ.update(environment)
    torch.set_num_threads(1)


def _train(experiment: Experiment, log: Path, prepare: Callable[[], None], environment: Mapping[str, str]) -> None:
    settle(log, log, environment)
    prepare()

    def command() -> int:
        accelerator = make_accelerator(experiment.train)
        setup_logging(is_main=accelerator.is_main_process)
        return run_experiment(experiment, accelerator)

    sys.exit(report_errors(command))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
