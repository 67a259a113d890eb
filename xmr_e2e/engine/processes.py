"""How many processes train, and on what."""

from __future__ import annotations

import os
import sys
from datetime import timedelta

import psutil
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import InitProcessGroupKwargs

from xmr_e2e.engine.experiment import Train
from xmr_e2e.engine.zero import zero_plugin
from xmr_e2e.errors import XmrError

# Ranks wait for one that fits word vectors, reads GoogleNews or downloads weights.
PATIENCE = timedelta(hours=1)
_ADVICE = "start them with: torchrun --nproc-per-node N RECIPE"


def make_accelerator(train: Train) -> Accelerator:
    """Accelerate's accelerator for one CPU, one GPU or several processes of either; on CPUs they talk over gloo."""
    has_gpu = torch.cuda.is_available()
    if not has_gpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed would look for others, and warn that it found none
        _start_missing_processes()
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    # DeepSpeed looks after the precision itself.
    precision = "no" if train.precision == "fp32" or train.zero else train.precision
    plugin = zero_plugin(train, world_size) if train.zero else None
    patience = max(PATIENCE, 2 * timedelta(minutes=train.timeout_minutes))
    group = InitProcessGroupKwargs(backend=None if has_gpu else "gloo", timeout=patience)
    # Accelerate takes a named backend for proof of several processes, so it must not be named for one.
    handlers = [group] if world_size > 1 else []
    on_cpu = not has_gpu and not plugin  # with which Accelerate would pass over the plugin and say nothing
    return Accelerator(cpu=on_cpu, mixed_precision=precision, kwargs_handlers=handlers, deepspeed_plugin=plugin)


def is_lost_connection(error: RuntimeError) -> bool:
    """Whether a collective failed because another process is gone; gloo says so in words alone."""
    words = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Application timeout")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)


def _start_missing_processes() -> None:
    """Start the processes that `accelerate launch --num_processes N` was asked for and, without a GPU, did not start.

    There it runs the script once and says nothing. What it leaves behind is a MASTER_ADDR without a WORLD_SIZE; how
    many were wanted stands on its command line alone. torchrun, by which it starts processes on GPUs, then takes this
    process's place.
    """
    if "MASTER_ADDR" not in os.environ or "WORLD_SIZE" in os.environ:
        return
    options = _options_of_accelerate()
    if options is None:
        return
    count = launch_command_parser().parse_args(options).num_processes
    if count is None:
        raise XmrError(f"accelerate launch started one process where its configuration asks for several; {_ADVICE}")
    # Its address and port are those of a group that does not exist.
    environment = {name: value for name, value in os.environ.items() if name not in ("MASTER_ADDR", "MASTER_PORT")}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    os.execve(sys.executable, [sys.executable, *torchrun, *sys.argv], environment)


def _options_of_accelerate() -> list[str] | None:
    """What follows `accelerate launch` on the parent's command line; None if the parent is something else."""
    parent = psutil.Process().parent()
    words = parent.cmdline() if parent else []
    starts = [place for place, word in enumerate(words) if word.endswith(("launch", "commands/launch.py"))]
    return words[starts[0] + 1 :] if starts and any("accelerate" in word for word in words[: starts[0] + 1]) else None
