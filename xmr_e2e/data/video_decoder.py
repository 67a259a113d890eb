"""Exact frames of a video at given times: a timeline of its packets, and decoding from the keyframe before."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from xmr_e2e.data.media_files import MAX_PIXELS_OF_A_FRAME, MediaBounds, check_seconds, read_packets
from xmr_e2e.errors import XmrError

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

USUAL_RATE = Fraction(25)
"""frames per second where a file says nothing of them"""
SKIPPING = ("h264", "hevc")
"""FFmpeg's names of decoders that are told for each packet whether to leave out a frame to which no other refers; that
of AV1 is told once, and others have few such frames"""


@dataclass(frozen=True)
class Timeline:
    """The packets of a video in the order in which they are decoded, and the times at which its frames are shown."""

    packets: list[Packet[Any]]
    times: list[int]
    """of the frames, ascending, in units"""
    keyframes: list[tuple[int, int]]
    """time and packet of each, ascending in both: what is shown from then on is decoded without what is before"""
    duration: int
    """in units, from the first frame's time to the end of the last"""
    unit: Fraction
    """seconds"""
    is_counted: bool
    """times are frame numbers: the container has none, or none that can be trusted"""

    def time_at(self, moment: float) -> int:
        """The time of the frame that is shown at a moment, which is in units, too."""
        return self.times[max(0, bisect_right(self.times, moment) - 1)]

    def keyframe_of(self, time: int) -> int:
        """The number of the keyframe with which decoding of this frame begins."""
        return max(0, bisect_right(self.keyframes, (time, len(self.packets))) - 1)


def find_video(container: InputContainer, where: str) -> VideoStream:
    """The first video stream that is none of the pictures that are attached to sounds, such as a record's cover.

    Raises:
        XmrError: there is none, or its coding is not known.
    """
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise XmrError(f"{where}: the video is in a coding that FFmpeg does not know; save it as MP4 (H.264)")
            # Loaders have a process per core; the decoder's own threads would be in each other's way.
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS_OF_A_FRAME)}
            return stream
    kinds = sorted({stream.type or "data" for stream in container.streams} - {"video"})
    raise XmrError(f"{where}: the file has no video in it, only {', '.join(kinds) or 'a still picture'}")


def read_timeline(container: InputContainer, stream: VideoStream, where: str, bounds: MediaBounds) -> Timeline:
    """Read all packets, which is fast beside decoding: durations and numbers of frames in headers need not be true.

    Raises:
        XmrError: there are none, or they are of more seconds than the bound.
    """
    packets = [packet for packet in read_packets(container, stream) if packet.size]
    times = [packet.pts for packet in packets if not packet.is_discard]  # others are decoded, and not shown
    if not times:
        raise XmrError(f"{where}: the video has no frames")
    # In AVI, times are those of decoding, which is another order where frames refer to later ones.
    is_reordered_avi = container.format.name == "avi" and stream.codec_context.has_b_frames
    if is_reordered_avi or stream.time_base is None or None in times or len(set(times)) < len(times):
        rate = stream.average_rate or stream.guessed_rate or USUAL_RATE
        timeline = Timeline(packets, list(range(len(times))), [(0, 0)], len(times), 1 / rate, is_counted=True)
    else:
        timeline = _timed(packets, sorted(time for time in times if time is not None), stream.time_base)
    check_seconds(float(timeline.duration * timeline.unit), bounds, where, "video")
    return timeline


def _timed(packets: list[Packet[Any]], times: list[int], unit: Fraction) -> Timeline:
    usual = (times[-1] - times[0]) // max(1, len(times) - 1)
    last = next(packet for packet in packets if packet.pts == times[-1])
    keyframes: list[tuple[int, int]] = []
    for number, packet in enumerate(packets):
        if packet.is_keyframe and packet.pts is not None and (not keyframes or packet.pts > keyframes[-1][0]):
            keyframes.append((packet.pts, number))
    duration = times[-1] - times[0] + max(1, last.duration or usual)
    return Timeline(packets, times, keyframes or [(times[0], 0)], duration, unit, is_counted=False)


class VideoDecoder:
    """Decodes packets from the keyframe on that is before what is wanted.

    Packets that are kept and given to the decoder again are a seek that is exact in every container.
    """

    def __init__(self, stream: VideoStream, timeline: Timeline, where: str, bounds: MediaBounds) -> None:
        self._stream = stream
        self._timeline = timeline
        self._where = where
        self._bounds = bounds
        self._decoded = 0
        self._pixels = 0

    def frames_at(self, times: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Time and frame for each time of an ascending list, once each.

        A frame that is damaged is replaced by the one that was decoded before it, or else by the next.

        Raises:
            XmrError: no frame can be decoded, or more pixels would be than the bound.
        """
        waiting = list(dict.fromkeys(times))
        context = self._stream.codec_context
        self._check_pixels(len(waiting), len(waiting) * context.width * context.height)
        while waiting:
            keyframe = self._timeline.keyframe_of(waiting[0])
            run = [time for time in waiting if self._timeline.keyframe_of(time) == keyframe]
            yield from self._decode_run(run, keyframe)
            del waiting[: len(run)]

    def _decode_run(self, run: list[int], keyframe: int) -> Iterator[tuple[int, VideoFrame]]:
        """The frames that follow the same keyframe."""
        # Earlier ones, where a packet was marked as a keyframe and cannot be decoded by itself.
        for first in range(keyframe, -1, -1):
            found = 0
            packets = islice(self._timeline.packets, self._timeline.keyframes[first][1], None)
            for frame in self._shown_at(run, self._frames_of(packets, set(run))):
                yield run[found], frame
                found += 1
            if found:
                for time in run[found:]:
                    yield time, frame
                return
        raise XmrError(f"{self._where}: the video cannot be decoded: none of its frames is whole")

    def _shown_at(self, times: Sequence[int], frames: Iterator[tuple[int, VideoFrame]]) -> Iterator[VideoFrame]:
        """For each time the last frame that is not later, or else the first one; fewer where the frames end before."""
        waiting = iter(times)
        wanted = next(waiting, None)
        before: VideoFrame | None = None
        for time, frame in frames:
            while wanted is not None and time >= wanted:
                yield frame if time == wanted or before is None else before
                wanted = next(waiting, None)
            if wanted is None:
                return
            before = frame
        if before is not None:
            yield before

    def _frames_of(self, packets: Iterable[Packet[Any]], wanted: Set[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Times and frames of successive packets; of frames that are not wanted, only those that others refer to."""
        import av

        context = self._stream.codec_context
        context.flush_buffers()
        skips = context.name in SKIPPING and not self._timeline.is_counted
        count = 0
        for packet in chain(packets, [None]):
            if skips:
                context.skip_frame = "DEFAULT" if packet is None or packet.pts in wanted else "NONREF"
            try:
                frames = context.decode(packet)
            except av.FFmpegError:  # of a damaged packet, without which the decoder goes on
                continue
            for frame in frames:
                self._decoded += 1
                self._pixels += frame.width * frame.height
                self._check_pixels(self._decoded, self._pixels)
                time = count if self._timeline.is_counted else frame.pts
                count += 1
                if time is not None:
                    yield time, frame

    def _check_pixels(self, frames: int, pixels: int) -> None:
        if pixels > self._bounds.max_frame_pixels:
            raise XmrError(
                f"{self._where}: to read the video, {frames:,} frames or more are to be decoded, {pixels:,} pixels, "
                f"above the bound of {self._bounds.max_frame_pixels:,}; build the shards with --frames, which stores a "
                "few frames of each video, or raise --data.media.max-frame-pixels"
            )
