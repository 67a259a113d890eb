"""Runs of ONNX files, and exports that take less time: `pytest.mark.usefixtures("kept_registry")`, by
`pytest_plugins = ["tests.helpers.onnx_runs"]`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest


@pytest.fixture(scope="session")
def kept_registry() -> Iterator[None]:
    """torch reads the sources of all its operators' translations at each export, a second; here once."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
        yield


def run_onnx(folder: Path, modality: str, **inputs: np.ndarray) -> np.ndarray:
    rows: np.ndarray = onnxruntime.InferenceSession(folder / "onnx" / f"{modality}.onnx").run(None, inputs)[0]
    return rows


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
