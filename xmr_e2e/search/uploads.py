"""Uploaded files: their kind by their name, and decoded within bounds that are tighter than those of a training."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from fastapi import HTTPException

from xmr_e2e.data.config import Data
from xmr_e2e.data.media_files import MediaBounds
from xmr_e2e.models.given import modality_of
from xmr_e2e.search.decoding import Decoder, Refused, Undecoded
from xmr_e2e.search.query import shorten

MEDIA_BOUNDS = MediaBounds(max_seconds=120, max_frame_pixels=500_000_000, max_faces=500_000, max_points=500_000)
"""of an upload: a few seconds' work of a core also where a file was made to take long"""
NAME_CHARACTERS = 100
"""of a file's name, in an answer"""
_BEGINNINGS = (": the image ", "the given bytes: ")
"""of messages of decoders, in the place of a file's name"""


@dataclass(frozen=True)
class Upload:
    """A file as it came. It is read when its turn has come: what waits lies on the disk."""

    file: BinaryIO
    name: str
    """as its sender calls it: shown, and looked at for its ending; nothing is opened by it"""

    @property
    def modality(self) -> str:
        """By the name's ending; a file of another one is taken for a picture."""
        return modality_of(PurePosixPath(self.name)) or "image"

    def decode(self, decoder: Decoder, data: Data, most_pixels: int) -> Any | None:
        """The picture, sound, video or shape as the loader in `given.LOADERS` gives it; None for a picture of more
        pixels.

        Raises:
            HTTPException: 422, it cannot be decoded, or is above the bounds; says why in one line.
        """
        own, extension = replace(data, media=_tighter(data.media)), PurePosixPath(self.name).suffix.lower()
        self.file.seek(0)
        content = self.file.read()
        try:
            return decoder.decode(Undecoded(content, self.modality, extension.removeprefix("."), own, most_pixels))
        except Refused as error:
            name = shorten(self.name, NAME_CHARACTERS) or "this file"
            raise HTTPException(422, f"{name} cannot be used: {_reason(str(error))}") from error


def _reason(message: str) -> str:
    """A decoder's message without its beginning, and without the advice to change an option of a training."""
    for beginning in _BEGINNINGS:
        message = message.removeprefix(beginning)
    fault, _, advice = message.partition("; ")
    return fault if "--" in advice else message


def _tighter(bounds: MediaBounds) -> MediaBounds:
    """Of the model's bounds and those of an upload, the lower ones."""
    least = {each.name: min(getattr(bounds, each.name), getattr(MEDIA_BOUNDS, each.name)) for each in fields(bounds)}
    return MediaBounds(**least)
