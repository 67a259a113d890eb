"""Random variation of training sounds, on the device: shift, loudness, and what SpecAugment hides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor

from xmr_e2e.bounds import Bounds, Fraction, NotNegative
from xmr_e2e.data.device_randomness import uniform_rows

if TYPE_CHECKING:  # batches are augmented with this
    from xmr_e2e.data.inputs import Waveforms

_STREAM = 20
"""of the first of up to 66 random numbers; pictures have lower ones, points and texts higher ones"""
Masks = Annotated[int, Bounds(int, least=0, most=16)]


@dataclass(frozen=True)
class SoundAugment:
    """Random variation of a training sound from epoch to epoch."""

    shift: Fraction = 1.0
    """a window's samples are turned around by up to this share of their number: what leaves it at its end comes back at
    its beginning"""
    gain: NotNegative = 6.0
    """loudness varies by up to so many decibels, up and down"""
    frequency_masks: Masks = 1
    """bands of frequencies that are hidden in the spectrogram (SpecAugment, Park et al., 2019)"""
    frequency_width: Fraction = 0.2
    """widest such band, as a share of all frequencies"""
    time_masks: Masks = 1
    """stretches of time that are hidden in the spectrogram"""
    time_width: Fraction = 0.2
    """longest such stretch, as a share of the window"""


def augment_sound(sounds: Waveforms, options: SoundAugment, *, seed: int, epoch: int, positions: Tensor) -> Waveforms:
    """The same sounds, shifted and of other loudness, with the masks of their spectrograms.

    They depend on (seed, epoch, a sample's position) alone, and are the same for all windows of a sound.

    Args:
        positions: (n,) int64.
    """
    masks = options.frequency_masks + options.time_masks
    random = uniform_rows(2 + 2 * masks, _STREAM, seed=seed, epoch=epoch, positions=positions, like=sounds.samples)
    samples = _turn(sounds, options.shift * random[0]) if options.shift else sounds.samples
    if options.gain:
        decibels = options.gain * (2 * random[1] - 1)
        samples = samples * (10 ** (decibels / 20)).view(-1, 1, 1)
    return sounds._replace(samples=samples, masks=_draw_masks(random[2:], options) if masks else None)


def _turn(sounds: Waveforms, shares: Tensor) -> Tensor:
    """Each window's own samples, moved by this share (n,) of their number and around their end."""
    lengths = sounds.lengths[:, :, None]
    times = torch.arange(sounds.samples.shape[2], device=sounds.samples.device)
    moved = (times - (shares.view(-1, 1, 1) * lengths).long()) % lengths.clamp(min=1)
    return sounds.samples.gather(2, moved.where(times < lengths, times))


def _draw_masks(random: Tensor, options: SoundAugment) -> Tensor:
    """(n, m, 4) of random numbers (2 m, n): a width and a place for each mask."""
    widths, places = random.T.unflatten(1, (2, -1)).unbind(1)
    is_frequency = torch.arange(widths.shape[1], device=random.device) < options.frequency_masks
    widths = widths * torch.where(is_frequency, options.frequency_width, options.time_width)
    first = places * (1 - widths)
    whole = torch.zeros_like(first), torch.ones_like(first)
    band = [torch.where(is_frequency, edge, other) for edge, other in zip((first, first + widths), whole)]
    stretch = [torch.where(is_frequency, other, edge) for edge, other in zip((first, first + widths), whole)]
    return torch.stack([*band, *stretch], dim=2)
