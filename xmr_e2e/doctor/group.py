"""Processes that add up a tensor, as the ranks of a training do at every step."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import Store

from xmr_e2e.doctor.finding import Finding, problem

PATIENCE = 60.0
"""seconds in which all processes must have come, and in which they must have added up their tensors"""
_ADVICE = {
    "gloo": "Look at GLOO_SOCKET_IFNAME, and whether this machine's own name has an address (getent hosts $HOSTNAME)",
    "nccl": "NCCL_DEBUG=INFO shows where it hangs; NCCL_SOCKET_IFNAME chooses the network",
}


@dataclass(frozen=True)
class ProcessInfo:
    """The place of this process among a launcher's; 0 of 1 without a launcher."""

    rank: int = 0
    local_rank: int = 0
    """of those of this machine"""
    world_size: int = 1


def rank_and_world_size() -> ProcessInfo:
    """As torchrun, accelerate and slurm/rank.sh say it."""
    rank, local_rank, world_size = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    return ProcessInfo(int(rank or 0), int(local_rank or 0), int(world_size or 1))


def check_local_group() -> Finding:
    """An all-reduce of processes on this machine: one on each GPU where there are several, else two on the CPU."""
    gpus = torch.cuda.device_count()
    backend, count = ("nccl", gpus) if gpus > 1 else ("gloo", 2)
    # Forks of a process that has imported torch, and has not used a GPU: a fork of one that has could not use it.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch.distributed"])
    with tempfile.TemporaryDirectory(prefix="xmr-doctor-") as folder:
        answers, processes = [], []
        for rank in range(count):
            answer, question = context.Pipe(duplex=False)
            arguments = (backend, f"{folder}/store", ProcessInfo(rank, rank, count), dict(os.environ), question)
            processes.append(context.Process(target=_answer, args=arguments, daemon=True))
            processes[-1].start()
            question.close()
            answers.append(answer)
        deadline = time.monotonic() + PATIENCE + 1  # theirs is PATIENCE
        complaints = [_complaint(answer, deadline) for answer in answers]
        for process in processes:
            process.kill()
            process.join()
    return sum_finding(backend, count, next(filter(None, complaints), ""))


def _complaint(answer: Connection, deadline: float) -> str:
    try:
        if answer.poll(max(0.0, deadline - time.monotonic())):
            return str(answer.recv())
    except EOFError:
        return "a process ended without an answer"
    return f"no answer within {PATIENCE:.0f} s"


def _answer(backend: str, store: str, place: ProcessInfo, environment: dict[str, str], question: Connection) -> None:
    os.environ.clear()  # what the server that forks had when it was started
    os.environ.update(environment)
    shared = dist.FileStore(store, place.world_size)
    question.send(add_up(backend, shared, place))


def add_up(backend: str, store: Store, place: ProcessInfo) -> str:
    """One all-reduce with all processes; what went wrong, or nothing."""
    complaints: list[str] = []

    def run() -> None:
        try:
            complaints.append(_add_up(backend, store, place))
        except RuntimeError as error:
            complaints.append(str(error).strip().partition("\n")[0])

    # In a thread of its own: NCCL waits for a process that is missing in a call that does not come back.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return complaints[0] if complaints else f"no sum within {PATIENCE:.0f} s"


def _add_up(backend: str, store: Store, place: ProcessInfo) -> str:
    device = torch.device("cpu")
    if backend == "nccl":
        device = torch.device("cuda", place.local_rank)
        torch.cuda.set_device(device)
    # Longer than the thread is waited for: at its end NCCL ends the whole process.
    timeout = timedelta(seconds=2 * PATIENCE)
    dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.world_size, timeout=timeout)
    try:
        numbers = torch.full((1000,), place.rank + 1.0, device=device)
        dist.all_reduce(numbers)
        expected = place.world_size * (place.world_size + 1) / 2
        return "" if numbers.eq(expected).all() else f"the sum is {numbers[0].item()} and not {expected}"
    finally:
        dist.destroy_process_group()


def sum_finding(backend: str, count: int, complaint: str) -> Finding:
    if complaint:
        return problem("all-reduce", f"{count} processes over {backend}: {complaint}. {_ADVICE[backend]}")
    return Finding("all-reduce", f"{count} processes over {backend} add up what they should")
