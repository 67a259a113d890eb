"""The networks of audio transformers as towers: what their feature extractors compute, on the device, and one row of a
sound."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    ASTFeatureExtractor,
    ClapFeatureExtractor,
    PretrainedConfig,
    PreTrainedModel,
    Wav2Vec2FeatureExtractor,
)
from transformers.feature_extraction_utils import FeatureExtractionMixin

from xmr_e2e.data.inputs import Waveforms
from xmr_e2e.errors import XmrError
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.pretrained import PretrainedVision
from xmr_e2e.towers.sound import PretrainedSound, fill_up, hide, mean_of_windows
from xmr_e2e.towers.spectrogram import Filters, MelPower, Spectrum
from xmr_e2e.towers.transformer_encoders import try_encoder
from xmr_e2e.towers.transformer_models import _Part, load_model

_AST = "audio-spectrogram-transformer"
_CLAP = ("clap", "clap_audio_model")
_PARTS = {
    ("clap", True): _Part("ClapAudioModelWithProjection", "audio_config"),
    ("clap", False): _Part("ClapAudioModel", "audio_config"),
    ("clap_audio_model", True): _Part("ClapAudioModelWithProjection", None),
    ("clap_audio_model", False): _Part("ClapAudioModel", None),
}
_AST_MEAN, _AST_STD = -4.2677393, 4.5689974
"""of AudioSet's log-mel spectrograms, where no file beside the model tells others"""
_AST_FLOOR = 1.192092955078125e-07
_CLAP_SECONDS = 10
_CLAP_FLOOR = 1e-10


class PretrainedEncoder(nn.Module, ABC):
    """`Waveforms` of n sounds -> (n, dim): the mean over the windows that they have."""

    dim: int
    architecture: PretrainedConfig
    """of the whole model, of which the network may be a part: what a saved model is built from again"""
    seconds: float = 1.0
    """of a window to try it with"""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.network = model

    @abstractmethod
    def encode(self, sounds: Waveforms) -> Tensor:
        """Each window's row, (n * w, dim)."""

    @abstractmethod
    def extractor(self, rate: int) -> FeatureExtractionMixin:
        """The feature extractor of transformers that makes of a window what `encode` gives the network.

        rate: samples per second.
        """

    def forward(self, sounds: Waveforms) -> Tensor:
        rows = self.encode(sounds).unflatten(0, sounds.lengths.shape)
        return mean_of_windows(rows, sounds.lengths)

    def cast(self, values: Tensor) -> Tensor:
        """Values in the network's own precision, which is half where DeepSpeed casts the model."""
        return values.to(next(self.network.parameters()).dtype)


class WaveEncoder(PretrainedEncoder):
    """wav2vec2 and its relatives, which read the samples themselves."""

    normalizes: Tensor

    def __init__(self, model: PreTrainedModel, processor: Mapping[str, Any]) -> None:
        super().__init__(model)
        # Both are drawn by numpy's global generator, apart from seed and epoch; and ranks would skip other layers.
        model.config.apply_spec_augment = False
        model.config.layerdrop = 0.0
        self.register_buffer("normalizes", torch.tensor(bool(processor.get("do_normalize", True))))

    def encode(self, sounds: Waveforms) -> Tensor:
        samples = fill_up(sounds, least=_receptive_field(self.network.config)).flatten(0, 1)
        variance, mean = torch.var_mean(samples, dim=1, keepdim=True, correction=0)
        samples = torch.where(torch.as_tensor(self.normalizes), (samples - mean) / (variance + 1e-7).sqrt(), samples)
        states: Tensor = self.network(input_values=self.cast(samples)).last_hidden_state
        return states.mean(dim=1)

    def extractor(self, rate: int) -> FeatureExtractionMixin:
        return Wav2Vec2FeatureExtractor(sampling_rate=rate, do_normalize=bool(self.normalizes))


class AstEncoder(PretrainedEncoder):
    """Audio Spectrogram Transformers, which read log-mel spectrograms of one length, with zeros behind."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: PreTrainedModel, processor: Mapping[str, Any], rate: int) -> None:
        super().__init__(model)
        bands = model.config.num_mel_bins
        # 25 and 10 ms at 16 kHz; at other rates so many samples, too.
        self.mels = MelPower(Spectrum(rate, 400, 160, bands, low=20, filters="kaldi", periodic=False, kaldi=True))
        self.longest = int(model.config.max_length)
        self.seconds = min(1.0, (400 + 160 * (self.longest - 1)) / rate)
        is_normal = processor.get("do_normalize", True)
        mean, std = (processor.get("mean", _AST_MEAN), processor.get("std", _AST_STD)) if is_normal else (0.0, 0.5)
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("std", torch.tensor(float(std)))

    def encode(self, sounds: Waveforms) -> Tensor:
        spectrum, missing = self.mels.spectrum, 400 - sounds.samples.shape[2]
        logs = self.mels(F.pad(sounds.samples, (0, max(missing, 0)))).clamp(min=_AST_FLOOR).log()
        count = logs.shape[2]
        if count > self.longest:
            raise XmrError(
                f"the model reads {(400 + 160 * (self.longest - 1)) / spectrum.rate:.2f} seconds at once, and a window "
                f"of the sounds has {sounds.samples.shape[2] / spectrum.rate:.2f}: shorten the windows"
            )
        logs = hide(logs.transpose(2, 3), sounds.masks, self.mean).transpose(2, 3)
        own = ((sounds.lengths - 400) // 160 + 1).clamp(min=1)[:, :, None, None]
        logs = torch.where(torch.arange(count, device=logs.device)[:, None] < own, logs, 0.0)
        values = (F.pad(logs, (0, 0, 0, self.longest - count)) - self.mean) / (2 * self.std)
        pooled: Tensor = self.network(input_values=self.cast(values.flatten(0, 1))).pooler_output
        return pooled

    def extractor(self, rate: int) -> FeatureExtractionMixin:
        own = {"num_mel_bins": self.mels.spectrum.mels, "max_length": self.longest}
        return ASTFeatureExtractor(sampling_rate=rate, mean=float(self.mean), std=float(self.std), **own)


class ClapEncoder(PretrainedEncoder):
    """CLAP's audio side, which reads ten seconds, in which shorter sounds are repeated as often as they fit whole."""

    def __init__(self, model: PreTrainedModel, processor: Mapping[str, Any], rate: int) -> None:
        super().__init__(model)
        config = model.config
        # With fusion, what is longer than ten seconds has further parts; windows here are not.
        filters: Filters = "htk" if config.enable_fusion else "slaney"
        for module in model.modules():
            if hasattr(module, "enable_fusion"):
                module.enable_fusion = False  # type: ignore[assignment]
        low, high = (float(processor.get(f"frequency_{end}", value)) for end, value in (("min", 0), ("max", 14_000)))
        spectrum = Spectrum(rate, 1024, 480, config.num_mel_bins, low, high, filters=filters)
        self.mels = MelPower(spectrum, saved=True)
        self.longest = _CLAP_SECONDS * rate

    def encode(self, sounds: Waveforms) -> Tensor:
        if sounds.samples.shape[2] > self.longest:
            raise XmrError(f"the model reads {_CLAP_SECONDS} seconds at once: shorten the windows of the sounds")
        lengths = sounds.lengths.clamp(min=1)[:, :, None]
        times = torch.arange(self.longest, device=lengths.device)
        samples = sounds.samples.gather(2, times % lengths)
        samples = torch.where((times // lengths + 1) * lengths <= self.longest, samples, 0.0)
        padded = F.pad(samples.flatten(0, 1), (512, 512), mode="reflect").unflatten(0, lengths.shape[:2])
        decibels = 10 * self.mels(padded).clamp(min=_CLAP_FLOOR).log10().transpose(2, 3)
        hidden = hide(decibels, sounds.masks, decibels.mean(dim=(2, 3), keepdim=True)).transpose(2, 3)
        output = self.network(input_features=self.cast(hidden.flatten(0, 1)[:, None]))
        projected: Tensor | None = output.get("audio_embeds")
        return output.pooler_output if projected is None else projected

    def extractor(self, rate: int) -> FeatureExtractionMixin:
        low, high = self.mels.band.tolist()
        return ClapFeatureExtractor(
            feature_size=self.mels.spectrum.mels,
            sampling_rate=rate,
            frequency_min=low,
            frequency_max=high,
            truncation="fusion" if self.network.config.enable_fusion else "rand_trunc",
        )


def build_pretrained(tower: PretrainedSound, dataset: DatasetInfo, modality: str) -> PretrainedEncoder:
    """The tower's network.

    Raises:
        XmrError: the model cannot be had, reads no sounds, or sounds of another rate.
    """
    kind = _kind(tower, dataset, modality)
    reads = "input_features" if kind in _CLAP else "input_values"
    # The same options as of an image tower are read of it.
    model, architecture = load_model(cast(PretrainedVision, tower), dataset, _PARTS, reads, modality)
    processor = {} if dataset.is_saved else _processor(tower)
    rate = dataset.sound_rate
    own_rate = rate if dataset.is_saved else int(processor.get("sampling_rate", 48_000 if kind in _CLAP else 16_000))
    if own_rate != rate:
        raise XmrError(
            f"{tower.name} reads sounds of {own_rate} samples per second, not {rate}: set --data.audio.rate {own_rate}"
        )
    encoder = _encoder(kind, model, processor, rate)
    if encoder is None:
        raise XmrError(
            f"--method.{modality}.name {tower.name}: a {type(model).__name__} is not among the audio transformers that "
            "can be used: AST, wav2vec2 and its relatives, and CLAP"
        )
    encoder.architecture = architecture
    samples = round(encoder.seconds * rate)
    encoder.dim = try_encoder(
        encoder,
        lambda: Waveforms(torch.zeros(1, 1, samples), torch.full((1, 1), samples)),
        f"{tower.name} cannot be used as a tower of sounds",
        dataset,
    )
    return encoder


def _encoder(kind: str, model: PreTrainedModel, processor: Mapping[str, Any], rate: int) -> PretrainedEncoder | None:
    if kind == _AST:
        return AstEncoder(model, processor, rate)
    if kind in _CLAP:
        return ClapEncoder(model, processor, rate)
    return WaveEncoder(model, processor) if hasattr(model.config, "conv_kernel") else None


def _kind(tower: PretrainedSound, dataset: DatasetInfo, modality: str) -> str:
    """The type of the model; "" where it cannot be had, which `load_model` explains."""
    if dataset.architectures is not None:
        return str(dataset.architectures[modality].model_type)
    try:
        document, _ = PretrainedConfig.get_config_dict(tower.name, revision=tower.revision or "main")
    except (OSError, ValueError):
        return ""
    return str(document.get("model_type", ""))


def _processor(tower: PretrainedSound) -> dict[str, Any]:
    """The options of the feature extractor beside the model, if there is one."""
    try:
        found, _ = FeatureExtractionMixin.get_feature_extractor_dict(tower.name, revision=tower.revision or "main")
    except OSError:
        return {}
    return dict(found)


def _receptive_field(config: Any) -> int:
    """Samples of which convolutions make one frame."""
    field, step = 1, 1
    for kernel, stride in zip(config.conv_kernel, config.conv_stride):
        field += (kernel - 1) * step
        step *= stride
    return field
