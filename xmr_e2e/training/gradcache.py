"""Losses and gradients of a batch, at once or piece by piece.

An objective that looks at the whole batch cannot be averaged over pieces of it. Instead (GradCache; Gao et al., 2021),
the representations of all pieces are computed without a graph, the loss and its gradients with respect to them are
computed on all of them together, and then each piece runs through the networks again, with the same dropout, to take
its share of the gradient down to the pixels. Memory is that of one piece; the price is one more forward pass. Pieces
may hold the samples in any order: the loss sees them in that of the batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor, nn

from xmr_e2e.data.batch import Batch
from xmr_e2e.data.inputs import on_device
from xmr_e2e.methods.base import Method
from xmr_e2e.methods.finite import full_precision
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.training.micro_batches import MicroBatches, is_one_everywhere
from xmr_e2e.training.processes import unwrapped

Parts: TypeAlias = list[tuple[Tensor, Batch]]
"""the samples of each micro-batch, as numbers in the rank's part of the batch, and the micro-batch"""


def backward(
    accelerator: Accelerator,
    model: nn.Module,
    batch: Batch,
    *,
    micro_batches: int | MicroBatches,
    context: StepContext,
    seed: tuple[int, ...],
) -> dict[str, Tensor]:
    """Add the gradients of the global batch's loss to the parameters'; return the loss terms (detached).

    Args:
        model: the method as `accelerator.prepare` returned it.
        batch: this rank's part of the global batch, on the host; its pixels are augmented one micro-batch at a time,
            since floats take four times their memory.
        micro_batches: how many there are on each rank, or what bounds them.
        seed: of dropout in the towers, one for each rank; what the objective draws has the context's seed.
    """
    bounds = MicroBatches(micro_batches) if isinstance(micro_batches, int) else micro_batches
    there = batch.to(accelerator.device)
    parts = bounds.of(batch, there)
    is_whole = is_one_everywhere(parts) if bounds.has_budget else bounds.count == 1
    if is_whole:
        _seed(*seed)
        terms: Mapping[str, Tensor] = model(there.augmented(), context)
        # Accelerate would take DeepSpeed's step here, too, whatever the gradients are.
        engine: Any = model if accelerator.distributed_type == DistributedType.DEEPSPEED else accelerator
        engine.backward(terms["total"])
    else:
        terms = _backward_in_micro_batches(accelerator, model, parts, there.labels, context, seed)
    return {name: term.detach() for name, term in terms.items()}


def _backward_in_micro_batches(
    accelerator: Accelerator,
    model: nn.Module,
    parts: Parts,
    labels: Tensor,
    context: StepContext,
    seed: tuple[int, ...],
) -> Mapping[str, Tensor]:
    method = unwrapped(accelerator, model)
    assert isinstance(method, Method)
    # The heads' gradients stay local for now: they travel with the towers', in the last piece's backward pass.
    with accelerator.no_sync(model):
        representations = _represent(accelerator, method, parts, context.stage, seed)
        terms = method.global_objective(representations, labels, context)
        accelerator.backward(terms["total"])
    for number, (rows, micro_batch) in enumerate(parts):
        is_last = number == len(parts) - 1
        with contextlib.nullcontext() if is_last else accelerator.no_sync(model):
            _seed(*seed, number)
            gradients = {
                name: leaf.grad[on_device(rows, leaf.device)]
                for name, leaf in representations.items()
                if leaf.grad is not None
            }
            # Already scaled for fp16, with the loss from which these gradients came: no accelerator.backward here.
            # In the last piece, DistributedDataParallel waits for the gradients of all; earlier, to make and add up
            # zeros for each weight would only cost.
            total = model(micro_batch.augmented(), context, gradients, all_parameters=is_last)["total"]
            if total.requires_grad:  # not where only heads learn, whose gradients are there already
                total.backward()
    return terms


def _represent(
    accelerator: Accelerator, method: Method, parts: Parts, stage: str, seed: tuple[int, ...]
) -> dict[str, Tensor]:
    """The representations of all samples, in the order of the batch."""
    made = []
    for number, (_, micro_batch) in enumerate(parts):
        with torch.no_grad(), accelerator.autocast():
            _seed(*seed, number)
            made.append(method.represent_batch(micro_batch.augmented(), stage))
    order = torch.cat([rows for rows, _ in parts]).argsort()
    order = on_device(order, accelerator.device)
    return {name: _leaf(torch.cat([part[name] for part in made])[order]) for name in made[0]}


def _leaf(rows: Tensor) -> Tensor:
    return full_precision(rows).requires_grad_(rows.is_floating_point())


def _seed(*words: int) -> None:
    """Random numbers of a step are a function of its place in the training, so a resumed run draws the same ones."""
    torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]))
