"""Runs of ONNX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime


def run_onnx(folder: Path, modality: str, **inputs: np.ndarray) -> np.ndarray:
    rows: np.ndarray = onnxruntime.InferenceSession(folder / "onnx" / f"{modality}.onnx").run(None, inputs)[0]
    return rows


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
