"""Towers of sounds: filters and spectrograms by their formulas, windows, padding, and audio transformers on tiny models
with random weights, beside their own feature extractors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision import models

from tests.helpers.made_sound_models import ast, clap, fused_clap, raw_wav2vec2, wav2vec2
from tests.helpers.made_transformers import SMALL
from xmr_e2e.configuration import from_document, to_document
from xmr_e2e.data.inputs import Waveforms
from xmr_e2e.errors import XmrError
from xmr_e2e.towers.architecture import read_architecture, to_json
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.kinds import tower_kinds
from xmr_e2e.towers.sizes import laying_out
from xmr_e2e.towers.sound import PretrainedSound, SoundTower, hide
from xmr_e2e.towers.spectrogram import MelPower, Spectrum, mel_filters
from xmr_e2e.towers.trained import build_tower

DATASET = DatasetInfo(5, False, 224, words=torch.zeros(2, 3))
RATE = 16_000


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def whole(samples: Tensor) -> Waveforms:
    """Windows (n, w, t) without padding."""
    return Waveforms(samples, torch.full(samples.shape[:2], samples.shape[2]))


# ---- filters and spectrograms


def hertz_of_htk(mel: float) -> float:
    return 700 * (10 ** (mel / 2595) - 1)


def mel_of_htk(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def hertz_of_slaney(mel: float) -> float:
    """13 1/3 filters of 66 2/3 Hz to 1000 Hz, and 27 steps from there to 6400 Hz."""
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def mel_of_slaney(hertz: float) -> float:
    return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000, 6.4)


def triangle(at: float, left: float, middle: float, right: float) -> float:
    if left < at <= middle:
        return (at - left) / (middle - left)
    return (right - at) / (right - middle) if middle < at < right else 0.0


def filters_by_hand(spectrum: Spectrum, kind: str) -> list[list[float]]:
    mel_of, hertz_of = (mel_of_slaney, hertz_of_slaney) if kind == "slaney" else (mel_of_htk, hertz_of_htk)
    low, high = mel_of(spectrum.low), mel_of(spectrum.high or spectrum.rate / 2)
    centers = [low + (high - low) * number / (spectrum.mels + 1) for number in range(spectrum.mels + 2)]
    frequencies = [number * spectrum.rate / spectrum.fft for number in range(spectrum.fft // 2 + 1)]
    rows = []
    for left, middle, right in zip(centers, centers[1:], centers[2:]):
        if kind == "kaldi":
            rows.append([triangle(mel_of(each), left, middle, right) for each in frequencies])
            continue
        left, middle, right = hertz_of(left), hertz_of(middle), hertz_of(right)
        height = 2 / (right - left) if kind == "slaney" else 1.0
        rows.append([height * triangle(each, left, middle, right) for each in frequencies])
    return rows


@pytest.mark.parametrize("kind", ["htk", "kaldi", "slaney"])
@pytest.mark.parametrize("spectrum", [Spectrum(RATE, 400, 160, 40), Spectrum(48_000, 1024, 480, 64, 50, 14_000)])
def test_filters_are_triangles_at_even_steps_of_the_scale(kind: Any, spectrum: Spectrum) -> None:
    found = mel_filters(spectrum._replace(filters=kind))
    expected = torch.tensor(filters_by_hand(spectrum, kind))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
    assert (found.amax(dim=1) > 0).all()


def test_more_mels_than_any_network_has_are_refused_before_they_are_made() -> None:
    with pytest.raises(XmrError, match="100,000 mels is beyond any network"):
        MelPower(Spectrum(RATE, 400, 160, 100_000))


def power_by_hand(samples: NDArray[np.float64], spectrum: Spectrum) -> NDArray[np.float64]:
    """Frame by frame, (frames, mels)."""
    n = spectrum.window
    hann = np.array([math.sin(math.pi * k / n) ** 2 for k in range(n)])
    starts = range(0, len(samples) - n + 1, spectrum.hop)
    power = [np.abs(np.fft.rfft(samples[start : start + n] * hann, spectrum.fft)) ** 2 for start in starts]
    return np.array(power) @ np.array(filters_by_hand(spectrum, "htk")).T


@pytest.mark.parametrize("length", [400, 401, 559, 560, 3000])
def test_a_spectrogram_is_that_of_each_frame_alone(length: int) -> None:
    spectrum = Spectrum(RATE, 400, 160, 40)
    samples = noise(2, 1, length)
    found = MelPower(spectrum)(samples)
    assert found.shape == (2, 1, spectrum.frames(length), 40)
    for row, one in zip(found[:, 0], samples[:, 0].double().numpy()):
        np.testing.assert_allclose(row.numpy(), power_by_hand(one, spectrum), rtol=1e-4, atol=1e-6)


def test_a_tone_is_brightest_in_its_own_band() -> None:
    times = torch.arange(RATE) / RATE
    tones = torch.stack([torch.sin(2 * math.pi * pitch * times) for pitch in (300, 1000, 5000)])
    found = encoder().spectrogram(whole(tones[:, None])).mean(dim=3)[:, 0].argmax(dim=1)
    step = mel_of_htk(RATE / 2) / 65
    assert found.tolist() == [round(mel_of_htk(pitch) / step) - 1 for pitch in (300, 1000, 5000)]


def test_spectrograms_keep_fp32_where_networks_do_not() -> None:
    samples = noise(1, 1, 2000)
    mels = MelPower(Spectrum(RATE, 400, 160, 40))
    expected = mels(samples)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(mels(samples), expected)
    assert torch.equal(mels.bfloat16()(samples), expected)


# ---- the tower


def encoder(**options: Any) -> Any:
    return SoundTower(**options).build(DATASET, "audio").eval()


def test_spectrograms_of_a_tower_have_zero_mean_and_unit_variance_whatever_the_loudness() -> None:
    samples = noise(3, 2, 4000)
    found = encoder().spectrogram(whole(samples))
    assert found.shape == (3, 2, 64, 23)
    torch.testing.assert_close(found.mean((2, 3)), torch.zeros(3, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std((2, 3), correction=0), torch.ones(3, 2))
    louder = encoder().spectrogram(whole(5 * samples))
    torch.testing.assert_close(louder, found, atol=2e-3, rtol=0)
    assert not encoder().spectrogram(whole(torch.zeros(1, 1, 4000))).any()


@torch.no_grad()
def test_a_sound_is_the_mean_of_its_windows() -> None:
    tower, samples = encoder(), noise(2, 3, 5000)
    alone = torch.stack([tower(whole(samples[:, [number]])) for number in range(3)])
    torch.testing.assert_close(tower(whole(samples)), alone.mean(dim=0))
    lengths = torch.tensor([[5000, 5000, 0], [5000, 0, 0]])
    found = tower(Waveforms(samples, lengths))
    torch.testing.assert_close(found[0], alone[:2, 0].mean(dim=0))
    torch.testing.assert_close(found[1], alone[0, 1])


@torch.no_grad()
def test_what_stands_behind_a_short_sound_does_not_matter() -> None:
    tower, samples = encoder(), noise(2, 1, 6000)
    lengths = torch.tensor([[2000], [6000]])
    found = tower(Waveforms(samples, lengths))
    samples[0, 0, 2000:] = 0
    padded = tower(Waveforms(samples, lengths))
    torch.testing.assert_close(padded, found, rtol=0, atol=0)
    tiled = samples.clone()
    tiled[0, 0] = samples[0, 0, :2000].repeat(3)
    torch.testing.assert_close(tower(whole(tiled)), found, rtol=0, atol=0)
    more = torch.cat([samples, torch.full_like(samples, torch.inf)], dim=1)  # windows that there are not
    there = torch.cat([lengths, torch.zeros_like(lengths)], dim=1)
    torch.testing.assert_close(tower(Waveforms(more, there)), found)


@torch.no_grad()
def test_a_sound_of_one_sample_is_one() -> None:
    assert encoder()(Waveforms(torch.ones(1, 1, 1), torch.ones(1, 1, dtype=torch.long))).isfinite().all()


def test_a_training_step_reaches_every_parameter_and_the_samples() -> None:
    tower = SoundTower().build(DATASET, "audio").train()
    samples = noise(4, 1, 4000).requires_grad_()
    lengths = torch.tensor([[4000], [4000], [1500], [4000]])
    rows = tower(Waveforms(samples, lengths))
    assert rows.shape == (4, tower.dim) == (4, 256)
    (rows * torch.randn(4, 256)).sum().backward()
    assert all(parameter.grad is not None for parameter in tower.parameters())
    assert samples.grad is not None and samples.grad.isfinite().all()
    assert (samples.grad[2, 0, :1500] != 0).any() and not samples.grad[2, 0, 1500:].any()


def test_masks_hide_what_they_cover() -> None:
    spectrograms = torch.ones(2, 3, 10, 20)
    masks = torch.zeros(2, 2, 4)
    masks[0, 0] = torch.tensor([0.2, 0.5, 0, 1])  # bands 2 to 4
    masks[0, 1] = torch.tensor([0, 1, 0.25, 0.5])  # frames 5 to 9
    found = hide(spectrograms, masks)
    expected = spectrograms.clone()
    expected[0, :, 2:5] = 0
    expected[0, :, :, 5:10] = 0
    assert torch.equal(found, expected) and torch.equal(hide(spectrograms, None), spectrograms)


@torch.no_grad()
def test_masks_reach_the_network() -> None:
    tower, samples = encoder(), noise(2, 1, 4000)
    masks = torch.zeros(2, 1, 4)
    masks[0] = torch.tensor([0.1, 0.6, 0, 1])
    found, plain = tower(whole(samples)._replace(masks=masks)), tower(whole(samples))
    assert not torch.allclose(found[0], plain[0], atol=1e-3)
    torch.testing.assert_close(found[1], plain[1])


@torch.no_grad()
def test_the_network_sees_one_spectrogram_in_three_colors() -> None:
    tower, samples = encoder(name="resnet18"), noise(2, 1, 8000)
    images = tower.spectrogram(whole(samples))[:, 0, None].expand(-1, 3, -1, -1)
    torch.testing.assert_close(tower(whole(samples)), tower.network(images))


@torch.no_grad()
def test_a_network_of_square_images_has_the_spectrogram_scaled() -> None:
    tower = encoder(name="vit_b_16", side=64)
    assert tower(whole(noise(1, 2, 8000))).shape == (1, 768)


def test_weights_come_from_a_file(tmp_path: Path) -> None:
    network = models.get_model("resnet18")
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    tower = SoundTower("resnet18", weights=str(tmp_path / "weights.pth"), trained="last_block")
    built = build_tower(tower, DATASET, "audio")
    assert all(torch.equal(value, built.network.state_dict()[key]) for key, value in network.state_dict().items()
               if not key.startswith("fc."))  # fmt: skip
    learning = [name for name, parameter in built.named_parameters() if parameter.requires_grad]
    assert learning[0] == "network.layer4.1.conv1.weight"


@pytest.mark.parametrize(
    ("tower", "complaint"),
    [
        (SoundTower("resnet5O"), r"--method.audio.name resnet5O: .*did you mean.*resnet50"),
        (SoundTower(weights="imagenet"), r"--method.audio.name resnet10_slim: .*--method.audio.weights none"),
        (SoundTower(weights="none.pth"), r"--method.audio.weights none.pth: neither"),
        (SoundTower(mels=400), r"--method.audio.mels 400: a window of 25 ms .* --method.audio.window"),
        (SoundTower("alexnet", mels=32), r"alexnet cannot take images of 32 pixels .*--method.audio.side"),
        (SoundTower("vit_b_16"), r"vit_b_16 .*--method.audio.side"),
    ],
)
def test_what_cannot_be_built_is_refused_by_its_option(tower: SoundTower, complaint: str) -> None:
    with pytest.raises(XmrError, match=complaint):
        tower.build(DATASET, "audio")


def same_when_built_again(tower: TowerConfig, built: nn.Module, dataset: DatasetInfo, sounds: Waveforms) -> None:
    """As a saved model is: laid out without memory first, of the configuration as a document and of its weights."""
    state = built.state_dict()
    config: Any = from_document(type(tower), to_document(tower), "document")
    with laying_out(len(state), sum(value.nbytes for value in state.values())):
        planned = config.build(dataset, "audio")
    assert {key: value.shape for key, value in planned.state_dict().items()} == {k: v.shape for k, v in state.items()}
    again = config.build(dataset, "audio")
    again.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(sounds), built.eval()(sounds), rtol=0, atol=0)
    assert again.dim == built.dim


def test_a_saved_tower_is_built_again_from_its_weights() -> None:
    for tower in (SoundTower(mels=48, hop=20), SoundTower(side=64)):
        saved = replace(DATASET, architectures={})
        same_when_built_again(tower, tower.build(DATASET, "audio"), saved, whole(noise(2, 2, 8000)))


def test_sounds_have_these_kinds_of_towers() -> None:
    kinds = tower_kinds(TowerConfig | None, "audio")
    assert {"spectrogram": SoundTower, "transformers": PretrainedSound}.items() <= kinds.items()
    assert "vector" in kinds and not {"torchvision", "bigru"} & kinds.keys()


# ---- audio transformers


Save = Callable[[Callable[[], Any]], tuple[str, Any, Any]]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes a model with random weights and its feature extractor; returns the folder and both."""

    def write(make: Callable[[], Any]) -> tuple[str, Any, Any]:
        model, extractor = make()
        folder = tmp_path / getattr(make, "__name__", "model")
        model.eval().save_pretrained(folder)
        extractor.save_pretrained(folder)
        return str(folder), model, extractor

    return write


def of_ast(model: Any, **inputs: Tensor) -> Tensor:
    found: Tensor = model(**inputs).pooler_output
    return found


def of_waves(model: Any, **inputs: Tensor) -> Tensor:
    found: Tensor = model(input_values=inputs["input_values"]).last_hidden_state.mean(dim=1)
    return found


def of_clap(model: Any, **inputs: Tensor) -> Tensor:
    inputs["is_longer"] = torch.zeros_like(inputs["is_longer"])  # as of a sound that is not
    found: Tensor = model.audio_projection(model.audio_model(**inputs).pooler_output)
    return found


CASES = [
    (ast, RATE, 9000, of_ast),
    (wav2vec2, RATE, 3000, of_waves),
    (raw_wav2vec2, RATE, 3000, of_waves),
    (clap, 48_000, 200_000, of_clap),
    (fused_clap, 48_000, 130_000, of_clap),
]


@torch.no_grad()
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "rate", "length", "output"), CASES)
def test_a_transformer_sees_what_its_own_feature_extractor_makes(
    save: Save, make: Any, rate: int, length: int, output: Any
) -> None:
    folder, model, extractor = save(make)
    tower = PretrainedSound(folder).build(replace(DATASET, sound_rate=rate), "audio").eval()
    samples = noise(2, length)
    samples[1] = torch.sin(torch.arange(length) / 7)
    own = extractor(list(samples.numpy()), sampling_rate=rate, return_tensors="pt")
    own = {key: value.float() if value.is_floating_point() else value for key, value in own.items()}
    expected = output(model, **own)
    spread = expected.std(dim=0).max().item()
    assert expected.shape == (2, tower.dim) and spread > 0.001
    torch.testing.assert_close(tower(whole(samples[:, None])), expected, atol=0.01 * spread, rtol=0)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "rate"), [(ast, RATE), (wav2vec2, RATE), (clap, 48_000)])
def test_a_transformer_is_blind_to_padding_and_averages_windows(save: Save, make: Any, rate: int) -> None:
    tower = PretrainedSound(save(make)[0]).build(replace(DATASET, sound_rate=rate), "audio").eval()
    samples = noise(1, 3, 6000)
    lengths = torch.tensor([[6000, 2500, 0]])
    found = tower(Waveforms(samples, lengths))
    alone = [tower(Waveforms(samples[:, [k]], lengths[:, [k]])) for k in range(2)]
    torch.testing.assert_close(found, (alone[0] + alone[1]) / 2, atol=1e-4, rtol=1e-4)
    samples[0, 1, 2500:], samples[0, 2] = 0, 0
    torch.testing.assert_close(tower(Waveforms(samples, lengths)), found)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore")
def test_of_a_short_sound_the_extractors_padding_is_kept(save: Save) -> None:
    for make, rate, output in ((ast, RATE, of_ast), (clap, 48_000, of_clap)):
        folder, model, extractor = save(make)
        tower = PretrainedSound(folder).build(replace(DATASET, sound_rate=rate), "audio").eval()
        samples = torch.zeros(1, 1, 8000)
        samples[0, 0, :3210] = noise(3210)
        own = extractor(samples[0, 0, :3210].numpy(), sampling_rate=rate, return_tensors="pt")
        own = {key: value.float() if value.is_floating_point() else value for key, value in own.items()}
        found = tower(Waveforms(samples, torch.tensor([[3210]])))
        torch.testing.assert_close(found, output(model, **own), atol=2e-4, rtol=0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "rate"), [(ast, RATE), (wav2vec2, RATE), (clap, 48_000), (fused_clap, 48_000)])
def test_a_step_of_a_transformer_reaches_what_learns_and_the_samples(save: Save, make: Any, rate: int) -> None:
    tower = PretrainedSound(save(make)[0]).build(replace(DATASET, sound_rate=rate), "audio").train()
    learns = make is not wav2vec2  # which refuses to hand a gradient on to its input while it trains
    samples = noise(2, 1, 4000).requires_grad_(learns)
    rows = tower(whole(samples))
    (rows * torch.randn_like(rows)).sum().backward()
    assert all((weight.grad is not None) == weight.requires_grad for weight in tower.parameters())
    assert not learns or (samples.grad is not None and samples.grad.any())


@pytest.mark.filterwarnings("ignore")
def test_chance_has_no_part_in_a_transformers_training_but_for_dropout(save: Save) -> None:
    def certain() -> Any:
        model, extractor = wav2vec2()
        for name in ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"):
            setattr(model.config, name, 0.0)
        model.config.mask_time_prob, model.config.layerdrop = 0.9, 0.9
        return model, extractor

    tower = PretrainedSound(save(certain)[0]).build(DATASET, "audio").train()
    sounds = whole(noise(2, 1, 4000))
    torch.testing.assert_close(tower(sounds), tower(sounds), rtol=0, atol=0)
    torch.testing.assert_close(tower(sounds), tower.eval()(sounds))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "rate"), [(ast, RATE), (raw_wav2vec2, RATE), (clap, 48_000), (fused_clap, 48_000)])
def test_a_saved_transformer_is_built_again_from_its_own_files(
    save: Save, make: Any, rate: int, tmp_path: Path
) -> None:
    tower, dataset = PretrainedSound(save(make)[0]), replace(DATASET, sound_rate=rate)
    built = build_tower(tower, dataset, "audio")
    (tmp_path / "config.json").write_bytes(to_json(built.architecture))
    saved = replace(dataset, architectures={"audio": read_architecture(tmp_path / "config.json")})
    gone = replace(tower, name=str(tmp_path / "gone"), weights="none")
    same_when_built_again(gone, built, saved, whole(noise(2, 1, 5000)))


@pytest.mark.filterwarnings("ignore")
def test_lora_and_the_last_block_are_parts_of_an_audio_transformer(save: Save) -> None:
    folder = save(ast)[0]
    found = build_tower(PretrainedSound(folder, trained="last_block"), DATASET, "audio")
    learning = [name for name, weight in found.named_parameters() if weight.requires_grad]
    assert learning and not any(".0." in name for name in learning)
    pytest.importorskip("peft")
    found = build_tower(PretrainedSound(folder, trained="lora", lora_rank=2), DATASET, "audio")
    assert {name.split(".")[-2] for name, weight in found.named_parameters() if weight.requires_grad} == {"default"}


@pytest.mark.filterwarnings("ignore")
def test_models_that_do_not_fit_are_refused_by_their_option(save: Save, tmp_path: Path) -> None:
    with pytest.raises(XmrError, match=r"reads sounds of 48000 samples per second, not 16000: .*--data.audio.rate"):
        PretrainedSound(save(clap)[0]).build(DATASET, "audio")
    with pytest.raises(XmrError, match=r"--method.audio.name .*gone: the model cannot be had"):
        PretrainedSound(str(tmp_path / "gone")).build(DATASET, "audio")
    transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=9)).save_pretrained(tmp_path / "bert")
    with pytest.raises(XmrError, match=r"a BertModel does not read audios"):
        PretrainedSound(str(tmp_path / "bert")).build(DATASET, "audio")
    tower = PretrainedSound(save(ast)[0]).build(DATASET, "audio")
    with pytest.raises(XmrError, match=r"the model reads 0.61 seconds at once, .* has 0.75: shorten"):
        tower(whole(noise(1, 1, 12_000)))
