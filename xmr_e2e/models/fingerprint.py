"""The fingerprint of a model: what its embeddings depend on, as a number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from typing import Any

import torch

from xmr_e2e.configuration import to_document
from xmr_e2e.data.config import Data
from xmr_e2e.data.inputs import InputKind
from xmr_e2e.data.tokenizers import Tokenizer
from xmr_e2e.methods.base import Method, MethodConfig

_ORIGINS = ("name", "weights", "revision")


def fingerprint_of(config: MethodConfig, data: Data, tokenizer: Tokenizer | None, method: Method) -> str:
    """sha256 of a model's configuration, of what it reads of each item, and of its weights."""
    about = [
        _without_origins(to_document(config)),
        [data.load_size, data.image_size, data.max_tokens, *_other_interpolation(data)],
        tokenizer and tokenizer.to_document(),
        *_media_options(data, method.input_kinds.values()),
    ]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, value in sorted(method.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _other_interpolation(data: Data) -> list[str]:
    """Nothing for that of before there was a choice, so that the fingerprints of then are the same."""
    return [] if data.interpolation == "bilinear" else [data.interpolation]


def _media_options(data: Data, kinds: Collection[InputKind]) -> list[dict[str, Any]]:
    """The amount that is read of sounds, videos and shapes: of those alone that the model reads, so that fingerprints
    of before there were any are the same."""
    audio = data.audio
    about: dict[InputKind, list[float]] = {
        "waveform": [audio.rate, audio.seconds, audio.windows],
        "frames": [data.video.frames, data.video.size],
        "points": [data.shape3d.points],
    }
    return [{kind: options} for kind, options in about.items() if kind in kinds]


def _without_origins(document: Any) -> Any:
    """A configuration without the names and files that its networks once came from; the weights stand for them."""
    if not isinstance(document, dict):
        return document
    return {key: _without_origins(value) for key, value in document.items() if key not in _ORIGINS}
