"""A training in miniature: each stage's forward and backward pass on two real samples, on the CPU, and what it takes.

Networks and word vectors are random here, and of the sizes that they will have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xmr_e2e.data.batch import Batch
from xmr_e2e.data.batch_dataset import BatchDataset, Request
from xmr_e2e.data.inputs import CachedFeatures, map_tensors
from xmr_e2e.data.tokenizers import Tokenizer
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method
from xmr_e2e.methods.stages import Stage, StepContext
from xmr_e2e.runs.experiment import Experiment

SAMPLES = 2


@dataclass
class ActivationMemory:
    """Bytes of the tensors that a forward pass keeps for the backward pass: the activations."""

    floating: int = 0
    other: int = 0
    """masks and indices"""
    _storages: dict[int, torch.UntypedStorage] = field(default_factory=dict)

    @contextmanager
    def count(self, *known: Any) -> Iterator[None]:
        """Count what is kept meanwhile, each memory once, and none that belongs to the `known` modules and tensors."""
        self._storages = {storage.data_ptr(): storage for storage in _storages(known)}
        with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor):
            yield
        self._storages = {}

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._storages:
            self._storages[storage.data_ptr()] = storage  # held, so that its address stays its own
            if tensor.is_floating_point():
                self.floating += storage.nbytes()
            else:
                self.other += storage.nbytes()
        return tensor


@dataclass(frozen=True)
class StageRun:
    """The memory that one stage takes, in bytes; activations and batches are those of SAMPLES samples."""

    stage: Stage
    moving: int
    """parameters that the stage trains"""
    towers: ActivationMemory
    objective: ActivationMemory
    raw: int
    """a batch as the loader hands it over"""
    prepared: int
    """all that is made of it on the device, or was, by a frozen tower"""
    without_gradient: tuple[str, ...]
    """parameters that the stage trains and its loss does not reach"""
    total: float
    """the loss"""


@dataclass(frozen=True)
class DryRun:
    """The method as it was built, and what came of its stages."""

    method: Method
    shapes: dict[str, tuple[int, ...]]
    """modality -> shape of its tower's output for SAMPLES samples"""
    width: int
    """of the embeddings"""
    cached_features: int
    """bytes of what the frozen towers make of SAMPLES samples"""
    stages: tuple[StageRun, ...]
    """those that take steps"""


def dry_run(experiment: Experiment, method: Method, tokenizer: Tokenizer | None) -> DryRun:
    """Run each stage once.

    Raises:
        XmrError: samples that cannot be read, or that the networks cannot take.
    """
    trainable = {name for name, parameter in method.named_parameters() if parameter.requires_grad}
    shapes: dict[str, tuple[int, ...]] = {}
    handles = [tower.register_forward_hook(_note_shape(shapes, name)) for name, tower in method.towers.items()]
    runs: list[StageRun] = []
    width, cached_features = 0, dict[str, CachedFeatures]()
    for stage in method.training_stages:
        batches = _batches(experiment, method, stage, tokenizer)
        batch = _read(batches)
        width, outputs = _evaluate(method, batch.prepared().inputs, method.standing_still(stage))
        cached_features |= outputs
        if not stage.closed_form:
            runs.append(_run_stage(experiment, method, stage, trainable, batch, outputs))
    for handle in handles:
        handle.remove()
    return DryRun(method, shapes, width, _bytes(cached_features), tuple(runs))


def _batches(experiment: Experiment, method: Method, stage: Stage, tokenizer: Tokenizer | None) -> BatchDataset:
    sources = {modality: method.input_kinds[modality] for modality in stage.modalities}
    return BatchDataset(experiment.data, "train", sources, tokenizer, seed=experiment.train.seed)


def _read(batches: BatchDataset) -> Batch:
    """The first sample and the last one."""
    batch = batches[Request(0, batches.at(np.array([0, len(batches) - 1])))]
    if isinstance(batch, XmrError):
        raise batch
    return batch


@torch.no_grad()
def _evaluate(method: Method, inputs: Mapping[str, Any], still: Sequence[str]) -> tuple[int, dict[str, CachedFeatures]]:
    """Width of the embeddings, and what the towers give that stand still."""
    method.eval()
    outputs = {name: CachedFeatures(method.features(name, inputs[name])) for name in still if name in inputs}
    embeddings = [method.embed(name, outputs.get(name, item)) for name, item in inputs.items()]
    method.train()
    return embeddings[0].shape[1], outputs


def _run_stage(
    experiment: Experiment,
    method: Method,
    stage: Stage,
    trainable: set[str],
    batch: Batch,
    cached_features: Mapping[str, CachedFeatures],
) -> StageRun:
    """A step of a stage without the optimiser's: the gradients, and what they took."""
    method.begin_stage(stage)
    method.set_trained(stage, trainable)
    method.zero_grad()
    read = {name: item for name, item in batch.inputs.items() if name not in cached_features}
    made = {name: item for name, item in batch.augmented().inputs.items() if item is not batch.inputs[name]}
    towers, objective = ActivationMemory(), ActivationMemory()
    inputs = {**batch.inputs, **made, **cached_features}
    with towers.count(method, inputs):
        representations = method.represent_stage(inputs, stage.name)
    with objective.count(method, inputs, representations):
        terms = method.global_objective(
            representations, batch.labels, StepContext(stage.name, seed=experiment.train.seed)
        )
    terms["total"].backward()
    moving = {name: parameter for name, parameter in method.named_parameters() if parameter.requires_grad}
    return StageRun(
        stage,
        moving=_bytes(moving),
        towers=towers,
        objective=objective,
        raw=_bytes(read),
        prepared=_bytes((made, dict(cached_features))),
        without_gradient=tuple(name for name, parameter in moving.items() if parameter.grad is None),
        total=terms["total"].item(),
    )


def _note_shape(shapes: dict[str, tuple[int, ...]], modality: str) -> Any:
    def note(_module: nn.Module, _inputs: object, output: Any) -> None:
        rows = output if isinstance(output, Tensor) else output.features
        shapes[modality] = tuple(rows.shape)

    return note


def _storages(known: tuple[Any, ...]) -> Iterator[torch.UntypedStorage]:
    for item in known:
        tensors = [*item.parameters(), *item.buffers()] if isinstance(item, nn.Module) else _tensors(item)
        yield from (tensor.untyped_storage() for tensor in tensors)


def _bytes(structure: Any) -> int:
    return sum(tensor.nbytes for tensor in _tensors(structure))


def _tensors(structure: Any) -> list[Tensor]:
    """All tensors in dicts and tuples."""
    tensors: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    map_tensors(structure, keep)
    return tensors
