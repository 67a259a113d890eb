"""The way of each modality into the common space as an ONNX file, checked against torch."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn

from xmr_e2e.errors import XmrError
from xmr_e2e.files import write_atomically
from xmr_e2e.methods.base import Method
from xmr_e2e.models.onnx_inputs import OnnxInputs, onnx_inputs
from xmr_e2e.models.onnx_recurrent import with_onnx_operators
from xmr_e2e.models.saved_model import SavedModel

FOLDER = "onnx"
DESCRIPTION = "onnx.json"
OPSET = 18
TOLERANCE = 1e-4
"""largest difference from torch, of embeddings brought to length 1 by torch's"""
BATCHES = (1, 2, 5)
"""numbers of samples that are compared, each with several lengths"""
_OUTPUT = "embeddings"
"""no name that torch gives to what is inside a network, such as the output of its layer of word vectors"""


def save_onnx(model: SavedModel, folder: Path) -> dict[str, float]:
    """Write `folder`/onnx with MODALITY.onnx and onnx.json, which says what they take; all or nothing.

    Returns:
        modality -> the largest difference from torch that was found.

    Raises:
        XmrError: the files are there already, or a network cannot be exported or computes something else.
    """
    out, unfinished = folder / FOLDER, folder / f"{FOLDER}.part"
    if out.exists():
        raise XmrError(f"{out} exists already; choose another folder")
    method = _for_export(model.method)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            worst = {name: _save_one(method, onnx_inputs(model, name), name, unfinished) for name in method.modalities}
        document = describe(model, worst)
        write_atomically(unfinished / DESCRIPTION, (json.dumps(document, indent=1) + "\n").encode())
        os.replace(unfinished, out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return worst


def describe(model: SavedModel, worst: dict[str, float]) -> dict[str, Any]:
    """The content of `onnx.json`."""
    models = {}
    for modality, difference in worst.items():
        inputs = {part.name: _without_name(asdict(part)) for part in onnx_inputs(model, modality).inputs}
        about = {"file": f"{modality}.onnx", "inputs": inputs, "output": _OUTPUT, "difference_from_torch": difference}
        if model.method.input_kinds[modality] == "tokens":
            about["max_tokens"] = model.data.max_tokens
        models[modality] = about
    return {"opset": OPSET, "similarity": model.similarity, "fingerprint": model.fingerprint, "models": models}


class _Path(nn.Module):
    """Plain tensors to embeddings (n, d) of one modality."""

    def __init__(self, method: Method, modality: str, way_in: OnnxInputs) -> None:
        super().__init__()
        self.method = method
        self.modality = modality
        self.way_in = way_in

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.method.embed(self.modality, self.way_in.read(*inputs)).float()


def _for_export(method: Method) -> Method:
    """A copy on the CPU whose booleans are constants: on a buffer's value, a graph cannot branch."""
    copied = copy.deepcopy(method).cpu().eval()
    for module in copied.modules():
        for name, value in list(module.named_buffers(recurse=False)):
            if value.dtype == torch.bool and value.dim() == 0:
                delattr(module, name)
                setattr(module, name, bool(value))
    return copied


def _save_one(method: Method, way_in: OnnxInputs, modality: str, folder: Path) -> float:
    """Export and compare one modality; returns the largest difference."""
    path = folder / f"{modality}.onnx"
    network = _Path(method, modality, way_in).eval()
    _export(network, way_in, path)
    difference = _compare(network, way_in, path)
    if not difference <= TOLERANCE:  # NaN too
        raise XmrError(
            f"{modality}: onnxruntime's embeddings differ from torch's by up to {difference:.1e}, more than "
            f"{TOLERANCE:.0e}; no ONNX file is written"
        )
    return difference


def _export(network: _Path, way_in: OnnxInputs, path: Path) -> None:
    free = tuple(
        {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(part.shape) if isinstance(size, str)}
        for part in way_in.inputs
    )
    try:
        # Sizes that differ, and neither 0 nor 1, which the exporter takes for constants.
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                with_onnx_operators(copy.deepcopy(network)),
                way_in.example(3, 4),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=(free,),
                input_names=[part.name for part in way_in.inputs],
                output_names=[_OUTPUT],
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise XmrError(f"{network.modality}: torch cannot write this network as ONNX ({reason})") from error
    assert program is not None, "dynamo=True returns a program"
    ClearMetadataAndDocStringPass()(program.model)  # of each node, in which file of this machine it was called
    program.save(path)


def _compare(network: _Path, way_in: OnnxInputs, path: Path) -> float:
    """The largest difference of the embeddings, in shares of their length."""
    session = onnxruntime.InferenceSession(path)
    differences = []
    for count in BATCHES:
        for length in sorted({1, min(7, way_in.longest), way_in.longest}):
            inputs = way_in.example(count, length)
            with torch.no_grad():
                expected = network(*inputs)
            arrays = {part.name: tensor.numpy() for part, tensor in zip(way_in.inputs, inputs, strict=True)}
            found = torch.from_numpy(session.run([_OUTPUT], arrays)[0])
            scale = expected.norm(dim=1, keepdim=True).clamp(min=1e-6)
            differences.append(((found - expected) / scale).abs().max())
    return torch.stack(differences).max().item()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own inner workings, and prints whole graphs where it fails."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _without_name(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "name"}
