"""DeepSpeed's ZeRO: its configuration, and what it does differently from DistributedDataParallel.

Parameters stay in fp32 and the networks run under autocast, as without DeepSpeed, so that a saved model is the same
kind of thing whatever it was trained with.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from xmr_e2e.errors import XmrError
from xmr_e2e.extras import require_extra
from xmr_e2e.methods.finite import FiniteChecks
from xmr_e2e.runs.experiment import Train

if TYPE_CHECKING:
    from accelerate import DeepSpeedPlugin

DTYPES = {"bf16": "bfloat16", "fp16": "float16"}


def zero_plugin(train: Train, world_size: int) -> DeepSpeedPlugin:
    """The plugin that Accelerate needs to train with DeepSpeed.

    Raises:
        XmrError: options that do not go together with ZeRO, or DeepSpeed is not installed.
    """
    if world_size == 1:
        raise XmrError(
            f"--train.zero {train.zero} divides the training's state among several processes, and there is one: set "
            "--train.zero 0, or start more (torchrun --nproc-per-node N RECIPE)"
        )
    options = {"batches": train.micro_batches > 1, "pixels": train.micro_pixels, "tokens": train.micro_tokens}
    for name in [name for name, given in options.items() if given]:
        raise XmrError(f"--train.micro-{name} needs --train.zero 0: DeepSpeed has no room for cached representations")
    require_extra("deepspeed", f"--train.zero {train.zero}")
    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"  # by which DeepSpeed is told; it cannot be configured
    from accelerate import DeepSpeedPlugin

    return DeepSpeedPlugin(hf_ds_config=configuration(train, world_size))


def configuration(train: Train, world_size: int) -> dict[str, Any]:
    """DeepSpeed's configuration. Batches come from our own loader: their size is named for DeepSpeed's books alone."""
    return {
        "train_micro_batch_size_per_gpu": max(1, train.batch_size // world_size),
        "gradient_accumulation_steps": 1,
        "gradient_clipping": train.clip_norm or 0.0,
        "zero_optimization": {
            "stage": train.zero,
            "contiguous_gradients": True,
            "overlap_comm": torch.cuda.is_available(),
            "stage3_gather_16bit_weights_on_model_save": True,
        },
        "torch_autocast": {"enabled": train.precision != "fp32", "dtype": DTYPES.get(train.precision, "bfloat16")},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31,
    }


def look_at_overflow(engine: Any, checks: FiniteChecks) -> None:
    """Have DeepSpeed's gradients looked at; its scaler looks after those of fp16. Waits for the device."""
    scaled = engine.optimizer.torch_autocast_gradscaler is not None
    if not scaled and engine.optimizer.has_overflow():
        checks.look_at({"the gradients": torch.tensor(torch.nan, device=engine.device)})


def read_without_pickle(engine: Any) -> None:
    """Let the engine read checkpoints as torch does: tensors and plain values, and of classes DeepSpeed's own only."""
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    class Engine(TorchCheckpointEngine):
        def load(self, path: str, map_location: Any = None) -> Any:
            with torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]):
                return torch.load(path, map_location=map_location, weights_only=True)

    engine.checkpoint_engine = Engine()
