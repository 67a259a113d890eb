"""The equipment of a machine: GPUs, cores, memory, disks, a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from xmr_e2e.cgroups import CGROUPS, MEMBERSHIP, core_quota, cores_to_run_on, own_groups
from xmr_e2e.data.workers import SHARED_MEMORY, check_semaphores
from xmr_e2e.doctor.finding import Finding, in_words, note, problem
from xmr_e2e.errors import XmrError

LITTLE_MEMORY = 4e9
"""bytes; one process with torch and its loader needs about as much"""
LITTLE_SHARED_MEMORY = 1e9
LITTLE_DISK = 5e9


def check_machine(runs: Path) -> Iterator[Finding]:
    """runs: the folder of the run folders, which need not exist yet."""
    yield from check_gpus()
    yield check_cores(cores_to_run_on(), os.cpu_count() or 1, core_quota())
    yield check_memory()
    yield check_shared_memory(SHARED_MEMORY)
    yield check_disk("run folder", runs)
    yield check_disk("temp folder", Path(tempfile.gettempdir()))
    if not torch.cuda.is_available():
        yield check_compiler()


def check_gpus() -> Iterator[Finding]:
    installed = _installed_gpus()
    count = torch.cuda.device_count()
    if not count and installed:
        yield problem("GPU", f"nvidia-smi shows {installed}, and torch sees none: {_why_unseen()}")
    elif not count:
        yield Finding("GPU", "none: networks run on the CPU")
    for number in range(count):
        free, total = torch.cuda.mem_get_info(number)
        text = f"{number}: {torch.cuda.get_device_name(number)}, {in_words(total)}"
        if free < 0.8 * total:
            yield note("GPU", f"{text}; {in_words(total - free)} of it are in use: see nvidia-smi")
        else:
            yield Finding("GPU", text)


def check_cores(own: int, machine: int, quota: float | None = None) -> Finding:
    """The finding on the cores by whose number threads, loader and builders go.

    Args:
        own: those on which this process may run.
        quota: as many cores' time it may take; None for no bound.
    """
    if quota is not None and quota < own:
        return _of_quota(own, machine, quota)
    if own == machine:
        return Finding("cores", str(own))
    if own > 1:
        return Finding("cores", f"{own} of the machine's {machine}")
    return problem(
        "cores",
        f"this process may use 1 of the machine's {machine} cores, and networks and loader share it. Under Slurm: "
        "srun --cpus-per-task N, or --cpu-bind=none as slurm/train.sh has it; elsewhere look for taskset",
    )


def _of_quota(own: int, machine: int, quota: float) -> Finding:
    text = f"a quota of this container or job allows the time of {quota:g} of the machine's {machine} cores"
    if quota >= 2:
        return Finding("cores", f"{text}; threads and loader processes are as many")
    return problem(
        "cores",
        f"{text}, and networks and loader share it, though this process may run on {own}. In a container: --cpus N; "
        "in Kubernetes: limits.cpu",
    )


def check_memory() -> Finding:
    total, limit = psutil.virtual_memory().total, memory_limit()
    available = available_memory()
    text = f"{in_words(available)} of {in_words(total)} available"
    if limit < total:
        text = f"{in_words(available)} available; this job may use {in_words(limit)} of the machine's {in_words(total)}"
    if available < LITTLE_MEMORY:
        return note("memory", f"{text}: little for torch and its loader. Under Slurm, ask for more with --mem")
    return Finding("memory", text)


def check_shared_memory(folder: Path) -> Finding:
    """The loader's processes hand over their batches through it."""
    try:
        check_semaphores()
    except XmrError as error:
        return problem(str(folder), str(error))
    if not folder.exists():
        return Finding(str(folder), "not there; the loader does without")
    usage = shutil.disk_usage(folder)
    text = f"{in_words(usage.free)} of {in_words(usage.total)} free"
    if usage.free < LITTLE_SHARED_MEMORY:
        return note(
            str(folder),
            f"{text}; the loader's processes hand over their batches through it. In a container: --shm-size 8g or "
            "--ipc=host; or train with --data.workers 0",
        )
    return Finding(str(folder), text)


def check_disk(about: str, folder: Path) -> Finding:
    place = existing(folder)
    free = shutil.disk_usage(place).free
    text = f"{in_words(free)} free in {place.resolve()}"
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        return problem(about, f"nothing can be written to {place.resolve()}: {error.strerror}")
    return note(about, f"{text}: little") if free < LITTLE_DISK else Finding(about, text)


def check_compiler() -> Finding:
    """Only a note: DeepSpeed compiles its optimiser at first use on a CPU; all else does without."""
    missing = [name for name in ("g++", "ninja") if not shutil.which(name)]
    if missing:
        return note(
            "compiler", f"{' and '.join(missing)} not found: on a CPU, DeepSpeed (--train.zero) needs g++ and ninja"
        )
    return Finding("compiler", "g++ and ninja, which DeepSpeed (--train.zero) needs on a CPU")


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def available_memory() -> int:
    """Bytes that this process and its children can still take without swapping."""
    available = psutil.virtual_memory().available
    return min([available, *(limit - used for limit, used in memory_limits())])


def memory_limit() -> int:
    """Bytes that this process may use: all of the machine's, or what Slurm or a container allows."""
    limits = (limit for limit, _ in memory_limits())
    return min([psutil.virtual_memory().total, *limits])


def memory_limits(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> Iterator[tuple[int, int]]:
    """Limit and use in bytes of each memory group that holds this process.

    What a file cache takes is not counted: it yields.
    """
    of_version = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }
    for version, group in own_groups("memory", cgroups, membership):
        names = of_version[version]
        if (group / names[0]).exists():
            limit = (group / names[0]).read_text().strip()
            statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            used = int((group / names[1]).read_text()) - int(statistics[names[2]])
            if limit != "max":
                yield int(limit), used


def _installed_gpus() -> int:
    """The number of GPUs that nvidia-smi sees, whether or not torch can use them."""
    if not shutil.which("nvidia-smi"):
        return 0
    result = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    return len(result.stdout.splitlines()) if result.returncode == 0 else 0


def _why_unseen() -> str:
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return f"CUDA_VISIBLE_DEVICES is {os.environ['CUDA_VISIBLE_DEVICES']!r}"
    if torch.version.cuda is None:
        return "this torch is a wheel for CPUs; install one with CUDA"
    return f"this torch is for CUDA {torch.version.cuda}, for which the driver may be too old"
