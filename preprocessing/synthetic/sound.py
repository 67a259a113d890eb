"""Synthetic sounds, by a class's timbre and rhythm: chirps, a horn of two tones, a fog horn, wheels on rails."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable
from random import Random

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
Signal = NDArray[np.float64]
"""(t,) samples at RATE"""


def make_sound(name: str, rng: Random) -> bytes:
    """A WAV file of one to two seconds, mono, of 16 or of 8 bits, with noise in its background."""
    time = np.arange(int(RATE * rng.uniform(1.0, 2.0))) / RATE
    noise = np.random.default_rng(rng.getrandbits(64)).standard_normal(len(time))
    signal = SOUNDS[name](time, noise, rng)
    signal = signal / np.abs(signal).max() + rng.uniform(0.005, 0.05) * noise
    return _encode(signal / np.abs(signal).max() * rng.uniform(0.3, 0.95), eight_bit=rng.random() < 0.25)


def _chirps(time: Signal, noise: Signal, rng: Random) -> Signal:
    """Short whistles that rise, several in a second."""
    each = rng.uniform(0.12, 0.25)
    within = time % each / each
    low, rise = rng.uniform(2000, 3000), rng.uniform(800, 2000)
    phase = 2 * np.pi * each * (low * within + rise * within**2 / 2)
    return np.sin(phase) * np.clip(np.sin(np.pi * within / 0.7), 0, None)


def _two_tones(time: Signal, noise: Signal, rng: Random) -> Signal:
    """A car's horn: a major third, with many harmonics, once or twice."""
    pitch = rng.uniform(330, 450)
    tones = _harmonics(time, pitch, count=8, fall=0.5) + _harmonics(time, 1.25 * pitch, count=8, fall=0.5)
    gap = rng.uniform(0.35, 0.6) * time[-1]
    return tones * (np.abs(time - gap) > 0.06)


def _low_tone(time: Signal, noise: Signal, rng: Random) -> Signal:
    """A fog horn: one low tone, which swells and fades."""
    swell = np.sin(np.pi * np.arange(1, len(time) + 1) / (len(time) + 1)) ** 0.5
    return _harmonics(time, rng.uniform(80, 140), count=5, fall=1.2) * swell


def _strokes(time: Signal, noise: Signal, rng: Random) -> Signal:
    """Wheels on rails: strokes of noise in pairs, without a pitch."""
    each = rng.uniform(0.35, 0.5)
    within = time % each
    pairs = np.exp(-within / 0.03) + np.where(within > 0.12, np.exp(-(within - 0.12) / 0.03), 0)
    return noise * (pairs + 0.05)


def _harmonics(time: Signal, pitch: float, *, count: int, fall: float) -> Signal:
    waves = [np.sin(2 * np.pi * pitch * k * time) / k**fall for k in range(1, count + 1)]
    total: Signal = np.sum(waves, axis=0)
    return total


SOUNDS: dict[str, Callable[[Signal, Signal, Random], Signal]] = {
    "bird": _chirps,
    "boat": _low_tone,
    "car": _two_tones,
    "train": _strokes,
}
"""class -> of times, noise and random numbers, its signal"""


def _encode(signal: Signal, *, eight_bit: bool) -> bytes:
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setframerate(RATE)
        file.setsampwidth(1 if eight_bit else 2)
        # 8 bits of WAV are without a sign, 16 with one.
        samples = np.round(signal * 127 + 128).astype(np.uint8) if eight_bit else np.round(signal * 32767).astype("<i2")
        file.writeframes(samples.tobytes())
    return data.getvalue()
