"""Contrastive training on pairs alone: InfoNCE, the pairwise sigmoid loss, or the triplet hinge.

Each item has to find its own pair among those of the whole global batch; no labels are needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmr_e2e.bounds import LARGE, MOST, Bounds, FractionBelow1, Positive, Width
from xmr_e2e.data.batch import Batch
from xmr_e2e.data.inputs import on_device
from xmr_e2e.methods.base import ManyModalities, Method
from xmr_e2e.methods.heads import fully_connected
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.objectives.contrastive import infonce_loss, sigmoid_loss, triplet_loss
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn

LARGEST_SCALE = 100.0
"""of InfoNCE's cosines, beyond which CLIP's is not learned (Radford et al., 2021, Section 2.5)"""
TEMPERATURES = {"infonce": 0.07, "sigmoid": 0.1}
"""of the papers, from which the temperature is learned"""
IDENTITY = "identity"
"""name of the samples' positions among the representations"""


@dataclass(frozen=True, kw_only=True)
class Contrastive(ManyModalities):
    """Contrastive training's towers, heads and loss."""

    title = "Contrastive"
    citation = (
        "Radford et al., Learning Transferable Visual Models from Natural Language Supervision, ICML, 2021; Zhai et "
        "al., Sigmoid Loss for Language Image Pre-Training, ICCV, 2023; Faghri et al., VSE++: Improving "
        "Visual-Semantic Embeddings with Hard Negatives, BMVC, 2018"
    )

    image: TowerConfig | None = ImageTower("vgg19")
    text: TowerConfig | None = TextCnn()
    dim: Width = 512
    """width of the common space"""
    hidden: Annotated[int, Bounds(int, least=0, most=LARGE)] = 0
    """width of a hidden layer of the heads; 0: each head is a linear layer"""
    standardize: bool = False
    """bring the towers' outputs to mean 0 and variance 1 over the batch before the heads"""
    dropout: FractionBelow1 = 0.0
    """share of the towers' outputs that is left out at random before the heads"""
    loss: Literal["infonce", "sigmoid", "triplet"] = "infonce"
    """cross-entropy over the batch as in CLIP (infonce), the sigmoid of each pair as in SigLIP (sigmoid), or the hinge
    with the hardest negative as in VSE++ (triplet)"""
    temperature: Positive | None = None
    """divisor of the cosines at the start, of infonce and sigmoid; by default the papers' 0.07 and 0.1"""
    bias: Annotated[float, Bounds(float, least=-1000, most=1000)] = -10.0
    """of the sigmoid loss, at the start"""
    learn_temperature: bool = True
    """learn the temperature, and the bias; else they stay as they begin"""
    margin: Positive = 0.2
    """of the triplet hinge"""
    all_negatives: Annotated[int, Bounds(int, least=0, most=MOST)] = 0
    """first epochs in which the triplet hinge sums over all negatives, not the hardest alone"""

    needs_labels = False  # it learns from pairs alone

    def build(self, dataset: DatasetInfo) -> ContrastiveModel:
        return ContrastiveModel(self, dataset)


class ContrastiveModel(Method):
    """The networks and losses of contrastive training."""

    def __init__(self, config: Contrastive, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.config = config
        widths = self.widths()
        between = (config.hidden,) if config.hidden else ()
        # Their statistics, and what dropout leaves out, are of the global batch, so they stand in the objective.
        self.standardize = nn.ModuleDict(
            {name: nn.BatchNorm1d(d, affine=False) for name, d in widths.items() if config.standardize}
        )
        self.heads = nn.ModuleDict({name: fully_connected((d, *between, config.dim)) for name, d in widths.items()})
        if config.loss != "triplet":
            temperature = config.temperature or TEMPERATURES[config.loss]
            self.log_scale = _scalar(-math.log(temperature), config.learn_temperature)
        if config.loss == "sigmoid":
            self.bias = _scalar(config.bias, config.learn_temperature)

    def embed(self, modality: str, inputs: Any) -> Tensor:
        return self._embedded(modality, self.features(modality, inputs))

    def represent(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """The towers' outputs: standardization needs the global batch."""
        return {modality: self.features(modality, item) for modality, item in inputs.items()}

    def represent_batch(self, batch: Batch, stage: str = "") -> dict[str, Tensor]:
        """As in the base class, and the samples' positions: a sample that is there twice is no negative of itself."""
        own = super().represent_batch(batch, stage)
        return own if self._start_of(stage) else {**own, IDENTITY: on_device(batch.positions, batch.labels.device)}

    def objective(
        self, representations: Mapping[str, Tensor], labels: Tensor, context: StepContext
    ) -> dict[str, Tensor]:
        """A term for each two modalities, "image_text", and their mean, "total"; beside them what is learned of the
        loss, "scale" and "bias"."""
        identities = representations.get(IDENTITY)
        embeddings = {name: self._embedded(name, rows) for name, rows in representations.items() if name != IDENTITY}
        learned = self._learned()
        terms = {
            f"{one}_{other}": self._loss(embeddings[one], embeddings[other], identities, learned, context)
            for one, other in combinations(embeddings, 2)
        }
        total = torch.stack([*terms.values()]).mean()
        return {**terms, "total": total, **{name: value.detach() for name, value in learned.items()}}

    def _embedded(self, modality: str, features: Tensor) -> Tensor:
        if self.config.standardize:
            features = self.standardize[modality](features)
        features = F.dropout(features, self.config.dropout, self.training)
        return F.normalize(self.heads[modality](features), dim=1)

    def _learned(self) -> dict[str, Tensor]:
        """The factor of the cosines and the bias, as far as the loss has them."""
        if self.config.loss == "triplet":
            return {}
        if self.config.loss == "sigmoid":
            return {"scale": self.log_scale.exp(), "bias": self.bias}
        with torch.no_grad():  # The parameter itself: where it only counted as less, it would get no gradient back.
            self.log_scale.clamp_(max=math.log(LARGEST_SCALE))
        return {"scale": self.log_scale.exp()}

    def _loss(
        self, x: Tensor, y: Tensor, identities: Tensor | None, learned: Mapping[str, Tensor], context: StepContext
    ) -> Tensor:
        match self.config.loss:
            case "infonce":
                return infonce_loss(x, y, identities, **learned)
            case "sigmoid":
                return sigmoid_loss(x, y, identities, **learned)
            case "triplet":
                hardest = context.epoch >= self.config.all_negatives
                return triplet_loss(x, y, identities, margin=self.config.margin, hardest=hardest)


def _scalar(value: float, is_learned: bool) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value), requires_grad=is_learned)
