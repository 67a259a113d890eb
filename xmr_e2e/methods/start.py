"""The layer on which a tower without published weights learns something before it stands still.

The papers train heads on features of networks that had learnt something: VGG-19 of ImageNet's classes, a sentence CNN
of the labels. A tower that stands still as it was drawn is none of these.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmr_e2e.data.inputs import InputKind, Tokens
from xmr_e2e.data.text import PAD
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.stages import Stage
from xmr_e2e.objectives.classification import label_loss
from xmr_e2e.towers.base import DatasetInfo, TokenFeatures, TowerConfig

FrozenStart = Literal["labels", "words", "random"]


class StartLayer(nn.Linear):
    """A linear layer on a tower's output, and what it is to predict."""

    learns: str

    def predict(self, output: Any) -> Tensor:
        """(n, out) logits of a tower's output, of whose regions or words the mean counts."""
        if isinstance(output, TokenFeatures):
            real = output.mask[:, :, None].to(output.features)
            output = (output.features * real).sum(1) / real.sum(1).clamp(min=1)
        logits: Tensor = self(output)
        return logits

    @abstractmethod
    def represent(self, output: Any, inputs: Any) -> dict[str, Tensor]:
        """All that `losses` needs of each sample, from the tower's output and its inputs."""

    @abstractmethod
    def losses(self, representations: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """The loss as its own term and as "total", of the global batch."""


class LabelLayer(StartLayer):
    """Predicts the classes: cross-entropy, or for several labels per sample binary cross-entropy."""

    learns = "labels"

    def __init__(self, width: int, classes: int, *, multi_label: bool) -> None:
        super().__init__(width, classes)
        self.multi_label = multi_label

    def represent(self, output: Any, inputs: Any) -> dict[str, Tensor]:
        return {"logits": self.predict(output)}

    def losses(self, representations: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        loss = label_loss(representations["logits"], labels, multi_label=self.multi_label)
        return {"labels": loss, "total": loss}


class WordLayer(StartLayer):
    """Predicts which words of the vocabulary a text has: binary cross-entropy, summed over the vocabulary."""

    learns = "words"

    def represent(self, output: Any, inputs: Tokens) -> dict[str, Tensor]:
        """Each sample's loss: one number to be gathered, and not one for each word of the vocabulary."""
        logits = self.predict(output)
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            there = torch.zeros_like(logits).scatter_(1, inputs.ids.to(logits.device), 1.0)
            there[:, PAD] = 0.0
            return {"loss": F.binary_cross_entropy_with_logits(logits, there, reduction="none").sum(1)}

    def losses(self, representations: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        loss = representations["loss"].mean()
        return {"words": loss, "total": loss}


class StartLayers(nn.ModuleDict):
    """Modality -> the layer on which its tower learns before it stands still."""

    def add(self, modality: str, tower: TowerConfig, width: int, wanted: FrozenStart, dataset: DatasetInfo) -> None:
        """The layer that a tower of this output width needs, if it needs one."""
        if dataset.is_saved:  # whose configuration says nothing of weights any more, but its file has the layers
            outputs, _ = dataset.shapes.get(f"starts.{modality}.weight", (0, 0))
            layer: StartLayer | None = WordLayer(width, outputs) if outputs else None
        elif tower.has_published_weights or modality in dataset.published:
            layer = None
        else:
            layer = start_layer(wanted, dataset, modality, tower.input_kind, width)
        if layer is not None:
            self[modality] = layer

    @property
    def stages(self) -> tuple[Stage, ...]:
        """One for each layer, by the name of what it learns and the modality."""
        return tuple(
            Stage(f"{layer.learns}-{name}", (name,), (f"towers.{name}", f"starts.{name}"), "loss", is_start=True)
            for name, layer in self._layers.items()
        )

    def of_stage(self, stage: str) -> StartLayer | None:
        """The layer that learns in the stage of this name; None in the method's own."""
        found = (layer for name, layer in self._layers.items() if stage == f"{layer.learns}-{name}")
        return next(found, None)

    @property
    def _layers(self) -> dict[str, StartLayer]:
        return dict(self.items())  # type: ignore[arg-type]


def start_layer(
    wanted: FrozenStart, dataset: DatasetInfo, modality: str, kind: InputKind, width: int
) -> StartLayer | None:
    """The layer for a tower of this modality and output width; None where it is to stay as it was drawn.

    Labels are learnt where the dataset has any, and the words of a text otherwise.

    Raises:
        XmrError: a tower that reads no text, where there are no labels or words are wanted.
    """
    if wanted == "random":
        return None
    if wanted == "labels" and dataset.classes:
        return LabelLayer(width, dataset.classes, multi_label=dataset.multi_label)
    if kind == "tokens":
        return WordLayer(width, len(dataset.words))
    missing = "reads no words" if wanted == "words" else "finds no labels that it could learn first"
    raise XmrError(
        f"--method.frozen: the {modality} tower has no published weights and {missing}, so it would stay as it was "
        f"drawn: choose weights (--method.{modality}.weights), train it, or ask for a random network by name "
        "(--method.frozen-start random)"
    )
