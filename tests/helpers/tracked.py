"""Runs at experiment trackers, read back with each package's own means."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROJECT = "tiny"
_BLOCK, _HEADER = 32768, 7
"""of the log format of LevelDB, in which wandb writes offline runs"""


@dataclass
class Told:
    """All that a tracker was told of one run."""

    name: str
    configuration: dict[str, Any]
    rows: list[tuple[int, str, float]]
    """step, name and value of each number, in order"""
    pictures: set[str]
    model: set[str] = field(default_factory=set)
    """files of the model"""
    status: str = ""


def stay_local(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the packages write to a folder, say little, and ask nobody."""
    monkeypatch.chdir(folder)
    places = {f"WANDB_{name}_DIR": folder / name.lower() for name in ("CACHE", "DATA", "CONFIG", "ARTIFACT")}
    local = {
        "WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": folder, "WANDB_DISABLE_GIT": "true",
        # A database takes seconds to be made, and a folder none.
        "MLFLOW_TRACKING_URI": folder / "mlruns", "MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true",
        "TRACKIO_DIR": folder / "trackio", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "true",
    }  # fmt: skip
    for name, value in (places | local).items():
        monkeypatch.setenv(name, str(value))


def told_tensorboard(run: Path) -> Told:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(run), {"scalars": 0, "images": 0, "tensors": 0}).Reload()
    tags = events.Tags()
    rows = [(each.step, tag, each.value) for tag in tags["scalars"] for each in events.Scalars(tag)]
    (text,) = events.Tensors("configuration/text_summary")
    lines = make_ndarray(text.tensor_proto)[0].decode().splitlines()
    configuration = dict(line[4:].split(": ", 1) for line in lines)
    assert all(len(events.Images(tag)) == 1 for tag in tags["images"])
    return Told(run.name, configuration, rows, set(tags["images"]))


def told_mlflow(folder: Path) -> Told:
    from mlflow import MlflowClient

    client = MlflowClient(f"{folder}/mlruns")
    experiment = client.get_experiment_by_name(PROJECT)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    rows = [
        (each.step, each.key, each.value)
        for name in run.data.metrics
        for each in client.get_metric_history(run.info.run_id, name)
    ]
    pictures, model = (
        {each.path for each in client.list_artifacts(run.info.run_id, folder)} for folder in ("report", "model")
    )
    return Told(
        str(run.info.run_name), dict(run.data.params), rows, {each.removesuffix(".png") for each in pictures},
        {Path(each).name for each in model}, str(run.info.status),
    )  # fmt: skip


def told_trackio(folder: Path) -> Told:
    from trackio import Api
    from trackio.sqlite_storage import SQLiteStorage

    (run,) = Api().runs(PROJECT)
    logs = SQLiteStorage.get_logs(PROJECT, run.name, run_id=run.id)
    values = [(log["step"], name, value) for log in logs for name, value in log.items() if name != "step"]
    rows = [(step, name, value) for step, name, value in values if isinstance(value, float | int)]
    pictures = {name for _, name, value in values if isinstance(value, dict)}
    artifact = SQLiteStorage.get_artifact_manifest(PROJECT, f"model-{run.id}", "latest")
    assert artifact is not None
    configuration = {name: value for name, value in (run.config or {}).items() if not name.startswith("_")}
    return Told(run.name, configuration, rows, pictures, {file["path"] for file in artifact["manifest"]})


def told_wandb(folder: Path) -> Told:
    told = Told("", {}, [], set())
    identities = set()
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for record in _wandb_records(path):
            match record.WhichOneof("record_type"):
                case "run":
                    identities.add(record.run.run_id)
                    told.name = record.run.display_name
                    told.configuration |= {each.key: json.loads(each.value_json) for each in record.run.config.update}
                case "history":
                    names = {tuple(each.nested_key): json.loads(each.value_json) for each in record.history.item}
                    row = {name[0]: value for name, value in names.items() if len(name) == 1}
                    own = {"step"} | {name for name in row if name.startswith("_")}
                    told.rows += [(row["step"], name, value) for name, value in row.items() if name not in own]
                    told.pictures |= {name[0] for name, value in names.items() if value == "image-file"}
                case "artifact":
                    told.model = {entry.path for entry in record.artifact.manifest.contents}
                case "exit":
                    told.status = str(record.exit.exit_code)
    told.configuration.pop("_wandb")
    assert len(identities) == 1
    return told


def _wandb_records(path: Path) -> Iterator[Any]:
    """The records of an offline run; wandb sends them to its server from there."""
    from wandb.proto.wandb_internal_pb2 import Record

    whole = b""
    for kind, part in _parts(path.read_bytes()):
        whole += part
        if kind in (1, 4):  # all of it, or the last part
            yield Record.FromString(whole)
            whole = b""


def _parts(log: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and bytes of each part, behind wandb's own header."""
    at = _HEADER
    while at + _HEADER <= len(log):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", log[at : at + _HEADER])
        yield kind, log[at + _HEADER : at + _HEADER + length]
        at += _HEADER + length
