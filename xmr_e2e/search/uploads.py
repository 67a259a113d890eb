"""Uploaded files: their kind by their name, and decoded within bounds that are tighter than those of a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from fastapi import HTTPException

from xmr_e2e.data.config import Data
from xmr_e2e.data.images import load_square
from xmr_e2e.data.media_files import MediaBounds
from xmr_e2e.errors import XmrError
from xmr_e2e.models.given import LOADERS, modality_of
from xmr_e2e.search.limits import UPLOAD_PIXELS
from xmr_e2e.search.query import shorten
from xmr_e2e.shards.media import UnusableImage, count_pixels

MEDIA_BOUNDS = MediaBounds(max_seconds=120, max_frame_pixels=500_000_000, max_faces=500_000, max_points=500_000)
"""of an upload: a few seconds' work of a core also where a file was made to take long"""
NAME_CHARACTERS = 100
"""of a file's name, in an answer"""
_BEGINNINGS = (": the image ", "the given bytes: ")
"""of messages of decoders, in the place of a file's name"""


@dataclass(frozen=True)
class Upload:
    """A file as it came. It is read by the thread that decodes it: what waits for its turn lies on the disk."""

    file: BinaryIO
    name: str
    """as its sender calls it: shown, and looked at for its ending; nothing is opened by it"""

    @property
    def modality(self) -> str:
        """By the name's ending; a file of another one is taken for a picture."""
        return modality_of(PurePosixPath(self.name)) or "image"

    def decode_picture(self, data: Data, most_pixels: int) -> Any | None:
        """The picture as `given.load_images` gives it; None for one of more pixels.

        Raises:
            HTTPException: 422, it cannot be decoded, or is above the bounds.
        """
        with self._refusals():
            content = self._read()
            if count_pixels(content, max_pixels=UPLOAD_PIXELS) > most_pixels:
                return None
            how = data.interpolation
            return load_square(content, data.load_size, where="", max_pixels=UPLOAD_PIXELS, interpolation=how)[None]

    def decode_media(self, data: Data) -> Any:
        """The sound, video or shape as the loader in `given.LOADERS` gives it.

        Raises:
            HTTPException: 422, it cannot be decoded, or is above the bounds.
        """
        modality, extension = self.modality, PurePosixPath(self.name).suffix.lower().removeprefix(".")
        own = {"extension": extension} if modality == "shape3d" else {}
        with self._refusals():
            return LOADERS[modality]([self._read()], replace(data, media=_tighter(data.media)), **own)

    def _read(self) -> bytes:
        self.file.seek(0)
        return self.file.read()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Answer with the reason why a file cannot be decoded, in one line."""
        try:
            yield
        except (UnusableImage, XmrError) as error:
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
