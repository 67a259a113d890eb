"""The words of a training's bar on its speed."""

from __future__ import annotations

import re

import pytest

from xmr_e2e.training.display import Throughput


@pytest.mark.parametrize(
    ("modalities", "unit"), [(["image", "text"], "img/s"), (["audio", "text"], "samples/s"), (["shape3d"], "samples/s")]
)
def test_samples_are_called_images_only_where_there_are_some(modalities: list[str], unit: str) -> None:
    throughput = Throughput(modalities)
    throughput.data_arrived()
    throughput.step_done(8)
    assert re.fullmatch(rf"\d+\.\d {unit}, \d+% waiting for data", str(throughput))
