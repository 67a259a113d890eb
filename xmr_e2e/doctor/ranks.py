"""Check that several processes can train together: who came, on what, and one all-reduce with all of them."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store

from xmr_e2e.cgroups import available_cores
from xmr_e2e.doctor.finding import Finding, counted, problem
from xmr_e2e.doctor.group import PATIENCE, ProcessInfo, add_up, sum_finding
from xmr_e2e.doctor.libraries import versions

_KEY = "xmr doctor/"


@dataclass(frozen=True)
class Member:
    """The account of itself that a process gives the others."""

    rank: int
    host: str
    device: str
    """the GPU's name; empty for a CPU"""
    cores: int
    versions: dict[str, str]
    findings: list[Finding]


def check_launcher(place: ProcessInfo) -> Iterator[Finding]:
    """Tasks of srun that do not know of each other."""
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if place.world_size == 1 and tasks > 1:
        yield problem(
            "processes", f"srun started {tasks} tasks that do not know of each other (WORLD_SIZE is not set): each "
            "would train by itself. Start them with slurm/train.sh"
        )  # fmt: skip


def meet(place: ProcessInfo, findings: Sequence[Finding]) -> list[Finding]:
    """Meet the launcher's other processes; every rank calls it.

    Args:
        findings: what this rank found out about its machine, for rank 0.

    Returns:
        on rank 0, what all ranks have to say; on another rank, what keeps it from saying it.
    """
    try:
        store = _store(place)
        own = _introduce(place, findings)
        store.set(f"{_KEY}{place.rank}", json.dumps(asdict(own)))
        return _lead(store, place) if place.rank == 0 else _follow(store, place)
    except RuntimeError as error:  # torch.distributed's errors are of this kind
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        complaint = str(error).strip().partition("\n")[0]
        text = f"rank {place.rank} on {socket.gethostname()} does not reach the others at {address}: {complaint}"
        return [problem("processes", text)]


def _store(place: ProcessInfo) -> Store:
    """The store at which the training's processes will meet; torchrun has opened it already."""
    return dist.TCPStore(
        os.environ.get("MASTER_ADDR", "localhost"),
        int(os.environ.get("MASTER_PORT", "29500")),
        place.world_size,
        is_master=place.rank == 0 and not dist.is_torchelastic_launched(),
        timeout=timedelta(seconds=PATIENCE),
        wait_for_workers=False,  # so that those that are missing can be named
    )


def _introduce(place: ProcessInfo, findings: Sequence[Finding]) -> Member:
    gpus, device, own = torch.cuda.device_count(), "", list(findings)
    if place.local_rank < gpus:
        device = torch.cuda.get_device_name(place.local_rank)
    elif gpus:
        sees = f"rank {place.rank} has LOCAL_RANK {place.local_rank} and sees {counted(gpus, 'GPU')}"
        own.append(problem("GPU", f"{sees}: give each task all of the node's (--gpus-per-node, not --gpus-per-task)"))
    return Member(place.rank, socket.gethostname(), device, available_cores(), versions(), own)


def _lead(store: Store, place: ProcessInfo) -> list[Finding]:
    members, missing = _gathered(store, place.world_size)
    backend = "" if missing else _backend(members)
    store.set(f"{_KEY}backend", backend or "none")
    findings = list(describe(members))
    if missing:
        ranks = ", ".join(map(str, missing))
        findings.append(problem("processes", f"of {place.world_size} processes, rank {ranks} did not come within "
                                f"{PATIENCE:.0f} s; the launcher's log says why"))  # fmt: skip
    elif backend:
        complaint = add_up(backend, PrefixStore(_KEY, store), place)
        findings.append(sum_finding(backend, place.world_size, complaint))
    return findings


def _follow(store: Store, place: ProcessInfo) -> list[Finding]:
    store.wait([f"{_KEY}backend"], timedelta(seconds=2 * PATIENCE))
    backend = store.get(f"{_KEY}backend").decode()
    complaint = "" if backend == "none" else add_up(backend, PrefixStore(_KEY, store), place)
    return [problem("all-reduce", f"rank {place.rank} on {socket.gethostname()}: {complaint}")] if complaint else []


def _gathered(store: Store, world_size: int) -> tuple[list[Member], list[int]]:
    """Those that came, and the ranks that did not."""
    deadline = time.monotonic() + PATIENCE
    members, missing = [], []
    for rank in range(world_size):
        try:
            store.wait([f"{_KEY}{rank}"], timedelta(seconds=max(0.1, deadline - time.monotonic())))
        except RuntimeError:
            missing.append(rank)
        else:
            members.append(_member(json.loads(store.get(f"{_KEY}{rank}"))))
    return members, missing


def _member(document: dict[str, Any]) -> Member:
    return Member(**{**document, "findings": [Finding(**finding) for finding in document["findings"]]})


def _backend(members: Sequence[Member]) -> str:
    """That of the training; empty where some have a GPU and some have none, as they could not train together."""
    have = {bool(member.device) for member in members}
    return "" if len(have) > 1 else "nccl" if True in have else "gloo"


def describe(members: Sequence[Member]) -> Iterator[Finding]:
    """A line for each host, what its processes found wrong there, and in what they differ."""
    hosts: dict[str, list[Member]] = {}
    for member in members:
        hosts.setdefault(member.host, []).append(member)
    for host, here in hosts.items():
        ranks = ", ".join(str(member.rank) for member in here)
        devices = ", ".join(sorted({member.device or "CPU" for member in here}))
        cores = " or ".join(sorted({counted(member.cores, "core") for member in here}))
        yield Finding("processes", f"{host}: rank {ranks} on {devices}, {cores} to use")
    for member in members:
        # Rank 0 shows all that it found itself.
        told = [finding for finding in member.findings if member.rank and finding.level != "ok"]
        yield from (Finding(found.about, f"{member.host}: {found.text}", found.level) for found in told)
    without = [str(member.rank) for member in members if not member.device]
    if 0 < len(without) < len(members):
        yield problem("GPU", f"rank {', '.join(without)} have none, the others have: they cannot train together")
    for name, version in members[0].versions.items() if members else []:
        others = {member.versions[name]: member.host for member in members if member.versions[name] != version}
        for other, host in others.items():
            yield problem("libraries", f"{name} is {version} on {members[0].host} and {other} on {host}: "
                          "give all nodes the same environment")  # fmt: skip
