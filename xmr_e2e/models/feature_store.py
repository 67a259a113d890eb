"""Features of frozen towers on disk: extracted once, and shared by all trainings with the same tower and data.

A file is named by the fingerprint of all that its rows depend on: the tower's weights and configuration, how samples
are brought to it, and the samples. So nothing in it has to be brought up to date; whatever changes has another name.
Whatever is in such a folder is data: it is compared with what is expected, and extracted again where it differs.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from xmr_e2e.configuration import to_document
from xmr_e2e.data.config import Data
from xmr_e2e.data.inputs import InputKind
from xmr_e2e.data.mixture import MixedReader
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.data.tokenizers import Tokenizer
from xmr_e2e.errors import XmrError
from xmr_e2e.files import writing
from xmr_e2e.received import first_line, inside
from xmr_e2e.towers.base import TowerConfig

logger = logging.getLogger(__name__)

FORMAT = "xmr-features-1"
FIRST = "first"
"""the tensor that says which rows are a sample's, as in `CachedFeatures`"""
_CHECKSUM = "crc32"
_ELSEWHERE = ("shards", "extra_shards", "workers", "augment", "tokens", "words", "media")
"""options of the data that have no part in what a tower sees, or are in the fingerprint by what they stand for"""
_SEEN_BY: Mapping[InputKind, tuple[str, ...]] = {
    "pixels": ("image_size", "load_size", "interpolation"),
    "tokens": ("texts", "max_tokens"),
    "waveform": ("audio",),
    "frames": ("image_size", "load_size", "interpolation", "video"),
    "points": ("shape3d",),
}
"""options that only towers of one kind see; what is in none of these lists counts for all"""
_ORIGINS = ("weights", "revision", "trained")
"""of a tower: where its weights once came from, in whose place they stand themselves, and what of it would learn"""


@dataclass(frozen=True)
class FeatureStore:
    """A folder of feature files."""

    folder: Path

    def path(self, fingerprint: str) -> Path:
        return self.folder / f"{fingerprint}.safetensors"

    def find(self, fingerprint: str, samples: int) -> dict[str, Tensor] | None:
        """The features of this fingerprint, checked against damage; None where there are none, or none that can be
        used, which is said.

        Args:
            samples: of the split.
        """
        path = self.path(fingerprint)
        try:
            if not inside(self.folder, path.name).exists():
                return None
            found, about = _read(path)
            problem = _problem(found, about, fingerprint, samples)
        except (OSError, ValueError, SafetensorError, MemoryError, XmrError) as error:
            problem = first_line(error)
        if problem:
            logger.warning("%s: passed over, and extracted again: %s", path, problem)
            return None
        return found

    def open(self, fingerprint: str, samples: int) -> dict[str, Tensor] | None:
        """As `find`, of a file that this training's main process has checked or written, and without a word."""
        try:
            found, _ = _read(inside(self.folder, self.path(fingerprint).name))
        except (OSError, ValueError, SafetensorError, MemoryError, XmrError):
            return None
        return found if _has_rows(found, samples) else None

    def save(self, fingerprint: str, tensors: Mapping[str, Tensor], about: str) -> bool:
        """Write features at once or not at all; False where the folder cannot have them, which is said.

        Args:
            about: what they are, for a person who looks into the file.
        """
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        metadata = {"format": FORMAT, "fingerprint": fingerprint, "about": about, _CHECKSUM: _checksum(whole)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with writing(inside(self.folder, self.path(fingerprint).name)) as temporary:
                save_file(whole, temporary, metadata)
        except (OSError, SafetensorError, XmrError) as error:
            logger.warning("%s: the features of frozen towers cannot be kept there: %s", self.folder, first_line(error))
            return False
        return True


def _read(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """The tensors of a file, whose pages the operating system reads as they are used, and what it says of itself."""
    with safe_open(path, "pt") as stream:
        return {name: stream.get_tensor(name) for name in stream.keys()}, stream.metadata() or {}  # noqa: SIM118


def _problem(found: Mapping[str, Tensor], about: Mapping[str, str], fingerprint: str, samples: int) -> str:
    """The reason for which a file's content cannot be used; empty where it can."""
    if about.get("format") != FORMAT or about.get("fingerprint") != fingerprint:
        return "it holds other features than its name says"
    if about.get(_CHECKSUM) != _checksum(found):
        return "it is damaged (its checksum differs)"
    return "" if _has_rows(found, samples) else f"it does not hold the features of {samples:,} samples"


def _has_rows(found: Mapping[str, Tensor], samples: int) -> bool:
    """True for features of so many samples, or of so many samples' texts, where it says which these are."""
    first, rows = found.get(FIRST), samples
    if first is not None:
        if first.shape != (samples + 1,) or first[0] != 0 or (first.diff() < 0).any():
            return False
        rows = int(first[-1])
    features = [tensor for name, tensor in found.items() if name != FIRST]
    return bool(features) and all(tensor.dim() and len(tensor) == rows for tensor in features)


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    value = 0
    for name, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        value = zlib.crc32(_bytes(tensor).data, value)
    return f"{value:08x}"


def _bytes(tensor: Tensor) -> NDArray[np.uint8]:
    array: NDArray[np.uint8] = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return array


def tower_fingerprint(config: TowerConfig, tower: nn.Module) -> str:
    """sha256 of a tower's configuration and of all its weights."""
    document = {key: value for key, value in to_document(config).items() if key not in _ORIGINS}
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for name, value in sorted(tower.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(_bytes(value).data)
    return digest.hexdigest()


def features_fingerprint(
    tower: str,
    data: Data,
    tokenizer: Tokenizer | None,
    kind: InputKind,
    modality: str,
    reader: SplitReader | MixedReader,
    captions: bool,
) -> str:
    """sha256 of all that the features of a split's samples depend on.

    Args:
        tower: its own fingerprint.
        captions: there is a row for each caption, and not for each sample.
    """
    others = {option for names in _SEEN_BY.values() for option in names} - set(_SEEN_BY.get(kind, ()))
    options = {
        field.name: to_document(_without_augmentation(getattr(data, field.name)))
        for field in fields(data)
        if field.name not in (*_ELSEWHERE, *others)
    }
    readers = reader.readers if isinstance(reader, MixedReader) else (reader,)
    about: list[Any] = [
        FORMAT,
        tower,
        modality,
        kind,
        options,
        tokenizer.to_document() if tokenizer and kind == "tokens" else None,
        reader.split,
        [[shard.sha256 for shard in each.shards] for each in readers],
        captions,
    ]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _without_augmentation(options: Any) -> Any:
    """Options of sounds or shapes as a tower sees them in evaluation."""
    found = getattr(options, "augment", None)
    return options if found is None else replace(options, augment=type(found)())
