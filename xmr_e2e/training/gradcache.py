"""Losses and gradients of a batch, at once or piece by piece.

An objective that looks at the whole batch cannot be averaged over pieces of it. Instead (GradCache; Gao et al., 2021),
the representations of all pieces are computed without a graph, the loss and its gradients with respect to them are
computed on all of them together, and then each piece runs through the networks again, with the same dropout, to take
its share of the gradient down to the pixels. Memory is that of one piece; the price is one more forward pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor, nn

from xmr_e2e.data.batch import Batch
from xmr_e2e.methods.base import Method, StepContext, full_precision


def backward(
    accelerator: Accelerator,
    model: nn.Module,
    batch: Batch,
    *,
    micro_batches: int,
    context: StepContext,
    seed: tuple[int, ...],
) -> dict[str, Tensor]:
    """Add the gradients of the global batch's loss to the parameters'; return the loss terms (detached).

    Args:
        model: the method as `accelerator.prepare` returned it.
        batch: this rank's part of the global batch, on the device; its pixels are augmented one micro-batch at a time,
            since floats take four times their memory.
        seed: of dropout in the towers, one for each rank; what the objective draws has the context's seed.
    """
    if micro_batches == 1:
        _seed(*seed)
        terms: Mapping[str, Tensor] = model(batch.augmented(), context)
        # Accelerate would take DeepSpeed's step here, too, whatever the gradients are.
        engine: Any = model if accelerator.distributed_type == DistributedType.DEEPSPEED else accelerator
        engine.backward(terms["total"])
    else:
        terms = _backward_in_micro_batches(
            accelerator, model, batch.micro_batches(micro_batches), batch.labels, context, seed
        )
    return {name: term.detach() for name, term in terms.items()}


def _backward_in_micro_batches(
    accelerator: Accelerator,
    model: nn.Module,
    micro_batches: list[Batch],
    labels: Tensor,
    context: StepContext,
    seed: tuple[int, ...],
) -> Mapping[str, Tensor]:
    method: Method = accelerator.unwrap_model(model)
    # The heads' gradients stay local for now: they travel with the towers', in the last piece's backward pass.
    with accelerator.no_sync(model):
        representations = _represent(accelerator, method, micro_batches, context.stage, seed)
        terms = method.global_objective(representations, labels, context)
        accelerator.backward(terms["total"])
    start = 0
    for number, micro_batch in enumerate(micro_batches):
        rows = slice(start, start + len(micro_batch))
        start += len(micro_batch)
        is_last = number == len(micro_batches) - 1
        with contextlib.nullcontext() if is_last else accelerator.no_sync(model):
            _seed(*seed, number)
            gradients = {name: leaf.grad[rows] for name, leaf in representations.items() if leaf.grad is not None}
            # Already scaled for fp16, with the loss from which these gradients came: no accelerator.backward here.
            # In the last piece, DistributedDataParallel waits for the gradients of all; earlier, to make and add up
            # zeros for each weight would only cost.
            total = model(micro_batch.augmented(), context, gradients, all_parameters=is_last)["total"]
            if total.requires_grad:  # not where only heads learn, whose gradients are there already
                total.backward()
    return terms


def _represent(
    accelerator: Accelerator, method: Method, micro_batches: list[Batch], stage: str, seed: tuple[int, ...]
) -> dict[str, Tensor]:
    parts = []
    for number, micro_batch in enumerate(micro_batches):
        with torch.no_grad(), accelerator.autocast():
            _seed(*seed, number)
            parts.append(method.represent_batch(micro_batch.augmented(), stage))
    return {name: _leaf(torch.cat([part[name] for part in parts])) for name in parts[0]}


def _leaf(rows: Tensor) -> Tensor:
    return full_precision(rows).requires_grad_(rows.is_floating_point())


def _seed(*words: int) -> None:
    """Random numbers of a step are a function of its place in the training, so a resumed run draws the same ones."""
    torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]))
