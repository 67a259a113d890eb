"""The inputs of one modality's network outside of this package: plain arrays instead of `Batch.inputs`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xmr_e2e.data.augment import prepare_evaluation
from xmr_e2e.data.augment_frames import prepare_frames
from xmr_e2e.data.inputs import CachedFeatures, Regions, Tokens, Waveforms
from xmr_e2e.data.text import PAD
from xmr_e2e.models.saved_model import SavedModel
from xmr_e2e.towers.base import TokenFeatures
from xmr_e2e.towers.regions import FasterRcnn

_BOXES = "x1, y1, x2, y2 of each region as shares of the picture's width and height, and the region's share of its area"
_LONGEST_EXAMPLE = 40
_MOST_WINDOWS = 3


@dataclass(frozen=True)
class Input:
    """One array."""

    name: str
    shape: tuple[str | int, ...]
    """a name stands for a size that is free; the first is n, the number of samples"""
    dtype: str
    meaning: str


@dataclass(frozen=True)
class OnnxInputs:
    """The arrays that a modality is given as."""

    inputs: tuple[Input, ...]
    read: Callable[..., Any]
    """tensors, one for each input -> what `Method.embed` takes"""
    example: Callable[[int, int], tuple[Tensor, ...]]
    """(n, t) -> inputs drawn by chance from torch's global generator: n samples of t places (words, regions) at most"""
    longest: int = 1
    """largest t to draw examples with"""


def onnx_inputs(model: SavedModel, modality: str) -> OnnxInputs:
    """That of one of the model's modalities."""
    if isinstance(model.config.towers[modality], FasterRcnn):
        return _found_regions(model, modality)
    return _ONNX_INPUTS[model.method.input_kinds[modality]](model, modality)


def _pixels(model: SavedModel, modality: str) -> OnnxInputs:
    side, size = model.data.load_size, model.data.image_size
    return OnnxInputs(
        (Input("pixels", ("n", 3, side, side), "uint8", f"RGB; the centred square of a picture, resized to {side}"),),
        read=lambda pixels: prepare_evaluation(pixels, size),
        example=lambda n, t: (torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8),),
    )


def _tokens(model: SavedModel, modality: str) -> OnnxInputs:
    known = len(model.tokenizer or ())
    limits = (model.data.max_tokens, getattr(model.method.towers[modality], "longest", None), _LONGEST_EXAMPLE)

    def example(n: int, t: int) -> tuple[Tensor, Tensor]:
        lengths = torch.randint(1, t + 1, (n,))
        lengths[0] = t
        ids = torch.randint(PAD + 1, known, (n, t))
        return ids.where(torch.arange(t) < lengths[:, None], PAD), lengths

    return OnnxInputs(
        (
            Input("ids", ("n", "t"), "int64", f"token ids of n texts, filled up with {PAD}"),
            Input("lengths", ("n",), "int64", "number of tokens of each text, at least 1"),
        ),
        read=Tokens,
        example=example,
        longest=min(limit for limit in limits if limit),
    )


def _vector(model: SavedModel, modality: str) -> OnnxInputs:
    width = model.widths[modality]
    return OnnxInputs(
        (Input("features", ("n", width), "float32", f"the published {modality} features of the dataset"),),
        read=lambda features: features,
        example=lambda n, t: (torch.randn(n, width),),
    )


def _stored_regions(model: SavedModel, modality: str) -> OnnxInputs:
    def read(features: Tensor, boxes: Tensor) -> Regions:
        return Regions(features, boxes, torch.zeros(features.shape[:2], dtype=torch.long))  # not part of an embedding

    return _regions(model.widths["regions"], "the features of r regions of each picture, as the shards hold them", read)


def _found_regions(model: SavedModel, modality: str) -> OnnxInputs:
    """Behind the detector, which torch cannot write as a graph: it branches on the number of boxes that it finds."""

    def read(features: Tensor, boxes: Tensor) -> CachedFeatures:
        mask = torch.ones(features.shape[:2], dtype=torch.bool)
        return CachedFeatures(TokenFeatures(features, mask, boxes, None))

    meaning = "fc7 of the model's Faster R-CNN for its r most certain regions of each picture, which runs outside"
    return _regions(model.method.widths()[modality], meaning, read)


def _regions(width: int, meaning: str, read: Callable[..., Any]) -> OnnxInputs:
    return OnnxInputs(
        (
            Input("features", ("n", "r", width), "float32", meaning),
            Input("boxes", ("n", "r", 5), "float32", _BOXES),
        ),
        read=read,
        example=lambda n, r: (torch.randn(n, r, width), torch.rand(n, r, 5)),
        longest=_LONGEST_EXAMPLE,
    )


def _waveform(model: SavedModel, modality: str) -> OnnxInputs:
    audio = model.data.audio
    heard = f"{audio.seconds:g} seconds, mono, {audio.rate} samples per second in [-1, 1]"

    def example(n: int, w: int) -> tuple[Tensor, Tensor]:
        lengths = torch.randint(0, audio.samples + 1, (n, w))
        lengths[:, 0] = lengths[:, 0].clamp(min=1)
        lengths[0] = audio.samples
        samples = 2 * torch.rand(n, w, audio.samples) - 1
        return samples.where(torch.arange(audio.samples) < lengths[:, :, None], 0.0), lengths

    return OnnxInputs(
        (
            Input("samples", ("n", "w", audio.samples), "float32", f"w windows of n sounds: {heard}, 0 behind the end"),
            Input("lengths", ("n", "w"), "int64", "samples of each window; 0 for one that a short sound does not have"),
        ),
        read=Waveforms,
        example=example,
        longest=_MOST_WINDOWS,
    )


def _frames(model: SavedModel, modality: str) -> OnnxInputs:
    side, size, count = model.data.frame_load_size, model.data.video.size, model.data.video.frames
    meaning = f"RGB; the middle frames of {count} equal parts of a video, their centred squares, resized to {side}"
    return OnnxInputs(
        (Input("frames", ("n", count, 3, side, side), "uint8", meaning),),
        read=lambda frames: prepare_frames(frames, size),
        example=lambda n, t: (torch.randint(0, 256, (n, count, 3, side, side), dtype=torch.uint8),),
    )


def _points(model: SavedModel, modality: str) -> OnnxInputs:
    meaning = "points on a shape's surface, whose mean is the origin and the farthest at a distance of 1"

    def example(n: int, p: int) -> tuple[Tensor]:
        points = torch.randn(n, p, 3)
        return (points / points.norm(dim=2, keepdim=True).amax(dim=1, keepdim=True),)

    return OnnxInputs(
        (Input("points", ("n", "p", 3), "float32", meaning),),
        read=lambda points: points,
        example=example,
        longest=model.data.shape3d.points,
    )


_ONNX_INPUTS = {
    "pixels": _pixels,
    "tokens": _tokens,
    "vector": _vector,
    "regions": _stored_regions,
    "waveform": _waveform,
    "frames": _frames,
    "points": _points,
}
