"""A recipe's choices: everything about one training, in one frozen dataclass."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import torch
from torch import nn

from xmr_e2e.bounds import MOST, Bounds, Count, Fraction, FractionBelow1, NotNegative, Positive, Seed, check_bounds
from xmr_e2e.configuration import FORMER_VALUES, FORMERLY
from xmr_e2e.data.config import Data
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.protocol import CLEAN, Protocol
from xmr_e2e.methods.base import MethodConfig
from xmr_e2e.methods.protocols import protocol
from xmr_e2e.methods.stages import has_prefix

Minutes = Annotated[float, Bounds(float, above=0, most=525_600)]
"""up to a year: what is beyond it overflows in the libraries that wait"""


Tracker: TypeAlias = Literal[
    "tensorboard", "wandb", "mlflow", "trackio", "comet_ml", "aim", "clearml", "dvclive", "swanlab"
]
"""experiment trackers, by Accelerate's names"""


@dataclass(frozen=True)
class Optimizer:
    """The optimiser of the parameters."""

    kind: Literal["sgd", "adamw"] = field(default="adamw", metadata={FORMER_VALUES: {"adam": "adamw"}})
    """stochastic gradient descent with momentum, or Adam with decoupled weight decay (AdamW)"""
    lr: NotNegative = 1e-4
    """learning rate"""
    weight_decay: NotNegative = 0.0
    momentum: FractionBelow1 = 0.9
    """of sgd"""
    betas: tuple[FractionBelow1, FractionBelow1] = (0.9, 0.999)
    """of adam"""
    lr_overrides: dict[str, NotNegative] = field(default_factory=dict, metadata={FORMERLY: "parts"})
    """other learning rates for parts of the method: the beginning of the parameters' names, and the rate; with
    "STAGE:" before it, in that stage alone ("prior-image:" is all of a stage)"""

    def build(self, model: nn.Module, stage: str) -> torch.optim.Optimizer:
        """torch's optimiser over the parameters that move in this stage; its groups have an "initial_lr".

        It is fused, so that a step can be left out on the device alone.
        """
        groups = self.groups(model, stage)
        if self.kind == "sgd":
            sgd = torch.optim.SGD(groups, momentum=self.momentum, weight_decay=self.weight_decay, fused=True)
            sgd.register_step_pre_hook(_begin_momentum)
            sgd.register_load_state_dict_post_hook(_lay_out)
            return sgd
        adamw = torch.optim.AdamW(groups, betas=self.betas, weight_decay=self.weight_decay, fused=True)
        adamw.register_load_state_dict_post_hook(_lay_out)
        return adamw

    def check(self, model: nn.Module, stages: Sequence[str]) -> None:
        """Raise XmrError for a part that no parameter's name begins with, and for an unknown stage."""
        names = [name for name, _ in model.named_parameters()]
        for key in self.lr_overrides:
            stage, _, part = key.rpartition(":")
            if stage and stage not in stages:
                raise XmrError(
                    f"--optimizer.lr-overrides: {key!r}: there is no stage {stage!r}; there are {', '.join(stages)}"
                )
            if not any(has_prefix(name, part) for name in names):
                tops = sorted({".".join(name.split(".")[: 2 if name.startswith("towers.") else 1]) for name in names})
                raise XmrError(
                    f"--optimizer.lr-overrides: no parameter's name begins with {part!r}; they begin with "
                    f"{', '.join(tops)}"
                )

    def groups(self, model: nn.Module, stage: str) -> list[dict[str, object]]:
        """The parameters by learning rate; what is said for the stage precedes, then the longest matching part."""
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                groups.setdefault((self._rate(name, stage), parameter.ndim == 0), []).append(parameter)
        # A scalar, such as a learned temperature, is no weight of a layer: decay would draw it away from its papers'.
        return [
            {"params": parameters, "lr": rate, "initial_lr": rate, **({"weight_decay": 0.0} if is_scalar else {})}
            for (rate, is_scalar), parameters in groups.items()
        ]

    def _rate(self, name: str, stage: str) -> float:
        for prefix in (f"{stage}:", ""):
            own = {key.removeprefix(prefix): rate for key, rate in self.lr_overrides.items() if key.startswith(prefix)}
            matches = [part for part in own if has_prefix(name, part)]
            if matches:
                return own[max(matches, key=len)]
        return self.lr


def _begin_momentum(optimizer: torch.optim.Optimizer, _arguments: object, _options: object) -> None:
    """Give zeros to parameters without a momentum: after a first step that is left out, fused SGD would begin with
    uninitialised memory."""
    moving = (p for group in optimizer.param_groups if group["momentum"] for p in group["params"])
    for parameter in moving:
        if parameter.grad is not None and optimizer.state[parameter].get("momentum_buffer") is None:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Give moments that come from a file the layout of their parameters, which is the machine's: fused optimizers want
    one for both."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if torch.is_tensor(value) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter).copy_(value)


@dataclass(frozen=True)
class Schedule:
    """Schedule of the learning rates, as a factor that depends on the step alone."""

    kind: Literal["constant", "cosine", "step"] = "constant"
    warmup: Fraction = 0.0
    """share of the training in which the factor rises from 0 to 1"""
    drop_every: Annotated[float, Bounds(float, least=0.001, most=1)] = 0.34
    """for "step": the share of the training after which the factor is divided by 10, each time"""

    def factor(self, progress: float) -> float:
        """Of the learning rates, at `progress` in [0, 1)."""
        if progress < self.warmup:
            return progress / self.warmup
        if self.kind == "constant":
            return 1.0
        done = (progress - self.warmup) / (1 - self.warmup)
        return 0.5 * (1 + math.cos(math.pi * done)) if self.kind == "cosine" else 0.1 ** int(done / self.drop_every)


@dataclass(frozen=True)
class Train:
    """The length and the settings of the training."""

    epochs: Count = 60
    """of each stage"""
    batch_size: Annotated[int, Bounds(int, least=2, most=MOST)] = 100
    """samples of a global batch, over all processes"""
    batch_classes: Count | None = None
    """class-balanced batches: each holds so many classes (P), with batch-size / P samples of each"""
    micro_batches: Count = field(default=1, metadata={FORMERLY: "accumulate"})
    """pieces in which each process sends its part of a batch through the networks; the loss still sees the whole
    batch"""
    micro_pixels: Count | None = None
    """in place of a number of pieces, the most pixels of each (images x height x width)"""
    micro_tokens: Count | None = None
    """in place of a number of pieces, the most tokens of each (texts x the longest of them), which then holds texts of
    like lengths"""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """of the networks; losses are always computed in fp32 or fp64"""
    tf32: bool = False
    """on a GPU: products of the networks in TF32, with 10 bits of mantissa in place of 23, as convolutions are in any
    case; losses stay in fp32, the gradients of their products do not"""
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    """layout of the weights of convolutions: channels_last, in which a pixel's channels lie beside each other as tensor
    cores want them; auto is that on GPUs, and contiguous on CPUs"""
    compile: bool = False
    """compile the towers with torch.compile, which takes minutes at the start; losses and recurrent towers stay as they
    are"""
    clip_norm: Positive | None = None
    """largest norm of the gradient"""
    select: str | None = None
    """the validation figure (average of all directions; of "rsum", the sum) by which the epoch is chosen; "last" keeps
    the last one. By default mAP@all, and rsum where the data have no labels"""
    protocol: str | None = None
    """choice of the epoch and measurement of the test split: "clean"; "captions", each caption an item; "coco5k",
    "coco1k"; or as a released script does it, "released:dscmr", ... (docs/reproduction.md), which then decides instead
    of --train.select. By default clean, and captions where the data have no labels"""
    seed: Seed = 0
    """of the initial weights, the order of the samples, and augmentation"""
    max_skipped_steps: Annotated[int, Bounds(int, least=0)] = 0
    """steps that may be left out, in the whole training, because a loss or gradient was not finite; one more ends it"""
    zero: Literal[0, 1, 2, 3] = 0
    """DeepSpeed's ZeRO stage: what is divided among the processes, the optimiser's state (1), gradients too (2),
    parameters too (3); 0 is DistributedDataParallel, the fastest where a model fits"""
    checkpoint_minutes: Minutes = 10.0
    checkpoint_steps: Count | None = None
    """also after every so many steps"""
    checkpoints_kept: Count = 2
    """the last ones; the best epoch's model is kept beside them"""
    log_with: tuple[Tracker, ...] = ("tensorboard",)
    """experiment trackers: they get configuration, losses and figures; the first four the report's pictures, too, and
    wandb, mlflow and trackio the model. metrics.jsonl is written in any case"""
    report: bool = True
    """draw report.html at the end, which takes seconds, and minutes of large sets; `xmr report RUN` draws it later"""
    timeout_minutes: Minutes = 30.0
    """a process that stands still for so long is named, and the training ends"""
    runs: Path = Path("runs")
    """folder of the run folders"""
    features: str = "auto"
    """folder in which the features of frozen towers are kept, for all runs with the same tower and data; auto: the
    folder "features" in RUNS; none: they are extracted by each run, and kept in memory"""
    name: str | None = None
    """of the run folder, RUNS/RECIPE/NAME; by default the time of the start. A run of this name that exists goes on"""
    resume: Path | None = None
    """a run folder to go on with"""

    def __post_init__(self) -> None:
        self.rules  # noqa: B018  # an unknown protocol is an error from the start
        if self.name:  # "" is what runs of earlier versions have in its place
            check_folder_name("--train.name", self.name)

    @cached_property
    def rules(self) -> Protocol:
        """The protocol of `protocol`: how the epoch is chosen and the test split measured; clean where it is open."""
        return CLEAN if self.protocol is None else protocol(self.protocol)


@dataclass(frozen=True)
class Experiment:
    """One training: a recipe returns it, and every field can be changed on the command line."""

    name: str
    data: Data
    method: MethodConfig
    optimizer: Optimizer = field(metadata={FORMERLY: "optimiser"})
    schedule: Schedule = Schedule()
    train: Train = Train()

    def __post_init__(self) -> None:
        check_bounds(self, "--")
        check_folder_name("--name", self.name)


def check_folder_name(option: str, name: str) -> None:
    """Raise XmrError for what is not the name of one folder, to be seen as such."""
    unseen = any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
    if unseen or not name.strip() or name in (".", "..") or Path(name).name != name:
        raise XmrError(
            f"{option} {name!r} must be the name of a folder, without a path: letters and numbers, neither blank nor "
            "with control characters"
        )
