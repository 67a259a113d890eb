"""What every method is: towers, heads and losses in one module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from xmr_e2e.data.batch import Batch
from xmr_e2e.errors import XmrError
from xmr_e2e.objectives.global_batch import gather

Similarity: TypeAlias = Literal["cosine", "pearson", "dot", "euclidean"]


@dataclass(frozen=True)
class Dataset:
    """What a method has to know of the data in order to build its networks."""

    classes: int
    multi_label: bool
    image_size: int
    """side in pixels of the images that the image tower sees"""
    words: Tensor
    """(v, e): the word vectors from which the text tower starts; row 0 is padding"""


@dataclass(frozen=True)
class MethodConfig(ABC):
    """The options of one method; its `build` makes the method."""

    @abstractmethod
    def build(self, dataset: Dataset) -> Method:
        """The method with freshly initialised (or pretrained, where its towers say so) networks."""


def without_weights(config: Any) -> Any:
    """The same configuration with every tower at random weights: for networks whose weights are about to be loaded."""
    changes = {
        field.name: "none" if field.name == "weights" else without_weights(getattr(config, field.name))
        for field in fields(config)
        if field.name == "weights" or is_dataclass(getattr(config, field.name))
    }
    return replace(config, **changes)


def full_precision(rows: Tensor) -> Tensor:
    """At least fp32."""
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


class Method(nn.Module, ABC):
    """One module that holds both towers, the heads and the losses, as DistributedDataParallel and DeepSpeed want it.

    A step has two halves: `represent` runs the towers on this rank's samples, `objective` looks at the representations
    of the whole global batch. The halves are apart so that representations can be gathered across ranks, and cached.
    """

    similarity: ClassVar[Similarity] = "cosine"
    """by which embeddings are compared"""

    @abstractmethod
    def represent(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """All that the objective needs of each sample, as tensors whose rows are samples."""

    @abstractmethod
    def objective(self, representations: Mapping[str, Tensor], labels: Tensor, progress: float) -> dict[str, Tensor]:
        """The named loss terms and their weighted "total", scalars.

        Args:
            representations: as `represent` gives them, of the whole global batch.
            labels: (n, c) multi-hot.
            progress: share of the training that is done, in [0, 1].
        """

    @abstractmethod
    def embed(self, modality: str, inputs: Any) -> Tensor:
        """Embeddings (n, d) in the common space."""

    def global_objective(
        self, representations: Mapping[str, Tensor], labels: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """`objective` on what all ranks hold, in fp32 whatever the towers ran in (fp64 where they ran in that).

        Raises:
            XmrError: representations that are not finite.
        """
        with torch.autocast(labels.device.type, enabled=False):
            everywhere = {name: gather(full_precision(rows)) for name, rows in representations.items()}
            for name, rows in everywhere.items():
                if not rows.isfinite().all():
                    raise XmrError(
                        f"the {name} representations hold NaN or infinite values: the training has diverged. Lower "
                        "--optimiser.lr, set --train.clip-norm, or use bf16 instead of fp16"
                    )
            return self.objective(everywhere, gather(labels), progress)

    def forward(
        self, batch: Batch, progress: float = 0.0, gradients: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The loss terms of the global batch of which `batch` is this rank's part.

        With `gradients`, the loss's gradients with respect to the representations of these samples (see
        `xmr_e2e.engine.accumulate`), "total" is a surrogate whose backward pass sends them through the towers.
        """
        representations = self.represent(batch.inputs)
        if gradients is None:
            return self.global_objective(representations, batch.labels, progress)
        surrogate = sum((representations[name] * gradient).sum() for name, gradient in gradients.items())
        # Every parameter takes part, with weight zero where the towers do not use it: DistributedDataParallel waits
        # for all.
        everything = torch.stack([parameter.sum() for parameter in self.parameters() if parameter.requires_grad]).sum()
        return {"total": surrogate + 0.0 * everything}
