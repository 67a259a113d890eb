"""`accelerate launch` and `accelerate config`: what they were asked for is taken over, or refused with our option.

Accelerate hands its settings to the program in environment variables, and some not at all: those stand on its own
command line, or in the file that `accelerate config` wrote.
"""

from __future__ import annotations

import logging
import os
import sys
from argparse import Namespace
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

import psutil
from accelerate.commands.config.config_args import default_config_file, load_config_from_file
from accelerate.commands.launch import launch_command_parser

from xmr_e2e.devices import uses_gpu
from xmr_e2e.errors import XmrError
from xmr_e2e.escape import shell
from xmr_e2e.runs.experiment import Train

logger = logging.getLogger(__name__)

REFUSED = {
    "ACCELERATE_USE_FSDP": "--use_fsdp: what FSDP divides among the processes is divided here by --train.zero 1, 2 or "
    "3 (DeepSpeed's ZeRO)",
    "ACCELERATE_USE_MEGATRON_LM": "--use_megatron_lm: there is no Megatron-LM here; networks that are too large for "
    "one GPU are divided by --train.zero 3",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "--use_parallelism_config: there is no tensor or context parallelism here; "
    "networks that are too large for one GPU are divided by --train.zero 3",
    "ACCELERATE_DEEPSPEED_ZERO3_INIT": "--zero3_init_flag: each process builds the networks whole, and ZeRO divides "
    "them afterwards; set it to false",
}
"""switches of Accelerate that no training here can follow, and what there is instead"""
_ELSEWHERE = "It comes from `accelerate launch`, or from the file that `accelerate config` wrote"
_OFFLOAD = ("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE")
_NOTHING = ("", "none", "no", "auto", "false", "0")


def take_over(train: Train, given: Collection[str] = ()) -> Train:
    """The training's options with what Accelerate's launcher was asked for.

    Args:
        given: options of the recipe's own command line, such as "--train.precision", which decide.

    Raises:
        XmrError: a setting that cannot be followed, or that contradicts an option; says which option to use. Processes
            that the launcher did not start; says what to type.
    """
    launch = asked_of_accelerate()
    for variable, reason in REFUSED.items():
        if _value(variable) in ("true", "1", "yes"):
            _refuse(reason)
    if (backend := _value("ACCELERATE_DYNAMO_BACKEND")) not in _NOTHING:
        _refuse(
            f"--dynamo_backend {backend}: a step sees the whole batch and changes from step to step, so that "
            "torch.compile would compile it again and again; launch with --dynamo_backend no, and compile the towers "
            "with --train.compile"
        )
    asked = train.precision
    train = _with_precision(train, given)
    train = _with_deepspeed(train, given)
    _check_accumulation(train, launch)
    if not uses_gpu() and launch is not None:
        options = [] if train.precision == asked else ["--train.precision", train.precision]
        _refuse_missing_processes(launch, options)
    return train


def _with_precision(train: Train, given: Collection[str]) -> Train:
    asked = _value("ACCELERATE_MIXED_PRECISION")
    if asked in _NOTHING or asked == train.precision:
        return train
    known = get_args(get_type_hints(Train)["precision"])
    if asked not in known:
        _refuse(f"--mixed_precision {asked}: this precision is not supported; --train.precision is one of {known}")
    if "--train.precision" in given or train.precision != "fp32":
        _refuse(
            f"--mixed_precision {asked} contradicts --train.precision {train.precision}: name the same in both, or "
            "launch with --mixed_precision no"
        )
    _say("--train.precision %s, as accelerate's --mixed_precision has it", asked)
    return replace(train, precision=asked)  # type: ignore[arg-type]


def _with_deepspeed(train: Train, given: Collection[str]) -> Train:
    if _value("ACCELERATE_USE_DEEPSPEED") not in ("true", "1", "yes"):
        return train
    if (file := os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")).lower() not in _NOTHING:
        _refuse(
            f"--deepspeed_config_file {file}: DeepSpeed's configuration is made from the training's own options; say "
            "--use_deepspeed --zero_stage N instead, or --train.zero N alone"
        )
    for variable in _OFFLOAD:
        if _value(variable) not in _NOTHING:
            name = variable.removeprefix("ACCELERATE_DEEPSPEED_").lower()
            _refuse(f"--{name} {_value(variable)}: nothing is offloaded here; set it to none, and use --train.zero 3")
    said = _value("ACCELERATE_DEEPSPEED_ZERO_STAGE")
    stage = int(said) if said.isdigit() else 2  # Accelerate's own default
    if train.zero != stage and (train.zero or "--train.zero" in given):
        _refuse(f"--zero_stage {stage} contradicts --train.zero {train.zero}: name the same in both")
    clip = _value("ACCELERATE_GRADIENT_CLIPPING")
    if clip not in _NOTHING and float(clip) != train.clip_norm:
        if train.clip_norm is not None:
            _refuse(f"--gradient_clipping {clip} contradicts --train.clip-norm {train.clip_norm}: name the same")
        _say("--train.clip-norm %s, as accelerate's --gradient_clipping has it", clip)
        train = replace(train, clip_norm=float(clip))
    if stage == 0:
        os.environ["ACCELERATE_USE_DEEPSPEED"] = "false"  # ZeRO divides nothing: plain DistributedDataParallel
    elif not train.zero:
        _say("--train.zero %d, as accelerate's --use_deepspeed has it", stage)
    return replace(train, zero=stage)  # type: ignore[arg-type]


def _check_accumulation(train: Train, launch: Namespace | None) -> None:
    asked = _value("ACCELERATE_GRADIENT_ACCUMULATION_STEPS")
    steps = asked if asked not in _NOTHING else str(getattr(launch, "gradient_accumulation_steps", None) or 1)
    if int(steps) not in (1, train.micro_batches):
        _refuse(
            f"--gradient_accumulation_steps {steps}: here a batch of --train.batch-size samples goes through the "
            f"networks in --train.micro-batches {steps} pieces, and the loss still sees all of it; use that option"
        )
    # Accelerate would divide each loss by it; the pieces of a batch add up to one loss here.
    os.environ.pop("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", None)


def asked_of_accelerate() -> Namespace | None:
    """The options of the `accelerate launch` that has started this process, with those of its configuration file; None
    where something else has."""
    words = _words_of_accelerate()
    if words is None:
        return None
    options = launch_command_parser().parse_args(words)
    for name, value in _configured(options.config_file).items():
        if getattr(options, name, None) is None:
            setattr(options, name, value)
    return options


def _configured(path: str | None) -> Mapping[str, Any]:
    if path is None and not Path(default_config_file).is_file():
        return {}
    settings = vars(load_config_from_file(path))
    return {**settings, **(settings.get("deepspeed_config") or {})}


def _words_of_accelerate() -> list[str] | None:
    """Arguments after `accelerate launch` on the parent's command line; None if the parent is something else."""
    parent = psutil.Process().parent()
    try:
        words = parent.cmdline() if parent else []
    except psutil.Error:  # another user's, such as sudo, whose command line is not shown everywhere
        return None
    starts = [place for place, word in enumerate(words) if word.endswith(("launch", "commands/launch.py"))]
    return words[starts[0] + 1 :] if starts and any("accelerate" in word for word in words[: starts[0] + 1]) else None


def _refuse_missing_processes(launch: Namespace, options: Sequence[str]) -> None:
    """Raise XmrError where `accelerate launch --num_processes N` was asked for processes that it did not start.

    Without GPUs it runs the script once on each machine and says nothing; torchrun starts them.

    Args:
        options: of the recipe, that stand for settings of Accelerate which torchrun does not know.
    """
    if "WORLD_SIZE" in os.environ:
        return
    count, machines = launch.num_processes or 1, launch.num_machines or 1
    if count <= 1 and machines <= 1:
        return
    if count % machines:
        raise XmrError(
            f"--num_processes {count} is the number of all processes, and cannot be divided among --num_machines "
            f"{machines}"
        )
    on_cpu = "ACCELERATE_USE_CPU=true " if _value("ACCELERATE_USE_CPU") in ("true", "1", "yes") else ""
    command = shell("torchrun", *_meeting_place(launch), "--nproc-per-node", count // machines, *sys.argv, *options)
    _refuse(
        f"--num_processes {count}: without GPUs, `accelerate launch` starts one process on each machine. Type: "
        f"`{on_cpu}{command}`"
    )


def _meeting_place(launch: Namespace) -> list[str]:
    """The options of torchrun that say where its processes meet those of other machines."""
    machines = launch.num_machines or 1
    if machines == 1:
        return ["--standalone"]
    address, port = launch.main_process_ip, launch.main_process_port
    if not address or not port:
        raise XmrError(
            f"--num_machines {machines} needs --main_process_ip and --main_process_port, at which the machines meet: "
            "the address of the one with --machine_rank 0, and a free port there"
        )
    where = ["--master-addr", str(address), "--master-port", str(port)]
    return ["--nnodes", str(machines), "--node-rank", str(launch.machine_rank or 0), *where]


def _value(variable: str) -> str:
    return os.environ.get(variable, "").lower()


def _say(message: str, value: object) -> None:
    if os.environ.get("RANK", "0") == "0":
        logger.info(message, value)


def _refuse(reason: str) -> NoReturn:
    raise XmrError(f"{reason}. {_ELSEWHERE} ({default_config_file})")
