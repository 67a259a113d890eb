"""DRCL: deep reversible consistency learning (IEEE Transactions on Multimedia, 2025).

Two rounds over the modalities, each trained alone, so that samples need not be paired. Selective prior learning gives
each modality a matrix from its embeddings to the classes; the best one becomes the prior. Reversible semantic
consistency then trains each modality towards the representations that the prior's pseudo-inverse makes of the labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmr_e2e.bounds import Count, Fraction, NotNegative, Positive, Seed, Width
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.protocol import COMPARED_BY_COSINE, Protocol
from xmr_e2e.methods.base import ManyModalities, Method, check_weights
from xmr_e2e.methods.heads import label_prior
from xmr_e2e.methods.stages import Stage, StepContext
from xmr_e2e.objectives.drcl import confidence, mixed, rsc_loss, spl_loss
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn

PRIOR, CONSISTENCY = "prior", "consistency"


@dataclass(frozen=True, kw_only=True)
class Drcl(ManyModalities):
    """DRCL's towers, widths and weights, as in the released code where the paper is silent."""

    title = "DRCL"
    citation = "Deep Reversible Consistency Learning for Cross-modal Retrieval, IEEE Transactions on Multimedia, 2025"
    protocols = (
        # Its AP@k over the relevant items among the first k (Eq. 9) is the default of all protocols.
        Protocol(
            "released:drcl",
            select="loss",
            choice="The epoch is the one with the lowest validation loss, not the one with the best validation figure.",
            similarity="cosine",
            quirks=(COMPARED_BY_COSINE,),
        ),
    )

    image: TowerConfig | None = ImageTower("vgg19")
    text: TowerConfig | None = TextCnn()
    hidden: Width = 4096
    """width of the two hidden layers of each modality's encoder"""
    dim: Width = 2048
    """width of the common space: 2048 for Wikipedia and NUS-WIDE, 512 for the paper's other datasets"""
    hardness_epochs: Count = 100
    """epochs in which the hardness mu of the label loss rises to 1"""
    hardness: Positive | None = None
    """mu of the consistency's label loss where it is the same in all epochs (#5 to #8 of Table IV); by default it
    rises"""
    mix: Fraction = 0.9
    """share of a sample's own features in the feature mixing (lambda of Eq. 3); 1 mixes nothing (#10 of Table IV)"""
    mix_of: Literal["embeddings", "outputs", "features"] = "embeddings"
    """what is mixed: embeddings, as released; the encoder's outputs, which are then brought to length 1; or what it
    reads, the tower's features (#11 of Table IV)"""
    label: NotNegative = 1.0
    """weight of the consistency's label loss (Eq. 7), to which Eq. 8 gives none"""
    discrimination: NotNegative = 0.1
    """weight of Eq. 6 in Eq. 8"""
    invariance: NotNegative = 0.1
    """weight of Eq. 5 in Eq. 8"""
    prior: Literal["best", "random", "image", "text", "audio", "video", "shape3d"] = "best"
    """the one of the best score, the random orthogonal matrix from which all start (#1 of Table IV, Table VI), or one
    modality's (Figure 3c)"""
    score_on: Literal["train", "val"] = "train"
    """split on which the priors are compared: train, as released, which rewards the modality that overfits, or val"""
    prior_seed: Seed = 1
    """of the orthogonal matrix from which the priors of all modalities start"""
    fresh: bool = True
    """a new encoder of a modality for the consistency, as released; otherwise it goes on from its prior's stage. Its
    tower goes on in any case: for the encoders, its features are what the released code reads from files"""

    def build(self, dataset: DatasetInfo) -> DrclModel:
        check_weights(self, "label", "discrimination", "invariance")
        if self.prior not in ("best", "random", *self.towers):
            raise XmrError(f"--method.prior {self.prior}: there is no such tower; there are {', '.join(self.towers)}")
        return DrclModel(self, dataset)


class DrclModel(Method):
    """The networks and losses of DRCL. Stages: prior-<modality> for each modality that may give the prior, then
    consistency-<modality> for each."""

    prior: Tensor
    score: Tensor
    _sums: Tensor

    def __init__(self, config: Drcl, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.config = config
        start = label_prior(config.dim, dataset, config.prior_seed)
        self.encoders = nn.ModuleDict({name: self._encoder(name) for name in self.towers})
        self.priors = nn.ParameterDict({name: start.clone() for name in self.towers})
        self.register_buffer("prior", start.clone())  # the selected one
        self.register_buffer("score", torch.zeros(len(self.towers)))
        # Confidence and number of samples of this epoch, in training and in validation.
        self.register_buffer("_sums", torch.zeros(2, 2))
        # Drawn while the training's seed holds: the same on every rank, and again when the training is gone on with.
        self._redraw_seed = int(torch.randint(2**62, (), device="cpu"))

    def _encoder(self, modality: str) -> nn.Sequential:
        width, hidden, dim = self.widths()[modality], self.config.hidden, self.config.dim
        last = nn.Linear(hidden, dim, bias=False)
        # By the width of what the encoder reads and not of what its last layer does, as in the released code.
        nn.init.uniform_(last.weight, -1 / math.sqrt(width), 1 / math.sqrt(width))
        return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), last)

    @property
    def stages(self) -> tuple[Stage, ...]:
        givers = {"best": self.modalities, "random": ()}.get(self.config.prior, (self.config.prior,))
        return tuple(
            Stage(f"{kind}-{name}", (name,), self._parts(kind, name), select="last" if kind == PRIOR else "loss")
            for kind, names in ((PRIOR, givers), (CONSISTENCY, self.modalities))
            for name in names
        )

    def _parts(self, kind: str, modality: str) -> tuple[str, ...]:
        own = (f"towers.{modality}", f"encoders.{modality}")
        return (*own, f"priors.{modality}") if kind == PRIOR else own

    def embed(self, modality: str, inputs: Any) -> Tensor:
        embeddings: Tensor = self.encoders[modality](self.features(modality, inputs))
        return F.normalize(embeddings, dim=1)

    def represent(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """By modality what the consistency mixes: it needs the global batch."""
        if self.config.mix_of == "features":
            return {name: self.features(name, item) for name, item in inputs.items()}
        if self.config.mix_of == "outputs":
            return {name: self.encoders[name](self.features(name, item)) for name, item in inputs.items()}
        return super().represent(inputs)

    def _embedded(self, modality: str, rows: Tensor) -> Tensor:
        """Embeddings of what `represent` gives."""
        if self.config.mix_of == "embeddings":
            return rows
        outputs = self.encoders[modality](rows) if self.config.mix_of == "features" else rows
        return F.normalize(outputs, dim=1)

    def begin_stage(self, stage: Stage) -> None:
        """Select the prior, and draw the stage's encoder again, before the consistency. A training that goes on inside
        of the stage has both from its checkpoint, which is loaded afterwards."""
        self._sums.zero_()
        if stage.name.startswith(CONSISTENCY):
            if self.config.prior != "random":
                best = self.modalities[int(self.score.argmax())]
                self.prior.copy_(self.priors[best if self.config.prior == "best" else self.config.prior].detach())
            if self.config.fresh:
                self._redraw(stage.modalities[0])

    def _redraw(self, modality: str) -> None:
        with torch.random.fork_rng(devices=[]):  # on the CPU, so that every device gets the same numbers
            torch.default_generator.manual_seed(self._redraw_seed + list(self.towers).index(modality))
            fresh = self._encoder(modality)
        self.encoders[modality].load_state_dict(fresh.state_dict())

    def objective(
        self, representations: Mapping[str, Tensor], labels: Tensor, context: StepContext
    ) -> dict[str, Tensor]:
        """Eq. 1 of the stage's modality, or Eq. 8."""
        config, (kind, _, modality) = self.config, context.stage.partition("-")
        rows = representations[modality]
        # From 0.01 and not from 0, where the released code's first epoch is one of NaN losses and no gradient.
        mu = min(1.0, (context.epoch + 1) / config.hardness_epochs)
        if kind == PRIOR:
            z, prior = self._embedded(modality, rows), self.priors[modality]
            confidences = confidence(z, labels, prior).detach()
            self._sums[int(self.training)] += torch.stack([confidences.sum(), confidences.new_full((), len(z))])
            return {"total": spl_loss(z, labels, prior, mu=mu)}
        permutation = torch.randperm(len(rows), device=rows.device) if self.training else None
        if permutation is not None and config.mix_of != "embeddings":
            rows, labels = (mixed(each, permutation, mix=config.mix) for each in (rows, labels.to(rows)))
            permutation = None
        return rsc_loss(
            self._embedded(modality, rows),
            labels,
            self.prior,
            mu=config.hardness or mu,
            mix=config.mix,
            permutation=permutation,
            label=config.label,
            alpha=config.discrimination,
            beta=config.invariance,
        )

    def end_epoch(self, stage: Stage) -> None:
        """The quality score: the largest mean confidence of an epoch (Eq. 2).

        Raises:
            XmrError: it is to be measured on a validation split that is not there.
        """
        total, samples = self._sums[int(self.config.score_on == "train")]
        if stage.name.startswith(PRIOR) and self.config.score_on == "val" and not samples:
            raise XmrError(
                f"--method.score-on val: the shards have no validation samples of {stage.modalities[0]}; choose "
                "--method.score-on train, or build shards with a validation split"
            )
        if stage.name.startswith(PRIOR) and samples:
            place = list(self.towers).index(stage.modalities[0])
            self.score[place] = torch.maximum(self.score[place], total / samples)
        self._sums.zero_()
