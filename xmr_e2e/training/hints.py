"""Options that other tools have: which of ours does the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xmr_e2e.configuration import current_name
from xmr_e2e.errors import XmrError
from xmr_e2e.runs.experiment import Experiment

_PROCESSES = "one process for each GPU is started by: accelerate launch --num_processes N RECIPE"
_DEVICE = (
    "a GPU is taken where there is one; CUDA_VISIBLE_DEVICES=0 before the command chooses among several, "
    "CUDA_VISIBLE_DEVICES= takes the CPU"
)
_DATA = "--data.shards"
_OURS = {
    ("device", "cuda", "cpu", "gpu", "gpu-id", "no-cuda"): _DEVICE,
    ("gpus", "num-gpus", "ngpus", "n-gpus", "devices", "nproc", "num-processes", "distributed", "ddp"): _PROCESSES,
    ("lr", "learning-rate"): "--optimizer.lr",
    ("wd", "weight-decay"): "--optimizer.weight-decay",
    ("momentum",): "--optimizer.momentum",
    ("optim", "optimizer", "optimiser"): "--optimizer.kind",
    ("scheduler", "lr-scheduler", "lr-scheduler-type"): "--schedule.kind",
    ("warmup", "warmup-ratio", "warmup-steps", "warmup-epochs"): "--schedule.warmup (a share of the training)",
    ("epochs", "num-epochs", "max-epochs", "num-train-epochs", "n-epochs"): "--train.epochs",
    ("batch-size", "bs", "batchsize", "per-device-train-batch-size", "train-batch-size"): (
        "--train.batch-size (samples over all processes)"
    ),
    ("accumulate", "grad-accum", "gradient-accumulation-steps", "accumulate-grad-batches"): "--train.micro-batches",
    ("fp16", "half"): "--train.precision fp16",
    ("bf16", "amp", "mixed-precision"): "--train.precision bf16",
    ("precision",): "--train.precision",
    ("compile", "torch-compile"): "--train.compile",
    ("tf32", "allow-tf32"): "--train.tf32",
    ("channels-last",): "--train.memory-format channels_last",
    ("clip-grad", "grad-clip", "max-grad-norm", "gradient-clip-val", "clip-norm"): "--train.clip-norm",
    ("seed", "random-seed"): "--train.seed",
    ("resume", "resume-from-checkpoint", "checkpoint", "ckpt", "load"): "--train.resume",
    ("output", "output-dir", "out", "save-dir", "log-dir", "logdir", "runs"): "--train.runs, and --train.name within",
    ("run-name", "exp-name", "experiment-name"): "--train.name",
    ("data", "dataset", "data-dir", "data-path", "data-root", "train-data", "shards"): _DATA,
    ("workers", "num-workers", "dataloader-num-workers"): "--data.workers",
    ("img-size", "image-size", "imgsz", "input-size", "resolution"): "--data.image-size",
    ("dim", "embed-dim", "embedding-dim", "hidden"): "--method.dim (--help-all shows all of the method's own)",
    ("deepspeed", "zero", "fsdp"): "--train.zero",
}
_BY_NAME = {name: ours for names, ours in _OURS.items() for name in names}


def check_foreign_options(args: Sequence[str]) -> None:
    """Raise XmrError for options by their usual names elsewhere, with what they are here."""
    renamed = [f"{option} is now {ours}" for option, ours in _renamed(args)]
    if renamed:
        raise XmrError(f"options have new names: {'; '.join(renamed)}")
    hints = [f"{option}: {ours}" for option, ours in _found(args)]
    if hints:
        raise XmrError(f"unknown options; here, {'; '.join(hints)}")


def _renamed(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options by the names that they had in earlier versions, and as they are called now."""
    for word in args:
        option = word.partition("=")[0]
        if option.startswith("--"):
            name = option.removeprefix("--").replace("-", "_")
            now = current_name(Experiment, name)
            if "." in name and now != name:
                yield option, f"--{now.replace('_', '-')}"


def _found(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    for word in args:
        option = word.partition("=")[0]
        name = option.removeprefix("--").replace("_", "-").lower()
        if option.startswith("--") and name in _BY_NAME:
            yield option, _BY_NAME[name]
