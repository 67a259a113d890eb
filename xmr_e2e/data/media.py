"""Options of sounds, videos and 3D shapes: how much of each is read, and how it varies in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from xmr_e2e.bounds import Bounds
from xmr_e2e.data.augment_points import PointAugment
from xmr_e2e.data.augment_sound import SoundAugment


@dataclass(frozen=True)
class Sounds:
    """The windows of sounds that networks hear."""

    rate: Annotated[int, Bounds(int, least=1000, most=96_000)] = 16_000
    """samples per second to which sounds are brought, mono: 16000 for most pretrained networks, 48000 for CLAP"""
    seconds: Annotated[float, Bounds(float, least=0.05, most=600)] = 3.0
    """of a window: a random one of each sound in training"""
    windows: Annotated[int, Bounds(int, least=1, most=100)] = 3
    """evenly spaced ones of each sound in evaluation, whose features are averaged"""
    augment: SoundAugment = SoundAugment()

    @property
    def samples(self) -> int:
        """Of a window."""
        return max(1, round(self.rate * self.seconds))


@dataclass(frozen=True)
class Videos:
    """The frames of videos that networks see; they are augmented as pictures are."""

    frames: Annotated[int, Bounds(int, least=1, most=1000)] = 8
    """of each video, each at a random time of a segment of its own in training, in the middle of it in evaluation"""
    size: Annotated[int, Bounds(int, least=1, most=4096)] = 112
    """side in pixels of the square that the network sees of a frame; frames are brought to more in the proportion in
    which --data.load-size is above --data.image-size"""


@dataclass(frozen=True)
class Shapes:
    """The points of 3D shapes that networks see."""

    points: Annotated[int, Bounds(int, least=1, most=1_000_000)] = 1024
    """of each shape's surface, others in each epoch"""
    augment: PointAugment = PointAugment()
