"""The processes of a training, and their devices."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import InitProcessGroupKwargs
from torch import nn

from xmr_e2e.allocation import keep_freed_memory
from xmr_e2e.devices import uses_gpu
from xmr_e2e.distributed import meet_over_hosts
from xmr_e2e.errors import XmrError
from xmr_e2e.runs.experiment import Train
from xmr_e2e.training.threads import share_cores
from xmr_e2e.training.zero import zero_plugin

# Ranks wait for one that fits word vectors, reads GoogleNews or downloads weights.
PATIENCE = timedelta(hours=1)
_GROUP = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_ADVICE = "start the processes with: torchrun --nproc-per-node N RECIPE"


def make_accelerator(train: Train) -> Accelerator:
    """Accelerate's accelerator for one CPU, one GPU or several processes of either; on CPUs they talk over gloo.

    Raises:
        XmrError: the environment does not say where the processes meet, or there are more of them than GPUs.
    """
    world_size = _world_size()
    share_cores()
    has_gpu = uses_gpu()
    if has_gpu:
        _check_gpus()
    else:
        keep_freed_memory()
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed would look for others, and warn that it found none
    # DeepSpeed looks after the precision itself.
    precision = "no" if train.precision == "fp32" or train.zero else train.precision
    plugin = zero_plugin(train, world_size) if train.zero else None
    patience = max(PATIENCE, 2 * timedelta(minutes=train.timeout_minutes))
    group = InitProcessGroupKwargs(backend=None if has_gpu else "gloo", timeout=patience)
    # Accelerate takes a named backend for proof of several processes, so it must not be named for one.
    handlers = [group] if world_size > 1 else []
    on_cpu = not has_gpu and not plugin  # with which Accelerate would pass over the plugin and say nothing
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=precision, kwargs_handlers=handlers, deepspeed_plugin=plugin)
    meet_over_hosts(patience)
    return accelerator


def _world_size() -> int:
    """The number of processes of the training, from the environment; one process needs no meeting place.

    Raises:
        XmrError: there are several, and it is not said where they meet or which of them this one is.
    """
    said = os.environ.get("WORLD_SIZE", "1")
    if not said.isdigit() or not int(said):
        raise XmrError(f"WORLD_SIZE={said} in the environment is no number of processes; unset it, or {_ADVICE}")
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "RANK") if name not in os.environ]
    if missing and int(said) > 1:
        raise XmrError(
            f"WORLD_SIZE={said} in the environment says that {said} processes train together, and there is no "
            f"{' and no '.join(missing)} by which they meet; unset WORLD_SIZE for one process, or {_ADVICE}"
        )
    if missing:
        for name in _GROUP:
            os.environ.pop(name, None)
    return int(said)


def _check_gpus() -> None:
    local, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if local > gpus:
        raise XmrError(
            f"{local} processes on this machine, and {gpus} GPU(s): each process needs one of its own. Start {gpus}, "
            "or train on the CPU cores: accelerate launch --cpu, or CUDA_VISIBLE_DEVICES= before the command"
        )


def unwrapped(accelerator: Accelerator, model: nn.Module, *, at_end: bool = False) -> nn.Module:
    """The module that Accelerate was given to prepare.

    Accelerate's own `unwrap_model` imports DeepSpeed wherever it is installed, which takes seconds of each process.

    Args:
        at_end: it is to be as before; without Accelerate's precision around its forward pass.
    """
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        module: nn.Module = accelerator.unwrap_model(model, keep_fp32_wrapper=not at_end)
        return module
    module = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    if at_end and vars(module).pop("_original_forward", None):
        del module.forward
    return module
