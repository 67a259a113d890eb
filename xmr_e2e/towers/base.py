"""The base classes of towers: the network of one modality, and the configuration that builds it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from xmr_e2e.data.inputs import InputKind


@dataclass(frozen=True)
class DatasetInfo:
    """The properties of the data that networks need in order to be built."""

    classes: int
    multi_label: bool
    image_size: int
    """side in pixels of the images that an image tower sees"""
    words: Tensor
    """(v, e): the word vectors from which a text tower starts, row 0 being padding; e is 0 where the tokens are those
    of a pretrained tokeniser, which comes with its own"""
    widths: Mapping[str, int] = field(default_factory=dict)
    """modality -> width of its published features, where the shards hold some; "regions" -> that of stored regions,
    "objects" -> the classes of the detector that found them"""
    architectures: Mapping[str, Any] | None = None
    """modality -> transformers' configuration of a pretrained tower, where a saved model is built again and takes its
    weights from its own file: nobody else is asked for anything, and nothing is drawn that they replace"""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """name -> shape of the weights that follow, where a saved model is built again"""

    published: frozenset[str] = frozenset()
    """modalities whose weights are trained ones that follow, so that the networks need not learn them"""
    frame_size: int = 112
    """side in pixels of the frames that a video tower sees"""
    sound_rate: int = 16_000
    """samples per second of the sounds that an audio tower hears"""
    idf: Tensor | None = None
    """(v,): inverse document frequencies of the words in the training texts; None where they are unknown"""

    @property
    def is_saved(self) -> bool:
        """True where the weights of a saved model follow."""
        return self.architectures is not None


@dataclass(frozen=True)
class TowerConfig(ABC):
    """The options of one tower; its `build` makes the network."""

    kind: ClassVar[str]
    """its name on the command line, `--method.MODALITY.kind`; the class's where it declares none"""
    input_kind: ClassVar[InputKind]
    """the kind of input that it takes of a sample, as in `Batch.inputs`"""
    is_pretrained: ClassVar[bool] = False
    """True where its architecture is one of transformers', by name"""

    trained: Literal["all", "last_block", "lora", "nothing"] = field(default="all", kw_only=True)
    """part that learns: all; last_block, the network's last block and what follows it (of word vectors: all but these);
    lora, low-rank changes beside the linear layers of a transformer (Hu et al., 2022); nothing"""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.kind = vars(cls).get("kind", cls.__name__)

    @property
    def has_published_weights(self) -> bool:
        """True where the network begins as one that has learnt something, so that it may stand still as it begins."""
        weights: str = getattr(self, "weights", "none")
        return weights != "none"

    @property
    def needs_idf(self) -> bool:
        """True where it is built from the words' frequencies in the training texts (`DatasetInfo.idf`)."""
        return False

    @abstractmethod
    def build(self, dataset: DatasetInfo, modality: str) -> nn.Module:
        """The network: forward(inputs) -> (n, dim), with its output's width as `.dim`.

        Raises XmrError where the data or the options do not allow it.
        """


class TokenFeatures(NamedTuple):
    """The output of the towers of `SequenceTower`: n samples as t places each (regions, or words)."""

    features: Tensor
    """(n, t, d)"""
    mask: Tensor
    """(n, t) bool: True where there is something, False for padding"""
    positions: Tensor
    """(n, t, p): where each is: a region's box (5), or a word's place in its text (1), from 0"""
    targets: Tensor | None
    """(n, t) int64: what each is, to be predicted where it is masked: class id of a region, token id of a word;
    None where nothing is known of it"""


class SequenceTower(TowerConfig):
    """A tower that keeps regions or words apart; its network gives a `TokenFeatures` instead of one row per sample."""
