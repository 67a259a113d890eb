"""The base of methods that are fitted in closed form, on towers that learned the labels.

A closed form cannot teach the towers. These first learn to predict the classes, each modality by itself (with `frozen`
those alone that have no published weights); then the method is fitted to the training split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import ManyModalities, Method
from xmr_e2e.methods.stages import Stage, StepContext
from xmr_e2e.objectives.classification import label_losses
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn


@dataclass(frozen=True, kw_only=True)
class FittedOptions(ManyModalities):
    """The towers of a method that is fitted in closed form."""

    image: TowerConfig | None = ImageTower("vgg19")
    text: TowerConfig | None = TextCnn()

    @property
    def needs_labels(self) -> bool:
        return not self.frozen  # with which the method has no stage of its own that trains towers


class FittedMethod(Method):
    """Towers, their classifiers, and a closed form. Stages: labels, and the one named by `fitted_in`."""

    fitted_in: ClassVar[str] = "correlation"
    """name of the stage of the closed form"""

    def __init__(self, config: FittedOptions, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.classifiers = nn.ModuleDict(
            {name: nn.Linear(width, dataset.classes) for name, width in self.widths().items()}
        )

    @property
    def stages(self) -> tuple[Stage, ...]:
        fit = Stage(self.fitted_in, self.modalities, closed_form=True)
        learning = tuple(name for name in self.modalities if name not in self.frozen)
        prefixes = tuple(f"{part}.{name}" for name in learning for part in ("towers", "classifiers"))
        return (Stage("labels", learning, prefixes, select="loss"), fit) if learning else (fit,)

    def represent(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Logits by modality."""
        return {name: self.classifiers[name](self.features(name, item)) for name, item in inputs.items()}

    def objective(
        self, representations: Mapping[str, Tensor], labels: Tensor, context: StepContext
    ) -> dict[str, Tensor]:
        return label_losses(representations, labels, multi_label=self.multi_label)

    def check_dim(self, dim: int) -> None:
        """Raise XmrError for more canonical variates than the narrowest tower has dimensions."""
        narrowest = min(self.widths().values())
        if dim > narrowest:
            raise XmrError(f"--method.dim {dim} is more than the towers' widths allow ({narrowest})")


def check_finite_rows(embeddings: Mapping[str, Tensor], fitted: str) -> None:
    """Raise XmrError for a modality with NaN or infinite rows, to which the method of this name is to be fitted."""
    for name, rows in embeddings.items():
        if not rows.isfinite().all():
            raise XmrError(
                f"NaN or infinite {name} embeddings, to which {fitted} cannot be fitted: lower --optimizer.lr"
            )
