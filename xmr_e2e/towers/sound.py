"""Towers of sounds: mel spectrograms as images, and audio transformers by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from xmr_e2e.bounds import Bounds, FractionBelow1, Positive, Width
from xmr_e2e.data.inputs import Waveforms
from xmr_e2e.errors import XmrError
from xmr_e2e.received import first_line
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageEncoder
from xmr_e2e.towers.of_images import ManyImagesEncoder, build_image_network
from xmr_e2e.towers.sizes import run_on_sizes

if TYPE_CHECKING:
    from xmr_e2e.towers.sound_encoders import PretrainedEncoder
    from xmr_e2e.towers.spectrogram import Spectrum

Milliseconds = Annotated[float, Bounds(float, least=1, most=100)]
_FLOOR = 1e-6
"""of a mel's power: below it is the noise of 16 bits"""


@dataclass(frozen=True)
class SoundTower(TowerConfig):
    """A log-mel spectrogram and a classifier of torchvision or timm by name, up to the input of its classification
    layer; the mean over a sound's windows."""

    kind = "spectrogram"
    input_kind = "waveform"

    name: str = "resnet10_slim"
    """Any classifier by its torchvision name (resnet18, efficientnet_b0, ...); timm:NAME, any of timm; or, for sets of
    a few hundred sounds, resnet10_slim, a small residual network."""
    weights: str = "none"
    """none (random), imagenet (torchvision's default ones, or timm's own: filters of photographs are a better start
    for spectrograms than none), a .pth, .pt or .safetensors file with a state dict, whose classification layer is
    ignored, or a run or exported model, whose tower is taken."""
    mels: Annotated[int, Bounds(int, least=8, most=512)] = 64
    """bands of frequencies: the spectrogram's height in pixels"""
    window: Milliseconds = 25.0
    """milliseconds of a frame"""
    hop: Milliseconds = 10.0
    """milliseconds from one frame to the next: the spectrogram's width has a pixel for each"""
    side: Annotated[int, Bounds(int, least=0, most=1024)] = 0
    """side in pixels of the square to which the spectrogram is scaled, for networks of one size of images, such as
    vision transformers; 0 leaves it as it is"""
    dropout: FractionBelow1 = 0.0
    """Share that the network's own dropout layers drop in training."""
    freeze_batch_norm: bool = False
    """Normalize by the statistics that came with the weights in training, too, not by each batch's; as for the image
    tower."""

    def build(self, dataset: DatasetInfo, modality: str) -> SoundEncoder:
        """The tower, initialised from torch's global generator where no weights are loaded.

        Raises XmrError for an unknown name, weights that cannot be had, read or fitted, more mels than the window tells
        apart, and a network that does not take images of the spectrogram's height.
        """
        spectrum = self._spectrum(dataset.sound_rate, modality)
        network = build_image_network(self, dataset, modality, self.side or self.mels)
        if not self.side:
            _try_oblong(network, self, modality)
        return SoundEncoder(network, spectrum, self.side)

    def _spectrum(self, rate: int, modality: str) -> Spectrum:
        from xmr_e2e.towers.spectrogram import Spectrum, mel_filters

        window, hop = (max(round(rate * each / 1000), 2) for each in (self.window, self.hop))
        spectrum = Spectrum(rate, window, hop, self.mels)
        if not mel_filters(spectrum).any(dim=1).all():
            raise XmrError(
                f"--method.{modality}.mels {self.mels}: a window of {self.window:g} ms at {rate} Hz does not tell "
                f"so many bands apart; lower them, or raise --method.{modality}.window"
            )
        return spectrum


class SoundEncoder(ManyImagesEncoder):
    """`Waveforms` of n sounds -> (n, dim): the mean over the windows that they have.

    The one channel of a spectrogram stands for red, green and blue alike, so that the network and its weights stay as
    they were published.
    """

    def __init__(self, images: ImageEncoder, spectrum: Spectrum, side: int) -> None:
        from xmr_e2e.towers.spectrogram import MelPower

        super().__init__(images)
        self.mels = MelPower(spectrum)
        self.side = side

    def forward(self, sounds: Waveforms) -> Tensor:
        images = hide(self.spectrogram(sounds), sounds.masks)
        if self.side:
            images = F.interpolate(images, (self.side, self.side), mode="bilinear", antialias=True)
        return mean_of_windows(self.encode(images[:, :, None].expand(-1, -1, 3, -1, -1)), sounds.lengths)

    def spectrogram(self, sounds: Waveforms) -> Tensor:
        """Log-mel spectrograms (n, w, mels, frames), low frequencies first, each of zero mean and unit variance."""
        samples = fill_up(sounds, least=self.mels.spectrum.window)
        logs = torch.log(self.mels(samples) + _FLOOR).transpose(2, 3)
        std, mean = torch.std_mean(logs, dim=(2, 3), keepdim=True, correction=0)
        return (logs - mean) / std.clamp(min=1e-3)


@dataclass(frozen=True)
class PretrainedSound(TowerConfig):
    """An audio transformer by name or folder, such as AST, wav2vec2, HuBERT or the audio side of CLAP: of CLAP the
    embedding in the space of sounds and texts, of AST its pooled output, of others the mean over time."""

    kind = "transformers"
    input_kind = "waveform"
    is_pretrained = True

    name: str
    """the model's name on the Hugging Face hub (MIT/ast-finetuned-audioset-10-10-0.4593, facebook/wav2vec2-base,
    laion/clap-htsat-unfused), or a folder with its config.json and weights"""
    weights: Literal["pretrained", "none"] = "pretrained"
    """pretrained, or none: random weights, of the architecture that the name stands for"""
    revision: str = ""
    """of a model of the hub: a commit, so that it is the same one tomorrow; by default the newest"""
    projected: bool = True
    """CLAP: through its projection into the space of its texts; otherwise the audio transformer alone"""
    lora_rank: Width = 8
    """of --method.MODALITY.trained lora: the width of the low-rank changes"""
    lora_alpha: Positive = 16.0
    """of lora: the changes are multiplied by alpha / rank"""

    def build(self, dataset: DatasetInfo, modality: str) -> PretrainedEncoder:
        """Raises XmrError for a model that cannot be had or reads no sounds, and another rate than its own."""
        from xmr_e2e.towers.sound_encoders import build_pretrained  # with transformers, seconds

        return build_pretrained(self, dataset, modality)


def _try_oblong(network: ImageEncoder, tower: SoundTower, modality: str) -> None:
    """Raise XmrError for a network that takes images of one size alone."""
    try:
        run_on_sizes(network.eval(), lambda: torch.zeros(1, 3, tower.mels, 2 * tower.mels))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise XmrError(
            f"{tower.name} takes square images only ({first_line(error)}); set --method.{modality}.side, such as 224"
        ) from error
    finally:
        network.train()


def fill_up(sounds: Waveforms, least: int = 1) -> Tensor:
    """Samples (n, w, t), in which each window's own are repeated to its end: silence behind a short sound would have a
    part in every mean over time. Where t is below `least`, there are so many.
    """
    count = max(sounds.samples.shape[2], least)
    times = torch.arange(count, device=sounds.samples.device) % sounds.lengths.clamp(min=1)[:, :, None]
    return sounds.samples.gather(2, times)


def hide(spectrograms: Tensor, masks: Tensor | None, value: Tensor | float = 0.0) -> Tensor:
    """Spectrograms (n, w, mels, frames) with a value, by default 0, where one of the masks (n, m, 4) is."""
    if masks is None:
        return spectrograms
    height, width = spectrograms.shape[2:]
    rows, columns = (
        (torch.arange(count, device=masks.device) + 0.5).view(1, 1, -1) / count for count in (height, width)
    )
    low, high, first, last = masks[:, :, None].unbind(3)
    is_hidden = ((rows >= low) & (rows < high))[:, :, :, None] & ((columns >= first) & (columns < last))[:, :, None]
    return torch.where(is_hidden.any(dim=1)[:, None], value, spectrograms)


def mean_of_windows(rows: Tensor, lengths: Tensor) -> Tensor:
    """The mean (n, d) over the windows (n, w, d) of those lengths (n, w) that are not 0."""
    exists = (lengths > 0)[:, :, None]
    # Not a product: what a network makes of a window that is none need not be finite.
    total = torch.where(exists, rows, torch.zeros_like(rows)).sum(dim=1)
    return total / exists.sum(dim=1).to(rows.dtype)
