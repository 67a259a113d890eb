"""One optimiser step: losses and gradients of the global batch, and whether they may move the parameters."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from xmr_e2e.data.batch import Batch
from xmr_e2e.distributed import share_buffers
from xmr_e2e.methods.base import Method
from xmr_e2e.methods.finite import NotFinite
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.training.gradcache import backward
from xmr_e2e.training.micro_batches import MicroBatches
from xmr_e2e.training.zero import read_without_pickle, zero_step


class Stepper:
    """Moves the parameters of one stage.

    Args:
        method: whose `requires_grad` says what moves in this stage.
    """

    def __init__(self, experiment: Experiment, accelerator: Accelerator, method: Method, stage: str) -> None:
        self._experiment = experiment
        self._accelerator = accelerator
        self.model: nn.Module
        self.model, self.optimizer = accelerator.prepare(method, experiment.optimizer.build(method, stage))
        if experiment.train.zero:
            read_without_pickle(self.model)

    @property
    def rates(self) -> list[float]:
        """The learning rates of the last step."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def step(self, batch: Batch, context: StepContext, seed: tuple[int, ...]) -> dict[str, Tensor]:
        """The loss terms. Called by every rank with its part of the batch.

        Args:
            seed: of dropout, one for each rank.

        Raises:
            NotFinite: a representation, a loss term or a gradient; parameters and buffers stay as they were.
        """
        train, accelerator = self._experiment.train, self._accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self._experiment.schedule.factor(context.progress)
        if train.zero:
            share_buffers(self.model)  # as DistributedDataParallel does
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        try:
            terms = backward(
                accelerator,
                self.model,
                batch.to(accelerator.device),
                micro_batches=MicroBatches(train.micro_batches, train.micro_pixels, train.micro_tokens),
                context=context,
                seed=seed,
            )
            if train.zero:
                zero_step(self.model)
                return terms
            self._check_gradients()
            self.optimizer.step()
        except NotFinite:
            # The forward pass has already mixed this batch, NaN where it has any, into the running statistics.
            for name, buffer in self.model.named_buffers():
                buffer.copy_(buffers[name])
            raise
        finally:
            self.optimizer.zero_grad()
        return terms

    def _check_gradients(self) -> None:
        """Bring the gradient's norm under --train.clip-norm. Raises NotFinite.

        fp16's scaler looks after itself: it leaves out a step whose scaled gradients overflow, and scales less.
        """
        limit = self._experiment.train.clip_norm
        named = {name: p for name, p in self.model.named_parameters() if p.grad is not None}
        if limit is not None:
            norm = self._accelerator.clip_grad_norm_(list(named.values()), limit)
        else:
            norm = torch.nn.utils.get_total_norm([p.grad for p in named.values() if p.grad is not None])
        if self._accelerator.scaler is None and norm is not None and not norm.isfinite():
            bad = [name for name, p in named.items() if p.grad is not None and not p.grad.isfinite().all()]
            raise NotFinite(f"the gradient of {', '.join(name.removeprefix('module.') for name in bad[:3])}")
