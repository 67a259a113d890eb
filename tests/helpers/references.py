"""References that tests of the methods share: small methods in fp64, their layers in NumPy, which parameters learn from
which term."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xmr_e2e.methods.base import Method, MethodConfig
from xmr_e2e.methods.canonical import CanonicalProjections
from xmr_e2e.methods.stages import Stage, StepContext
from xmr_e2e.towers.base import DatasetInfo, TowerConfig

Rows = NDArray[np.float64]

LABELS = {
    "single-label": [[0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "multi-label": [[1, 1, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0], [1, 0, 0], [0, 1, 1], [1, 1, 0]],
}
"""of seven samples; in the second, one has none, and some share two"""
WIDTHS = {"image": 5, "text": 4}
DATASET = DatasetInfo(classes=3, multi_label=False, image_size=32, words=torch.zeros(2, 2), widths=WIDTHS)


def as_if_fitted(method: Method) -> Method:
    """The same method, its closed form drawn: a model that has not come to it is not loaded."""
    for module in method.modules():
        if isinstance(module, CanonicalProjections):
            for name in module.modalities:
                getattr(module, name).normal_()
            module.fitted.fill_(True)
    return method


@dataclass(frozen=True)
class LayerTower(TowerConfig):
    """A linear layer on a modality's features: a tower that learns, and costs nothing."""

    input_kind = "vector"

    dim: int = 6

    def build(self, dataset: DatasetInfo, modality: str) -> nn.Module:
        layer = nn.Linear(dataset.widths[modality], self.dim)
        layer.dim = self.dim  # type: ignore[assignment]
        return layer


def build(config: MethodConfig, *, multi_label: bool = False, seed: int = 0) -> Method:
    """The method in fp64 and in training mode; no bias is zero, no weight the same as another."""
    torch.manual_seed(seed)
    return config.build(replace(DATASET, multi_label=multi_label)).double().train()


def labels_of(kind: str) -> Tensor:
    """(7, 3) multi-hot."""
    return torch.tensor(LABELS[kind], dtype=torch.float64)


def inputs_of(*modalities: str) -> dict[str, Tensor]:
    """Features of seven samples."""
    return {
        name: torch.randn(
            7, WIDTHS[name], dtype=torch.float64, generator=torch.Generator().manual_seed(list(WIDTHS).index(name) + 5)
        )
        for name in modalities
    }


def array(rows: Tensor) -> Rows:
    return rows.detach().numpy().astype(np.float64)


def run(network: nn.Module, rows: Rows) -> Rows:
    """What a network of linear layers makes of rows; ReLU and sigmoid are the only other layers."""
    for layer in network if isinstance(network, nn.Sequential) else [network]:
        if isinstance(layer, nn.Linear):
            rows = rows @ array(layer.weight).T + (0.0 if layer.bias is None else array(layer.bias))
        else:
            rows = {nn.ReLU: lambda x: np.maximum(x, 0), nn.Sigmoid: lambda x: 1 / (1 + np.exp(-x))}[type(layer)](rows)
    return rows


def unit(rows: Rows) -> Rows:
    """Each row brought to length 1."""
    return np.array([row / math.sqrt(sum(value**2 for value in row)) for row in rows])


def cosine(x: Sequence[float] | Rows, y: Sequence[float] | Rows) -> float:
    """Of two rows; the product of their norms counts as 1e-6 where it is smaller."""
    return float(sum(a * b for a, b in zip(x, y)) / max(math.hypot(*x) * math.hypot(*y), 1e-6))


def softmax(scores: Sequence[float] | Rows) -> list[float]:
    exponentials = [math.exp(score) for score in scores]
    return [value / sum(exponentials) for value in exponentials]


def terms_of(
    method: Method, inputs: Mapping[str, Any], labels: Tensor, context: StepContext = StepContext()
) -> dict[str, Tensor]:
    """The objective's terms; what it draws by chance has the moment's seed."""
    representations = method.represent(inputs)
    torch.manual_seed(context.seed)
    return method.objective(representations, labels, context)


def values(terms: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: term.item() for name, term in terms.items()}


def learners(
    method: Method,
    inputs: Mapping[str, Any],
    labels: Tensor,
    context: StepContext = StepContext(),
    *,
    stage: Stage | None = None,
) -> dict[str, set[str]]:
    """Term -> first two parts of the names of the parameters to which it alone gives a gradient other than zero; the
    first part alone where the second is a layer's. With a stage, only what the stage moves."""
    found: dict[str, set[str]] = {}
    for term in terms_of(method, inputs, labels, context):
        method.zero_grad()
        chosen = terms_of(method, inputs, labels, context)[term]
        if chosen.requires_grad:
            chosen.backward()
        found[term] = {
            _part(name)
            for name, parameter in method.named_parameters()
            if (stage is None or stage.is_trained(name))
            and parameter.grad is not None
            and parameter.grad.abs().max() > 0
        }
    return found


def assert_what_is_trained_is_reached(
    method: Method, inputs: Mapping[str, Any], labels: Tensor, context: StepContext = StepContext()
) -> None:
    """The total gives a gradient, be it zero, to each parameter that the stage trains, as DistributedDataParallel waits
    for it, and to no other."""
    stages = {stage.name: stage for stage in method.stages}
    stage = stages[context.stage or method.stages[0].name]
    method.zero_grad()
    terms_of(method, inputs, labels, context)["total"].backward()
    reached = {name for name, parameter in method.named_parameters() if parameter.grad is not None}
    assert reached == {name for name, _ in method.named_parameters() if stage.is_trained(name)}


def _part(name: str) -> str:
    first, second, *_ = (*name.split("."), "")
    return f"{first}.{second}" if second in WIDTHS else first
