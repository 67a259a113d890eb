"""Sound bytes to mono samples of one rate, and windows of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmr_e2e.data.media_files import DEFAULT_BOUNDS, MediaBounds, check_seconds, open_media, read_packets
from xmr_e2e.errors import XmrError

if TYPE_CHECKING:
    from av import AudioFrame, AudioResampler
    from av.audio.stream import AudioStream
    from av.container import InputContainer

RATE = 16_000
"""samples per second, to which all sounds are brought: that of the pretrained networks of sounds and speech"""
MIN_SOURCE_RATE, MAX_SOURCE_RATE = 100, 1_000_000
"""of a file, in Hz. The filter that resamples grows with the rate: a header's four billion would be gigabytes."""
MAX_CHANNELS = 64
MAX_PEAK = 16.0
"""Floating-point samples are in [-1, 1]. A little above is clipped; far above are whole numbers saved as such."""


def decode_sound(
    data: bytes, where: str, *, rate: int = RATE, bounds: MediaBounds = DEFAULT_BOUNDS
) -> NDArray[np.float32]:
    """Decode a whole sound, mix its channels and resample it: float32 (t,) in [-1, 1], t >= 1.

    Stereo becomes the mean of both channels; of more channels, FFmpeg's weights are taken, whose sum is at most 1.
    Packets that are damaged are passed over, and a file that is cut is read as far as it goes.

    Args:
        where: shard and key, for the error.

    Raises:
        XmrError: no sound that can be decoded, one without samples, or one above the bounds; begins with `where`.
    """
    with open_media(data, where, "sound") as container:
        if not container.streams.audio:
            raise XmrError(f"{where}: the file has no sound in it, only {_other_streams(container)}")
        stream = container.streams.audio[0]
        _check_format(stream, where)
        check_seconds(_claimed_seconds(container, stream, len(data)), bounds, where, "sound")
        chunks = list(_bounded(_resampled(_frames(container, stream, where), rate), rate, bounds, where))
    samples = np.concatenate(chunks) if chunks else np.empty(0, np.float32)
    return _sound_samples(samples, where)


def sound_window(
    data: bytes, where: str, *, samples: int, chance: float, rate: int = RATE, bounds: MediaBounds = DEFAULT_BOUNDS
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """One window of a sound, for training.

    Args:
        samples: of the window, t.
        chance: in [0, 1): where it begins, uniform over all beginnings with which it is whole. A sound that is shorter
            begins with the window, and zeros follow.

    Returns:
        Windows float32 (1, t) and their lengths int64 (1,), which are below t for a shorter sound.

    Raises:
        XmrError: as `decode_sound`.
    """
    sound = decode_sound(data, where, rate=rate, bounds=bounds)
    return cut_windows(sound, [int(chance * max(1, len(sound) - samples + 1))], samples)


def sound_windows(
    data: bytes, where: str, *, samples: int, count: int, rate: int = RATE, bounds: MediaBounds = DEFAULT_BOUNDS
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Evenly spaced windows of a sound, for evaluation: the first begins and the last ends with it; one is its middle.

    Windows overlap where the sound is shorter than all of them. One that is no longer than a window has one.

    Returns:
        Windows float32 (count, t) and their lengths int64 (count,): 0 for windows that the sound does not have, which
        are the last ones.

    Raises:
        XmrError: as `decode_sound`.
    """
    sound = decode_sound(data, where, rate=rate, bounds=bounds)
    room = max(0, len(sound) - samples)
    starts = np.linspace(0, room, count) if count > 1 else np.array([room / 2])
    windows, lengths = cut_windows(sound, sorted({int(start) for start in starts}), samples)
    missing = count - len(windows)
    return np.pad(windows, ((0, missing), (0, 0))), np.pad(lengths, (0, missing))


def cut_windows(
    sound: NDArray[np.float32], starts: list[int], samples: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Windows (w, samples) of a sound (t,) that begin there, padded with zeros, and how many samples each has (w,)."""
    windows = np.zeros((len(starts), samples), np.float32)
    lengths = np.zeros(len(starts), np.int64)
    for row, start in enumerate(starts):
        part = sound[start : start + samples]
        windows[row, : len(part)] = part
        lengths[row] = len(part)
    return windows, lengths


def _other_streams(container: InputContainer) -> str:
    return ", ".join(sorted({stream.type or "data" for stream in container.streams})) or "nothing"


def _check_format(stream: AudioStream, where: str) -> None:
    if stream.codec_context is None:
        raise XmrError(f"{where}: the sound is in a coding that FFmpeg does not know; save it as WAV, FLAC or MP3")
    rate, channels = stream.codec_context.sample_rate, stream.codec_context.channels
    if not MIN_SOURCE_RATE <= rate <= MAX_SOURCE_RATE:
        raise XmrError(f"{where}: the sound's header says {rate:,} samples per second, which no sound has "
                       f"({MIN_SOURCE_RATE} to {MAX_SOURCE_RATE:,})")  # fmt: skip
    if not 1 <= channels <= MAX_CHANNELS:
        raise XmrError(f"{where}: the sound has {channels} channels by its header (1 to {MAX_CHANNELS} are read); mix "
                       "it to mono")  # fmt: skip


def _claimed_seconds(container: InputContainer, stream: AudioStream, size: int) -> float:
    """Seconds by the header, but no more than the bytes can hold at the stream's bit rate.

    A WAV file that was written into a pipe claims as much as its header can, or more than was written.
    """
    seconds = (container.duration or 0) / 1e6
    return min(seconds, 8 * size / stream.bit_rate) if stream.bit_rate else seconds


def _frames(container: InputContainer, stream: AudioStream, where: str) -> Iterator[AudioFrame]:
    import av

    decoded = damaged = 0
    for packet in read_packets(container, stream):
        try:
            frames = stream.decode(packet)
        except av.FFmpegError:
            damaged += 1
            continue
        decoded += len(frames)
        yield from frames
    if damaged > decoded:
        raise XmrError(f"{where}: the sound cannot be decoded: {damaged} of its packets are damaged, {decoded} are not")


def _resampled(frames: Iterator[AudioFrame], rate: int) -> Iterator[NDArray[np.float32]]:
    """Chunks of mono samples. A file whose channels or rate change in its course goes on with another resampler."""
    import av

    resampler: AudioResampler | None = None
    kind: tuple[object, ...] = ()
    for frame in frames:
        found = frame.format.name, frame.layout.name, frame.sample_rate
        if resampler is None or kind != found:
            yield from _samples(resampler, None)
            # rematrix_maxval: else the sum of two channels is above 1 where both are loud, unlike their mean.
            resampler = av.AudioResampler("flt", "mono", rate, options={"rematrix_maxval": "1"})
            kind = found
        yield from _samples(resampler, frame)
    yield from _samples(resampler, None)


def _samples(resampler: AudioResampler | None, frame: AudioFrame | None) -> Iterator[NDArray[np.float32]]:
    for chunk in resampler.resample(frame) if resampler else ():
        yield np.frombuffer(memoryview(chunk.planes[0]), np.float32, chunk.samples)  # in half the time of to_ndarray


def _bounded(
    chunks: Iterator[NDArray[np.float32]], rate: int, bounds: MediaBounds, where: str
) -> Iterator[NDArray[np.float32]]:
    count = 0
    for chunk in chunks:
        count += len(chunk)
        check_seconds(count / rate, bounds, where, "sound")
        yield chunk


def _sound_samples(samples: NDArray[np.float32], where: str) -> NDArray[np.float32]:
    """The samples within [-1, 1]."""
    if not len(samples):
        raise XmrError(f"{where}: the sound holds no samples, or too few to be resampled")
    peak = float(max(samples.max(), -samples.min()))
    if not peak <= MAX_PEAK:  # NaN as well
        raise XmrError(f"{where}: the sound has samples of {peak:,.0f}, where floating-point samples are in [-1, 1]; "
                       "divide them by their largest value, or save whole numbers as such")  # fmt: skip
    return np.clip(samples, -1, 1)
