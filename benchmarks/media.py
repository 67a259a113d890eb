"""Sounds and videos from their bytes to what networks read, against PyAV alone."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.measure import REPEATS, Figure, Goal, Side, compare, on_cores
from benchmarks.photographs import list_photographs
from benchmarks.reading import SLICES, psnr, rates
from xmr_e2e.data.media_files import DEFAULT_BOUNDS, open_media
from xmr_e2e.data.sounds import RATE, decode_sound, sound_windows
from xmr_e2e.data.video_decoder import find_video, read_timeline
from xmr_e2e.data.videos import choose_times, decode_frames

FILES = 40
SECONDS = 5
WINDOWS, WINDOW = 3, 3 * RATE
"""of a sound, as evaluation hears it"""
SOUND_RATE = 44_100
CODINGS = (("libmp3lame", "mp3"), ("flac", "flac"))
"""of the sounds, in turn: coding and container"""
FRAMES, SIDE = 8, 128
"""of a clip, and of their squares in pixels"""
FRAME_RATE, SIZE = 25, (320, 240)
X264 = ({"g": "12"}, {"bf": "0"})
"""of x264, in turn: keyframes twice a second, and none but the first, without frames that refer to later ones"""
Times = dict[int, list[int]]
"""time of a keyframe -> times of the frames that are wanted after it"""


def sounds(*, repeats: int = REPEATS, files: int = FILES) -> Figure:
    """Decode sounds to the windows of evaluation, against PyAV that decodes and resamples them, on one core.

    Args:
        repeats: of each measurement
        files: that are decoded in turn
    """
    made = [_sound(number) for number in range(files)]
    with on_cores(1):
        figure = compare(
            "sounds",
            Goal("at least", 0.85),
            Side("windows of sounds", "sounds/s", rates(made, _windows)),
            Side("PyAV to mono samples of the same rate", "sounds/s", rates(made, _samples)),
            repeats=repeats,
            slices=SLICES,
        )
    worst = max(float(np.abs(decode_sound(data, "sound") - _samples(data).clip(-1, 1)).max()) for data in made)
    return figure.note(f"{files} stereo sounds of {SECONDS} s at {SOUND_RATE:,} Hz, MP3 and FLAC; their samples differ "
                       f"by {worst:.1g} at most")  # fmt: skip


def clips(photographs: Path, /, *, repeats: int = REPEATS, files: int = FILES) -> Figure:
    """Decode clips to the squares of evaluation, against PyAV that seeks, decodes and scales the same frames, on one
    core.

    Args:
        photographs: a folder of JPEG files, over which the clips move
        repeats: of each measurement
        files: that are decoded in turn
    """
    found = list_photographs(photographs)
    made = [_clip(found[number % len(found)], number) for number in range(files)]
    wanted = [(data, _times(data)) for data in made]
    with on_cores(1):
        figure = compare(
            "clips",
            Goal("at least", 0.85),
            Side(f"squares of {FRAMES} frames of clips", "clips/s", rates(made, _squares)),
            Side("PyAV to the same frames", "clips/s", rates(wanted, lambda each: _scaled(*each))),
            repeats=repeats,
            slices=SLICES,
        )
    worst = min(psnr(_squares(data).transpose(0, 2, 3, 1), _scaled(data, times)) for data, times in wanted)
    return figure.note(f"{files} clips of {SECONDS} s, {SIZE[0]} x {SIZE[1]}, H.264; worst PSNR between the two, which "
                       f"scale in different ways: {worst:.1f} dB")  # fmt: skip


def _windows(data: bytes) -> NDArray[np.float32]:
    return sound_windows(data, "sound", samples=WINDOW, count=WINDOWS)[0]


def _samples(data: bytes) -> NDArray[np.float32]:
    """As PyAV's documentation does it; the option as `decode_sound` has it."""
    resampler = av.AudioResampler("flt", "mono", RATE, options={"rematrix_maxval": "1"})
    with av.open(io.BytesIO(data), "r") as container:
        frames = [each for frame in container.decode(audio=0) for each in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in [*frames, *resampler.resample(None)]])


def _squares(data: bytes) -> NDArray[np.uint8]:
    return decode_frames(data, "clip", frames=FRAMES, size=SIDE)


def _times(data: bytes) -> Times:
    """The frames of evaluation, by the keyframes before them: all that PyAV has to be told."""
    with open_media(data, "clip", "video") as container:
        timeline = read_timeline(container, find_video(container, "clip"), "clip", DEFAULT_BOUNDS)
    found: Times = {}
    for time in choose_times(timeline, FRAMES, None):
        found.setdefault(timeline.keyframes[timeline.keyframe_of(time)][0], []).append(time)
    return found


def _scaled(data: bytes, times: Times) -> NDArray[np.uint8]:
    """Seek to each keyframe, decode as far as needed, and let FFmpeg scale what is wanted."""
    found, width = [], SIDE * SIZE[0] // SIZE[1]
    left = (width - SIDE) // 2
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        for keyframe, wanted in times.items():
            container.seek(keyframe, stream=stream)
            for frame in container.decode(stream):
                if frame.pts in wanted:
                    found.append(frame.to_ndarray(format="rgb24", width=width, height=SIDE)[:, left : left + SIDE])
                if frame.pts == wanted[-1]:
                    break
    return np.stack(found)


def _sound(number: int) -> bytes:
    """Six tones in some noise."""
    random, times = np.random.default_rng(number), np.arange(SECONDS * SOUND_RATE) / SOUND_RATE
    tones = [random.uniform(0.05, 0.15) * np.sin(random.uniform(500, 25_000) * times) for _ in range(6)]
    left = sum(tones) + random.normal(0, 0.02, len(times))
    frame = av.AudioFrame.from_ndarray(np.stack([left, np.roll(left, 50)]).astype(np.float32), "fltp", "stereo")
    frame.sample_rate = SOUND_RATE
    coding, kind = CODINGS[number % len(CODINGS)]
    stream = io.BytesIO()
    with av.open(stream, "w", format=kind) as container:
        sound = container.add_stream(coding, rate=SOUND_RATE, layout="stereo")
        assert isinstance(sound, av.AudioStream)
        for each in av.AudioResampler(sound.format.name, "stereo", SOUND_RATE).resample(frame):
            container.mux(sound.encode(each))
        container.mux(sound.encode(None))
    return stream.getvalue()


def _clip(photograph: Path, number: int) -> bytes:
    """A window that moves over a photograph of twice its size."""
    whole = np.asarray(Image.open(photograph).convert("RGB").resize((2 * SIZE[0], 2 * SIZE[1])))
    count = SECONDS * FRAME_RATE
    return _film([_window(whole, place / count) for place in range(count)], X264[number % len(X264)])


def _window(whole: NDArray[np.uint8], part: float) -> NDArray[np.uint8]:
    left, top = int(part * SIZE[0]), int((0.5 + 0.5 * np.sin(6 * part)) * SIZE[1])
    return np.ascontiguousarray(whole[top : top + SIZE[1], left : left + SIZE[0]])


def _film(pictures: Sequence[NDArray[np.uint8]], options: dict[str, str]) -> bytes:
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FRAME_RATE, options=options)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
    return stream.getvalue()
