"""Options of the data: what is read, and how it becomes batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from xmr_e2e.bounds import Bounds, Count, FractionBelow1
from xmr_e2e.configuration import FORMERLY
from xmr_e2e.data.augment import Augment
from xmr_e2e.data.encoded import Decoding
from xmr_e2e.data.label_noise import NoiseKind
from xmr_e2e.data.media import Shapes, Sounds, Videos
from xmr_e2e.data.media_files import MediaBounds
from xmr_e2e.data.tokenizers import Tokenization
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.errors import XmrError

ImageSide = Annotated[int, Bounds(int, least=1, most=10_000)]
"""of the square that a picture becomes, whose pixels are then no more than those of the largest picture that is read"""


@dataclass(frozen=True)
class Data:
    """The data to read, and their way into batches."""

    shards: Path
    """folder of shards, as the builders in preprocessing/ make it"""
    image_size: ImageSide = 224
    """side in pixels of the square that the image network sees"""
    load_size: ImageSide = 256
    """side in pixels to which pictures are brought, and out of which training crops are taken"""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """how pictures are brought to that side, antialiased; many published weights were trained with bicubic"""
    decode: Decoding = "cpu"
    """where JPEG pictures are decoded in training: by the loader's processes, or (device) by the training's own, on its
    GPU if it has one, which gives slightly other pixels; auto: device where there is a GPU that can, else cpu. All
    other pictures, and those of evaluation, are decoded by the loader's processes"""
    texts: Literal["concatenate", "one_caption"] = "concatenate"
    """a sample's texts joined into one, or in each epoch one of them by chance (the first in evaluation)"""
    max_tokens: Count = 300
    """words of a text that are read; for articles such as Wikipedia's"""
    tokens: Tokenization = Tokenization()
    words: WordVectors = WordVectors()
    augment: Augment = Augment()
    audio: Sounds = Sounds()
    video: Videos = Videos()
    shape3d: Shapes = Shapes()
    media: MediaBounds = MediaBounds()
    extra_shards: dict[str, Annotated[float, Bounds(float, above=0, most=1000)]] = field(
        default_factory=dict, metadata={FORMERLY: "also"}
    )
    """further folders, whose training splits are mixed in, and how often an epoch visits each of their samples (0.5:
    every second epoch; 2: twice). Their classes are among those of the shards; validation and test are not mixed"""
    label_noise: FractionBelow1 = 0.0
    """share of the training split's labels that are exchanged for wrong ones, by chance and --train.seed, to see what a
    method makes of them; validation and test keep theirs"""
    label_noise_kind: NoiseKind = "symmetric"
    """exchanged for any other class alike, or (asymmetric) always for the next one"""
    workers: Annotated[int, Bounds(int, least=0, most=1024)] | None = None
    """loader processes per rank; by default the cores that this process may use, at most 8, divided among the ranks of
    the machine"""

    @property
    def frame_load_size(self) -> int:
        """Side in pixels to which frames of videos are brought."""
        return round(self.video.size * self.load_size / self.image_size)

    def __post_init__(self) -> None:
        if self.image_size > self.load_size:
            raise XmrError(f"--data.image-size {self.image_size} must not be above --data.load-size {self.load_size}")
