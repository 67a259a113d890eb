"""Semantic Sharing: regions and words through one self-attention encoder, in label space (Yang et al., IJCAI 2021).

One encoder for both modalities predicts the labels of each region and word; their mean is both the classification and
the embedding. Masked words and masked objects, predicted from their context, teach the encoder relations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xmr_e2e.bounds import Fraction, Layers, NotNegative, Width
from xmr_e2e.data.captions import Captions
from xmr_e2e.data.inputs import Tokens
from xmr_e2e.data.text import UNKNOWN
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.protocol import COMPARED_BY_COSINE, FIVE_CAPTIONS, Protocol
from xmr_e2e.methods.base import Method, MethodConfig, check_weights
from xmr_e2e.methods.prenorm_encoder import prenorm_encoder
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.objectives.semantic_sharing import (
    consistency_loss,
    label_score_loss,
    label_scores,
    masked_loss_per_sample,
    pool_scores,
    sinusoids,
)
from xmr_e2e.shards.schema import COCO_CLASSES
from xmr_e2e.towers.base import DatasetInfo, SequenceTower, TokenFeatures
from xmr_e2e.towers.regions import FasterRcnn
from xmr_e2e.towers.text import BiGruWords

_BATCH_LOSS = (
    "The weights are those after the step with the lowest loss of a single training batch, looked at every tenth step: "
    "no validation took part."
)
_RELEASED = (
    Protocol(
        "released:semantic_sharing",
        select="training loss",
        selected_on="training loss",
        choice=_BATCH_LOSS,
        captions=Captions(distinct=True),
        similarity="cosine",
        quirks=(
            "Each caption is an item of its own, and identical captions are one, with the labels and the picture of "
            "the first sample that has it.",
            COMPARED_BY_COSINE,
        ),
    ),
    Protocol(
        "released:semantic_sharing_coco",
        select="training loss",
        selected_on="training loss",
        choice=_BATCH_LOSS,
        captions=Captions(most=5),
        similarity="dot",
        ndcg_stride=5,
        quirks=(
            FIVE_CAPTIONS,
            "Embeddings are compared by dot product, whatever the method's own score is.",
            "From text to image, NDCG discounts rank r (from 0) by 1 / log2(5 r + i + 2), i = 0 to 4 the number of the "
            "caption that asks, instead of 1 / log2(r + 2): figures are higher.",
            "The whole test split is one gallery, also where the script says five folds.",
        ),
    ),
)


@dataclass(frozen=True, kw_only=True)
class SemanticSharing(MethodConfig):
    """Semantic Sharing's towers, encoder and weights."""

    title = "Semantic Sharing"
    citation = (
        "Yang et al., Rethinking Label-Wise Cross-Modal Retrieval from a Semantic Sharing Perspective, IJCAI, 2021"
    )
    protocols = _RELEASED

    image: SequenceTower = FasterRcnn()
    text: SequenceTower = BiGruWords()
    dim: Width = 1024
    """width of the shared encoder"""
    layers: Layers = 6
    heads: Width = 8
    """attention heads of each layer"""
    feedforward: Width = 2048
    """width of each layer's hidden feed-forward layer"""
    label: NotNegative = 1.0
    """weight of the label prediction (Eq. 4), to which Eq. 6 gives none; 0 is "w/o L" and "IMC" of Table 1"""
    context: NotNegative = 0.1
    """weight of the prediction of masked words and objects (lambda): 0.1 for Flickr and NUS-WIDE, 0.01 for COCO"""
    consistency: NotNegative = 0.0
    """weight of the embeddings' consistency between the modalities and within each (Eq. 1; eta of Eq. 2 and Figure 1):
    above 0 in "IMC" and "Ours+Con" of Table 1"""
    masked: Fraction = 0.15
    """share of the regions and words that are masked in training"""
    objects: Width | None = None
    """classes of the detector's objects, background included; by default those of the tower's detector, or 91 (COCO's)
    where stored regions do not say"""
    inputs: Literal["segments", "global"] = "segments"
    """of the encoder: a sample's regions or words, or their mean alone, without position ("w/o R" of Table 1)"""
    encoder: Literal["attention", "layer"] = "attention"
    """layers of self-attention, or one fully connected layer ("w/o T" and "w/o R" of Table 1)"""
    shared: bool = True
    """one encoder and one classifier for both modalities; otherwise each has its own ("ST" of Table 1)"""
    embedding: Literal["scores", "states"] = "scores"
    """for retrieval: label scores, as released, or the mean of the encoder's states, as printed; without the label
    prediction there are no scores"""
    scores: Literal["sigmoid", "softmax"] = "sigmoid"
    """of a region or word: sigmoid brought to length 1, as released, or softmax, as printed"""
    positions: Literal["number", "sinusoids"] = "number"
    """input of the linear layer for words: the word's number over 100, or its sines and cosines, as printed"""
    phi: Literal["half", "layer"] = "half"
    """fusion of features and positions (Eq. 3): half their sum, as released, or a linear layer with ReLU on their sum,
    as the paper's "non-linear mapping" may be read"""
    released: bool = False
    """do as the released code did: no positions, no masks on regions, <unk> in place of masked words, padding attended
    to and averaged over, a sigmoid before the softmax of the predictions"""

    @property
    def needs_labels(self) -> bool:
        return bool(self.label or self.consistency)

    def build(self, dataset: DatasetInfo) -> SemanticSharingModel:
        check_weights(self, "label", "context", "consistency")
        for name, tower in self.towers.items():
            if not isinstance(tower, SequenceTower):
                raise XmrError(
                    f"--method.{name}: {type(tower).__name__} gives one row per sample; Semantic Sharing needs "
                    "regions or words (GridRegions, FasterRcnn, StoredRegions, BiGruWords)"
                )
        if self.dim % self.heads:
            raise XmrError(f"--method.dim {self.dim} is no multiple of --method.heads {self.heads}")
        stored = dataset.widths.get("objects") if self.input_kinds["image"] == "regions" else None
        if self.objects and stored and self.objects < stored:
            raise XmrError(
                f"--method.objects {self.objects} is less than the {stored} classes of the detector that found the "
                "stored regions; leave the option out"
            )
        bare = "--method.released" if self.released else "--method.inputs global" if self.inputs == "global" else ""
        if bare and (self.positions, self.phi) != ("number", "half"):
            raise XmrError(
                f"{bare} has no positions, so neither --method.positions sinusoids nor --method.phi layer goes with "
                f"it: leave these out, or {bare}"
            )
        if self.inputs == "global" and self.context:
            raise XmrError("--method.inputs global leaves no regions and words to predict: set --method.context 0")
        if self.embedding == "scores" and not self.label:
            raise XmrError("--method.label 0 teaches no label scores to retrieve by: set --method.embedding states")
        return SemanticSharingModel(self, dataset)


class SemanticSharingModel(Method):
    """The networks and losses of Semantic Sharing."""

    freezable = ("image",)  # the papers' own setting: regions were extracted once, words were always learned

    def __init__(self, config: SemanticSharing, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.config = config
        places = {"image": 5, "text": 1 if config.positions == "number" else config.dim}
        self.entrance = nn.ModuleDict({name: nn.Linear(width, config.dim) for name, width in self.widths().items()})
        self.has_places = not config.released and config.inputs == "segments"
        if self.has_places:
            self.region_mask = nn.Parameter(torch.zeros(self.widths()["image"]))
            self.places = nn.ModuleDict({name: nn.Linear(width, config.dim) for name, width in places.items()})
        if config.phi == "layer":
            self.phi = self._each(lambda: nn.Linear(config.dim, config.dim))
        self.encoder = self._each(self._make_encoder)
        self.norm = self._each(lambda: nn.LayerNorm(config.dim))
        self.label_head = self._each(lambda: nn.Linear(config.dim, dataset.classes))
        self.objects = config.objects or getattr(self.towers["image"], "classes", None) or COCO_CLASSES
        outputs = {"image": self.objects, "text": len(dataset.words)}
        self.context_heads = nn.ModuleDict({name: nn.Linear(config.dim, width) for name, width in outputs.items()})

    def _each(self, make: Callable[[], nn.Module]) -> Any:
        """A module for both modalities, or one for each."""
        return make() if self.config.shared else nn.ModuleDict({name: make() for name in self.towers})

    def _of(self, modality: str, part: Any) -> Any:
        """The module of a modality."""
        return part if self.config.shared else part[modality]

    def _make_encoder(self) -> nn.Module:
        """Layers of self-attention, or one without."""
        config = self.config
        if config.encoder == "layer":
            return nn.Linear(config.dim, config.dim)
        return prenorm_encoder(config.dim, config.layers, config.heads, config.feedforward)

    @property
    def unreached(self) -> tuple[str, ...]:
        heads = {"label_head": self.config.label, "context_heads": self.config.context}
        return tuple(name for name, weight in heads.items() if not weight)

    def embed(self, modality: str, inputs: Any) -> Tensor:
        sequence = self._segments(self.features(modality, inputs))
        states = self._encode(modality, sequence)
        if self.config.embedding == "states":
            return self._pooled(sequence, states)
        return self._scores(modality, sequence, states)

    def represent(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Label scores, the mean state, and of the masked regions and words the sum of losses and their number, of each
        sample, as far as a term needs them."""
        result = {}
        for name, item in inputs.items():
            sequence, masked = self._masked_features(name, item)
            states = self._encode(name, sequence)
            if self.config.label:
                result[f"{name} scores"] = self._scores(name, sequence, states)
            if self.config.consistency:
                result[f"{name} states"] = self._pooled(sequence, states)
            if self.config.context:
                losses = self._context_losses(name, states, sequence, masked)
                result[f"{name} context"] = losses
                result[f"{name} masked"] = masked.sum(1).to(losses)
        return result

    def objective(
        self, representations: Mapping[str, Tensor], labels: Tensor, context: StepContext
    ) -> dict[str, Tensor]:
        """Eq. 6, with Eq. 1 beside it where it has a weight."""
        config, terms, weighted = self.config, {}, []
        if config.label:
            scores = torch.cat([representations["image scores"], representations["text scores"]])
            terms["label"] = label_score_loss(scores, torch.cat([labels, labels]))
            weighted.append(config.label * terms["label"])
        if config.context:
            terms["object"], terms["word"] = (
                representations[f"{name} context"].sum() / representations[f"{name} masked"].sum().clamp(min=1)
                for name in ("image", "text")
            )
            weighted.append(config.context * (terms["object"] + terms["word"]))
        if config.consistency:
            terms["consistency"] = consistency_loss(
                representations["image states"], representations["text states"], labels
            )
            weighted.append(config.consistency * terms["consistency"])
        return {**terms, "total": reduce(torch.add, weighted)}

    def _segments(self, sequence: TokenFeatures) -> TokenFeatures:
        """The sequence, or the mean of its real places as the only one."""
        if self.config.inputs == "segments":
            return sequence
        mean = pool_scores(sequence.features, sequence.mask)[:, None].to(sequence.features)
        return TokenFeatures(mean, sequence.mask.new_ones(len(mean), 1), sequence.positions[:, :1], None)

    def _masked_features(self, modality: str, inputs: Any) -> tuple[TokenFeatures, Tensor]:
        """The sequence with some of its places masked, and which ones: (n, t) bool."""
        if self.config.inputs == "global":
            whole = self._segments(self.features(modality, inputs))
            return whole, torch.zeros_like(whole.mask)
        if modality == "text":
            masked = self._draw(_real(inputs))
            if self.config.released:
                unknown = Tokens(inputs.ids.masked_fill(masked, UNKNOWN), inputs.lengths)
                # To be predicted is the word that was there, not what stands in its place.
                return self.towers["text"](unknown)._replace(targets=inputs.ids), masked
            return self.towers["text"](inputs, masked), masked
        sequence: TokenFeatures = self.features(modality, inputs)
        # Without classes there is nothing to predict, and masks would only take regions away.
        masked = self._draw(sequence.mask & (sequence.targets is not None))
        if self.config.released:
            return sequence, masked
        rows = torch.where(masked[:, :, None], self.region_mask.to(sequence.features), sequence.features)
        return sequence._replace(features=rows), masked

    def _draw(self, real: Tensor) -> Tensor:
        """A random mask of the places; none is masked in evaluation."""
        if not self.training:
            return torch.zeros_like(real)
        return (torch.rand(real.shape, device=real.device) < self.config.masked) & real

    def _encode(self, modality: str, sequence: TokenFeatures) -> Tensor:
        """States of the shared encoder, (n, t, dim)."""
        states: Tensor = self.entrance[modality](sequence.features)
        attended = None
        if self.has_places:
            places = sequence.positions if modality == "image" else self._of_words(sequence.positions)
            states = states + self.places[modality](places.to(states))
            states = states / 2 if self.config.phi == "half" else torch.relu(self._of(modality, self.phi)(states))
            padding = ~sequence.mask[:, None, None, :]
            attended = torch.zeros_like(padding, dtype=states.dtype)
            attended = attended.masked_fill(padding, torch.finfo(states.dtype).min)
        encoder = self._of(modality, self.encoder)
        if self.config.encoder == "attention":
            encoded = encoder(states, attention_mask=attended).last_hidden_state
        else:
            encoded = encoder(states)
        return torch.relu(self._of(modality, self.norm)(encoded))

    def _of_words(self, numbers: Tensor) -> Tensor:
        """The encoding of the words' places, (n, t, 1) -> (n, t, p)."""
        # In hundreds, so that one step of learning suits words and boxes, which are shares of the picture.
        return numbers / 100 if self.config.positions == "number" else sinusoids(numbers, self.config.dim)

    def _scores(self, modality: str, sequence: TokenFeatures, states: Tensor) -> Tensor:
        logits = self._of(modality, self.label_head)(states)
        return self._pooled(sequence, label_scores(logits, activation=self.config.scores))

    def _pooled(self, sequence: TokenFeatures, rows: Tensor) -> Tensor:
        """The mean over a sample's places, (n, t, .) -> (n, .)."""
        return pool_scores(rows, sequence.mask, over="all" if self.config.released else "real")

    def _context_losses(self, modality: str, states: Tensor, sequence: TokenFeatures, masked: Tensor) -> Tensor:
        head: nn.Linear = self.context_heads[modality]  # type: ignore[assignment]
        if sequence.targets is None:
            # All parameters take part in each step: DistributedDataParallel waits for them.
            return 0 * (states.mean((1, 2)) + head.weight.sum() + head.bias.sum())
        if modality == "image":
            self._check_objects(sequence.targets)
        places = masked.flatten().nonzero()[:, 0]  # once: the host waits for their number
        logits, targets = head(states.flatten(0, 1)[places]), sequence.targets.flatten()[places]
        return masked_loss_per_sample(logits, targets, masked, sigmoid_first=self.config.released)

    def _check_objects(self, classes: Tensor) -> None:
        """Raise XmrError for class ids that the head does not have."""
        lowest, highest = torch.stack(classes.aminmax()).tolist()
        if lowest < 0 or highest >= self.objects:
            raise XmrError(
                f"a region's class id is {lowest if lowest < 0 else highest}, and --method.objects is {self.objects} "
                f"(ids 0 to {self.objects - 1}): set it to the number of classes of the detector that found the regions"
            )


def _real(tokens: Tokens) -> Tensor:
    return torch.arange(tokens.ids.shape[1], device=tokens.ids.device) < tokens.lengths[:, None]
