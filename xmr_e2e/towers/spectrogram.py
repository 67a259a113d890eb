"""Mel spectrograms on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from xmr_e2e.errors import XmrError

Filters: TypeAlias = Literal["htk", "kaldi", "slaney"]
"""htk: triangles of height 1 over frequencies, which lie evenly on the scale 2595 log10(1 + f / 700) (O'Shaughnessy,
1987); kaldi: the same, but the sides are straight over mels; slaney: of area 1, on a scale that is linear up to
1000 Hz (Slaney's Auditory Toolbox, 1998)"""
MOST_MELS = 512
"""of a spectrogram: beyond it, no window tells them apart"""
_LINEAR_HZ = 200 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ
_LOG_STEP = np.log(6.4) / 27
_PREEMPHASIS = 0.97
Floats: TypeAlias = NDArray[np.floating[Any]]


class Spectrum(NamedTuple):
    """The way from samples to mels."""

    rate: int
    """samples per second"""
    window: int
    """samples of a frame, which a Hann window fades in and out"""
    hop: int
    """samples from one frame to the next"""
    mels: int
    low: float = 0.0
    """lower end of the first filter, in Hz"""
    high: float | None = None
    """upper end of the last filter, in Hz; None for half the rate"""
    filters: Filters = "htk"
    periodic: bool = True
    """False for a Hann window whose last sample is 0, too"""
    kaldi: bool = False
    """each frame less its mean, and with a pre-emphasis of 0.97, as Kaldi does"""

    @property
    def fft(self) -> int:
        """Samples of the Fourier transform: the window's, filled up to a power of two."""
        return 1 << (self.window - 1).bit_length()

    def frames(self, samples: int) -> int:
        """Number of whole frames in so many samples, of which there are at least a window's."""
        return 1 + (samples - self.window) // self.hop


def mel_filters(spectrum: Spectrum) -> Tensor:
    """Weights (mels, fft / 2 + 1) float32 of the frequencies in each mel.

    Raises:
        XmrError: more than MOST_MELS, which a received model may ask for.
    """
    if spectrum.mels > MOST_MELS:
        raise XmrError(f"a spectrogram of {spectrum.mels:,} mels is beyond any network: there are {MOST_MELS} at most")
    to_mel, from_mel = _SLANEY if spectrum.filters == "slaney" else _HTK
    high = spectrum.rate / 2 if spectrum.high is None else spectrum.high
    first, last = to_mel(np.array([spectrum.low, high]))
    mels = np.linspace(first, last, spectrum.mels + 2)
    bins: Floats = np.arange(spectrum.fft // 2 + 1) * (spectrum.rate / spectrum.fft)
    edges, places = (mels, to_mel(bins)) if spectrum.filters == "kaldi" else (from_mel(mels), bins)
    rising = (places - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - places) / (edges[2:] - edges[1:-1])[:, None]
    weights = np.minimum(rising, falling).clip(min=0)
    if spectrum.filters == "slaney":
        weights *= (2 / (edges[2:] - edges[:-2]))[:, None]
    return torch.from_numpy(weights.astype(np.float32))


class MelPower(nn.Module):
    """Samples (..., t) -> the power of each mel in each frame, (..., frames, mels), in fp32."""

    window: Tensor
    filters: Tensor
    band: Tensor
    """(2,): lower end of the first filter and upper end of the last, in Hz"""

    def __init__(self, spectrum: Spectrum, *, saved: bool = False) -> None:
        """saved: the filters and their band are part of the state dict, and come from there."""
        super().__init__()
        self.spectrum = spectrum
        steps = spectrum.window if spectrum.periodic else spectrum.window - 1
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(spectrum.window) / steps)
        self.register_buffer("window", torch.from_numpy(window.astype(np.float32)), persistent=False)
        self.register_buffer("filters", mel_filters(spectrum), persistent=saved)
        high = spectrum.rate / 2 if spectrum.high is None else spectrum.high
        self.register_buffer("band", torch.tensor([spectrum.low, high]), persistent=saved)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # fp32 where DeepSpeed casts the model: the powers of a sound span ten orders of magnitude.
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)

    def forward(self, samples: Tensor) -> Tensor:
        kind: Any = "cpu" if samples.is_meta else samples.device.type  # there is no autocast for shapes alone
        with torch.autocast(kind, enabled=False):
            frames = samples.float().unfold(-1, self.spectrum.window, self.spectrum.hop)
            if self.spectrum.kaldi:
                frames = frames - frames.mean(dim=-1, keepdim=True)
                before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
                frames = frames - _PREEMPHASIS * before
            spectra = torch.fft.rfft(frames * self.window, n=self.spectrum.fft)
            power = torch.view_as_real(spectra).square().sum(dim=-1)
            return F.linear(power, self.filters)


def _htk_mel(hertz: Floats) -> Floats:
    return 2595 * np.log10(1 + hertz / 700)


def _htk_hertz(mels: Floats) -> Floats:
    return 700 * (10 ** (mels / 2595) - 1)


def _slaney_mel(hertz: Floats) -> Floats:
    above = _BREAK_MEL + np.log(np.maximum(hertz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return np.where(hertz < _BREAK_HZ, hertz / _LINEAR_HZ, above)


def _slaney_hertz(mels: Floats) -> Floats:
    above = _BREAK_HZ * np.exp(_LOG_STEP * (np.maximum(mels, _BREAK_MEL) - _BREAK_MEL))
    return np.where(mels < _BREAK_MEL, mels * _LINEAR_HZ, above)


_HTK = (_htk_mel, _htk_hertz)
_SLANEY = (_slaney_mel, _slaney_hertz)
