"""An untrained model of pictures, texts, sounds, videos and shapes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

import xmr_e2e
from tests.helpers.raw_media import CLASSES, RATE
from tests.helpers.references import as_if_fitted
from xmr_e2e.data.config import Data
from xmr_e2e.data.loader import fit_words
from xmr_e2e.data.media import Shapes, Sounds, Videos
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.methods.drcl import Drcl
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.points import PointNet
from xmr_e2e.towers.sound import SoundTower
from xmr_e2e.towers.text import TextCnn
from xmr_e2e.towers.video import MeanOfFrames

FIVE = Drcl(
    image=ImageTower("resnet10_slim", weights="none"),
    text=TextCnn(kernels=8),
    audio=SoundTower(mels=32),
    video=MeanOfFrames("resnet10_slim", weights="none"),
    shape3d=PointNet(width=32),
    hidden=16,
    dim=8,
)


def data_of_five(shards: Path) -> Data:
    """Small options for the miniatures of five modalities."""
    return Data(
        shards,
        image_size=32,
        load_size=40,
        audio=Sounds(rate=RATE, seconds=0.2, windows=3),
        video=Videos(frames=3, size=32),
        shape3d=Shapes(points=64),
        words=WordVectors(dim=8, min_count=1),
        workers=0,
    )


def make_five(shards: Path, config: Drcl = FIVE, *, data: Data | None = None) -> xmr_e2e.SavedModel:
    """The model, whose networks are drawn by chance, always the same ones."""
    data = replace(data or data_of_five(shards), shards=shards)
    tokenizer, vectors = fit_words(data)
    torch.manual_seed(0)
    sizes = {"frame_size": data.video.size, "sound_rate": data.audio.rate}
    dataset = DatasetInfo(len(CLASSES), False, data.image_size, torch.from_numpy(vectors), **sizes)
    method = as_if_fitted(config.build(dataset))
    return xmr_e2e.SavedModel(config, data, CLASSES, False, tokenizer, {}, method, "untrained")


def save_five(shards: Path, run: Path) -> xmr_e2e.SavedModel:
    """The model in a run's folder."""
    run.mkdir(parents=True)
    model = make_five(shards)
    model.save(run, model.method.state_dict(), "untrained")
    return model
