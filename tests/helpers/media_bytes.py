"""Small sounds, films and meshes, written without this project."""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

COLORS = [(220, 30, 30), (30, 200, 40), (40, 60, 220), (230, 220, 40)]


def wav(seconds: float = 0.5, *, pitch: float = 440.0, rate: int = 16_000, gain: float = 0.5) -> bytes:
    """A tone of 16 bits, mono."""
    time = np.arange(round(seconds * rate)) / rate
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((gain * 32767 * np.sin(2 * np.pi * pitch * time)).astype("<i2").tobytes())
    return data.getvalue()


def mp4(
    colors: Sequence[tuple[int, int, int]] = COLORS, *, each: int = 5, size: tuple[int, int] = (96, 64), rate: int = 10
) -> bytes:
    """A film in which each color fills the picture for so many frames."""
    import av

    data = io.BytesIO()
    with av.open(data, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=rate)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        for color in np.repeat(np.array(colors, np.uint8), each, axis=0):
            picture = np.tile(color, (size[1], size[0], 1))
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
    return data.getvalue()


def sound_in_mp4(seconds: float = 0.5) -> bytes:
    """An MP4 file with a sound in it, and no video."""
    import av

    data = io.BytesIO()
    with av.open(data, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        samples = np.zeros((1, round(16_000 * seconds)), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return data.getvalue()


def off(size: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> bytes:
    """A box."""
    corners = [(x * size[0], y * size[1], z * size[2]) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    sides = ["0 1 3 2", "4 6 7 5", "0 4 5 1", "2 3 7 6", "0 2 6 4", "1 5 7 3"]
    lines = ["OFF", "8 6 0", *(f"{x} {y} {z}" for x, y, z in corners), *(f"4 {side}" for side in sides)]
    return ("\n".join(lines) + "\n").encode()


def frames_of(data: bytes) -> NDArray[np.uint8]:
    """All frames of a film, (f, h, w, 3)."""
    import av

    with av.open(io.BytesIO(data)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames).astype(np.uint8)
