"""Towers of sounds that are transformers, written again for transformers and as ONNX."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from torch import Tensor

import xmr_e2e
from tests.helpers.made_sound_models import ast, clap, fused_clap, raw_wav2vec2, wav2vec2
from xmr_e2e.data.config import Data
from xmr_e2e.data.inputs import Waveforms
from xmr_e2e.data.media import Sounds
from xmr_e2e.data.text import Vocabulary
from xmr_e2e.methods.sdml import Sdml
from xmr_e2e.models.onnx_files import TOLERANCE, save_onnx
from xmr_e2e.models.transformers_files import save_transformers
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.sound import PretrainedSound
from xmr_e2e.towers.vector import VectorTower

pytest_plugins = ["tests.helpers.onnx_runs"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("kept_registry"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.parametrize("case", ["ast", "wav2vec2", "raw_wav2vec2", "clap", "fused_clap"]),
]


class Case(NamedTuple):
    make: Callable[[], Any]
    rate: int
    seconds: float
    row: Callable[[Any], Tensor]
    """of what the network of transformers gives"""


def mean_over_time(output: Any) -> Tensor:
    row: Tensor = output.last_hidden_state.mean(dim=1)
    return row


CASES = {
    "ast": Case(ast, 16_000, 0.5, lambda output: output.pooler_output),
    "wav2vec2": Case(wav2vec2, 16_000, 0.2, mean_over_time),
    "raw_wav2vec2": Case(raw_wav2vec2, 16_000, 0.2, mean_over_time),
    "clap": Case(clap, 48_000, 0.5, lambda output: output.audio_embeds),
    "fused_clap": Case(fused_clap, 48_000, 0.5, lambda output: output.audio_embeds),
}


@pytest.fixture
def model(case: str, tmp_path: Path) -> xmr_e2e.SavedModel:
    """A trained model, as it is loaded from its folder."""
    own, folder, widths = CASES[case], tmp_path / "published", {"text": 10}
    torch.manual_seed(0)
    for part in own.make():
        part.save_pretrained(folder)
    config = Sdml(image=None, text=VectorTower(), audio=PretrainedSound(str(folder)), dim=8)
    method = config.build(DatasetInfo(4, False, 32, torch.randn(20, 6), widths, sound_rate=own.rate))
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.mul_(1.1)
    data = Data(Path("elsewhere"), audio=Sounds(rate=own.rate, seconds=own.seconds, windows=2))
    words = Vocabulary(tuple(f"w{number}" for number in range(18)))
    trained = xmr_e2e.SavedModel(config, data, ["a", "b", "c", "d"], False, words, widths, method)
    trained.save_pretrained(tmp_path / "model")
    return xmr_e2e.load(tmp_path / "model")


@torch.no_grad()
def test_a_tower_is_written_for_transformers_with_its_feature_extractor(
    case: str, model: xmr_e2e.SavedModel, tmp_path: Path
) -> None:
    (folder,) = save_transformers(model, tmp_path / "out")
    assert folder == tmp_path / "out" / "transformers" / "audio"
    (name,) = json.loads((folder / "config.json").read_text())["architectures"]
    network = getattr(transformers, name).from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    audio = model.data.audio
    sounds = 0.1 * torch.randn(3, audio.samples, generator=torch.Generator().manual_seed(1))
    inputs = dict(extractor(list(sounds.numpy()), sampling_rate=audio.rate, return_tensors="pt"))
    if "is_longer" in inputs:
        inputs["is_longer"] = torch.zeros_like(inputs["is_longer"])  # one of them is called so by chance
    found = CASES[case].row(network(**inputs))
    windows = Waveforms(sounds[:, None], torch.full((3, 1), audio.samples))
    tower: Any = model.method.towers["audio"].eval()
    expected = tower(windows)
    spread = expected.std(dim=0).max().item()
    assert spread > 0.001
    torch.testing.assert_close(found, expected, atol=0.01 * spread, rtol=0)
    # The folder is a model to begin with again.
    dataset = DatasetInfo(4, False, 32, torch.zeros(2, 3), sound_rate=audio.rate)
    again = PretrainedSound(str(folder)).build(dataset, "audio").eval()
    torch.testing.assert_close(again(windows), expected, atol=1e-5, rtol=1e-4)


def test_a_tower_is_written_as_onnx(case: str, model: xmr_e2e.SavedModel, tmp_path: Path) -> None:
    """`save_onnx` compares it with torch, on several numbers of sounds and of windows."""
    worst = save_onnx(model, tmp_path)
    assert worst["audio"] < TOLERANCE and (tmp_path / "onnx" / "audio.onnx").is_file()
