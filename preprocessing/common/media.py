"""Sounds, videos and 3D shapes before they are stored: all are decoded once, and videos can become a few frames."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from xmr_e2e.data.media_check import check_media
from xmr_e2e.data.media_files import DEFAULT_BOUNDS, MediaBounds
from xmr_e2e.errors import XmrError
from xmr_e2e.extras import require_extra
from xmr_e2e.shards.raw import RawSample

_OPTION_OF_TRAINING = re.compile(r"--data\.(?:media\.)?(?=max-)")


@dataclass(frozen=True)
class MediaOptions:
    """Options of raw files of sounds, videos and 3D shapes."""

    frames: int | None = None
    """store each video as so many evenly spaced frames of it (MP4, without sound), with --resize as small as pictures;
    by default the original bytes are kept, and a clip of 100 seconds takes as much room as a thousand pictures"""
    max_seconds: int = int(DEFAULT_BOUNDS.max_seconds)
    """sounds and videos that are longer are not decoded and count as unusable"""
    max_faces: int = DEFAULT_BOUNDS.max_faces
    """meshes with more triangles than this count as unusable"""
    max_points: int = DEFAULT_BOUNDS.max_points
    """shapes with more points than this count as unusable"""

    def check(self, samples: Iterable[RawSample]) -> None:
        """Raise XmrError for options out of range, or where the samples need packages that are not installed."""
        for option in fields(self):
            value = getattr(self, option.name)
            if value is not None and not 1 <= value < 2**31:
                raise XmrError(f"--{option.name.replace('_', '-')} must be at least 1 and below 2**31, not {value}")
        if any(sample.media for sample in samples):
            require_extra("media", "a sound, a video or a 3D shape")

    @property
    def bounds(self) -> MediaBounds:
        return replace(
            DEFAULT_BOUNDS, max_seconds=self.max_seconds, max_faces=self.max_faces, max_points=self.max_points
        )

    def shaping_bytes(self) -> dict[str, int | None]:
        """The options on which the shards' bytes depend, where they are not the usual ones."""
        return {
            option.name: value
            for option in fields(self)
            if (value := getattr(self, option.name)) != option.default and value is not None
        }

    def prepare(
        self, modality: str, extension: str, data: bytes, where: str, *, resize: int | None
    ) -> tuple[str, bytes]:
        """The extension and the bytes to store of a raw file, once it has been decoded.

        Raises:
            XmrError: it cannot be decoded, or is above the bounds; begins with `where`.
        """
        try:
            if modality == "video" and self.frames:
                from xmr_e2e.data.videos import extract_frames

                stored = extract_frames(data, where, frames=self.frames, shorter_side=resize, bounds=self.bounds)
                return "mp4", stored
            check_media(modality, extension, data, where, self.bounds)
        except XmrError as error:
            raise XmrError(_OPTION_OF_TRAINING.sub("--", str(error))) from error
        return extension, data
