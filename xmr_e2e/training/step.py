"""One optimiser step: losses and gradients of the global batch, and whether they may move the parameters.

The host does not wait for the device. Whether a step's values are finite is decided there, and a step that is refused
changes nothing there; the host learns of it from the step's outcome, which it reads while the device is busy with the
next one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from xmr_e2e.data.batch import Batch
from xmr_e2e.distributed import share_buffers
from xmr_e2e.methods.base import Method
from xmr_e2e.methods.finite import FiniteChecks
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.training.gradcache import backward
from xmr_e2e.training.micro_batches import MicroBatches
from xmr_e2e.training.outcome import Outcome
from xmr_e2e.training.refusal import BuffersBefore, ScalerBefore, spoil, step_unless
from xmr_e2e.training.zero import look_at_overflow, read_without_pickle


class Stepper:
    """Moves the parameters of one stage.

    Args:
        method: whose `requires_grad` says what moves in this stage.
        may_skip: steps that may be left out because values are not finite; after one more, all are refused. Less than
            none counts as none: a run that goes on may be allowed fewer than it has left out already.
    """

    def __init__(
        self, experiment: Experiment, accelerator: Accelerator, method: Method, stage: str, may_skip: int = 0
    ) -> None:
        self._experiment = experiment
        self._accelerator = accelerator
        self.model: nn.Module
        self.model, self.optimizer = accelerator.prepare(method, experiment.optimizer.build(method, stage))
        self._may_skip = max(0, may_skip)
        self._skipped = torch.zeros((), dtype=torch.int64, device=accelerator.device)
        if experiment.train.zero:
            read_without_pickle(self.model)

    @property
    def rates(self) -> list[float]:
        """The learning rates of the last step."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def step(self, batch: Batch, context: StepContext, seed: tuple[int, ...]) -> Outcome:
        """Take a step; where a representation, a loss term or a gradient is not finite, parameters, the optimizer's
        state and buffers stay as they were. Called by every rank with its part of the batch, on the host.

        Args:
            seed: of dropout, one for each rank.
        """
        train, checks = self._experiment.train, FiniteChecks()
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self._experiment.schedule.factor(context.progress)
        if train.zero:
            share_buffers(self.model)  # as DistributedDataParallel does
        buffers = BuffersBefore(self.model)
        terms = backward(
            self._accelerator,
            self.model,
            batch,
            micro_batches=MicroBatches(train.micro_batches, train.micro_pixels, train.micro_tokens),
            context=replace(context, checks=checks),
            seed=seed,
        )
        refused = self._move(checks)
        buffers.put_back(refused)
        self.optimizer.zero_grad()
        return Outcome(terms, checks, refused)

    def _move(self, checks: FiniteChecks) -> Tensor:
        """The optimizer's step, without effect where it is refused: that, as a boolean on the device."""
        if self._experiment.train.zero:
            look_at_overflow(self.model, checks)
            refused = self._is_refused(checks)
            if not refused:  # DeepSpeed's engine asks the host in any case
                engine: Any = self.model
                engine.step()
            return refused
        named = {name.removeprefix("module."): p for name, p in self.model.named_parameters() if p.grad is not None}
        if self._accelerator.scaler is not None:
            return self._move_scaled(checks, list(named.values()))
        checks.look_at_norms("the gradient", list(named), self._clip(list(named.values())))
        refused = self._is_refused(checks)
        step_unless(self.optimizer, refused)
        return refused

    def _move_scaled(self, checks: FiniteChecks, parameters: list[nn.Parameter]) -> Tensor:
        """As `_move`, in fp16: its scaler leaves out a step whose scaled gradients overflow, and scales less."""
        refused, before = self._is_refused(checks), ScalerBefore(self._accelerator.scaler)
        spoil(parameters, refused)
        if self._experiment.train.clip_norm is not None:
            self._accelerator.unscale_gradients()
            self._clip(parameters)
        self.optimizer.step()
        before.put_back(refused)
        return refused

    def _is_refused(self, checks: FiniteChecks) -> Tensor:
        """True where values are not finite, and in all steps after one too many of those."""
        is_bad = ~checks.are_finite
        self._skipped += is_bad
        return is_bad | (self._skipped > self._may_skip)

    def _clip(self, parameters: list[nn.Parameter]) -> Tensor:
        """Bring the gradient's norm under --train.clip-norm; the norm before it of each parameter's, (p,)."""
        norms = torch.stack(torch._foreach_norm([p.grad for p in parameters if p.grad is not None]))
        if (limit := self._experiment.train.clip_norm) is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, limit, torch.linalg.vector_norm(norms))
        return norms
