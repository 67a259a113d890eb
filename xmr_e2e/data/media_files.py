"""Sound and video files in memory: opened by FFmpeg, with bounds and without a way to other files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeAlias

from xmr_e2e.bounds import Bounds
from xmr_e2e.errors import XmrError
from xmr_e2e.extras import require_extra

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream

Kind: TypeAlias = Literal["sound", "video"]
CONTAINERS = "wav,w64,aiff,flac,mp3,aac,ogg,mov,matroska,avi"
"""FFmpeg's names of the formats that are opened. Playlists (HLS, DASH, concat, SDP) are none of them: they name other
files and servers, which FFmpeg would read."""
RIFF_PROBE_BYTES = 32_768
"""FFmpeg looks into this much of a WAV file for DTS and S/PDIF; by default into all of it, which takes longer than to
decode it."""
MAX_PIXELS_OF_A_FRAME = 40_000_000
"""8192 x 4320 is 35 million. Decoders refuse more, also where a video changes its size in its course."""


@dataclass(frozen=True)
class MediaBounds:
    """The largest sounds, videos and shapes that are decoded: above them is an error, which names the option."""

    max_seconds: Annotated[float, Bounds(float, above=0, most=1e6)] = 600.0
    """of a sound or a video"""
    max_frame_pixels: Annotated[int, Bounds(int, least=1, most=10**13)] = 4_000_000_000
    """pixels x frames that are decoded for one reading of a video: 1,900 frames of 1920 x 1080"""
    max_faces: Annotated[int, Bounds(int, least=1, most=10**9)] = 2_000_000
    """triangles of a mesh"""
    max_points: Annotated[int, Bounds(int, least=1, most=10**9)] = 5_000_000
    """vertices of a mesh, or points of a cloud"""


DEFAULT_BOUNDS = MediaBounds()


@contextmanager
def open_media(data: bytes, where: str, kind: Kind) -> Iterator[InputContainer]:
    """A container of the bytes, for as long as the context lasts; what FFmpeg raises within it becomes an XmrError.

    Raises:
        XmrError: PyAV is not installed; the bytes are empty, of no format in CONTAINERS, or damaged, or name another
            file to be read. Begins with `where`.
    """
    if not data:
        raise XmrError(f"{where}: the {kind} is empty (zero bytes)")
    with decoding(where, kind):
        with _open(data, where, kind) as container:
            yield container


def _open(data: bytes, where: str, kind: Kind) -> InputContainer:
    try:
        import av
    except ImportError:
        require_extra("media", f"{where}: a {kind}")
        raise
    options = {
        "format_whitelist": CONTAINERS,
        "protocol_whitelist": "none",
        "max_pixels": str(MAX_PIXELS_OF_A_FRAME),  # opening can mean to decode a frame
    }
    if kind == "sound" and data.startswith(b"RIFF"):
        options["probesize"] = str(RIFF_PROBE_BYTES)
    try:
        # metadata_errors: titles are in any encoding, and read by nobody.
        return av.open(io.BytesIO(data), "r", options=options, metadata_errors="replace", io_open=_refuse)
    except av.FFmpegError as error:
        raise XmrError(
            f"{where}: not a {kind} that can be read: it is none of {CONTAINERS.replace(',', ', ')}, or its head is "
            f"damaged or missing ({error.strerror})"
        ) from error


def _refuse(*arguments: Any) -> NoReturn:
    raise PermissionError("it names another file, and others are not read")


@contextmanager
def decoding(where: str, kind: str) -> Iterator[None]:
    """Raise a decoder's errors as XmrError: each kind of damage has another type of error."""
    try:
        yield
    except XmrError:
        raise
    except Exception as error:
        known = isinstance(error, (OSError, ValueError)) and str(error)
        raise XmrError(f"{where}: the {kind} cannot be decoded: {known or repr(error)}") from error


def read_packets(container: InputContainer, stream: Stream) -> Iterator[Packet[Any]]:
    """The packets of a stream up to the end of the file, or to where it is damaged so that no more can be found."""
    import av

    try:
        yield from container.demux(stream)
    except av.FFmpegError:
        return


def check_seconds(seconds: float, bounds: MediaBounds, where: str, kind: Kind) -> None:
    """Raise an XmrError for a sound or a video that is too long."""
    if seconds > bounds.max_seconds:
        raise XmrError(
            f"{where}: the {kind} is {seconds:,.0f} seconds long or longer, above the bound of "
            f"{bounds.max_seconds:,.0f}; cut it into pieces, or raise --data.media.max-seconds"
        )
