"""What comes from others, or stands open to them: checkpoints, tars and ports."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import signal
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image

from tests.helpers.forked import train, trainings
from tests.helpers.small_trainings import before_step, failed, go_on, small
from xmr_e2e.files import crc32_of
from xmr_e2e.shards.adopt import adopt_shards

pytestmark = pytest.mark.slow

# Checkpoints


class Program:
    """Runs when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self._trace),)


def as_pickle(program: Program, path: Path) -> None:
    path.write_bytes(pickle.dumps({"state": program}))


def as_tensors(program: Program, path: Path) -> None:
    torch.save({"state": program, "random_state": program}, path)


@pytest.fixture(scope="module")
def stopped(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was stopped after three steps."""
    folder = tmp_path_factory.mktemp("stopped")
    stop = partial(before_step, 3, partial(signal.raise_signal, signal.SIGUSR1))
    with trainings(small(tiny_shards, folder), folder, prepare=stop) as (training,):
        assert training.end() == 75, training.printed
    return folder


@pytest.mark.parametrize("write", [as_pickle, as_tensors])
@pytest.mark.parametrize("name", ["optimizer.bin", "random_states_0.pkl", "custom_checkpoint_0.pkl"])
def test_a_program_in_a_checkpoint_does_not_run(
    name: str, write: Callable[[Program, Path], None], stopped: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    """Also where its checksum is right."""
    runs, trace = tmp_path / "runs", tmp_path / "trace"
    shutil.copytree(stopped, runs)
    checkpoint = runs / "tiny" / "run" / "checkpoints" / "stage-00-epoch-0000-step-000003"
    write(Program(trace), checkpoint / name)
    seal = checkpoint / "checkpoint.json"
    document = json.loads(seal.read_bytes())
    document["crc32"][name] = crc32_of(checkpoint / name)
    seal.write_text(json.dumps(document))
    experiment = small(tiny_shards, runs)
    match name:
        case "optimizer.bin":
            printed = failed(train(experiment, tmp_path))
            assert printed.startswith(f"{checkpoint}: the checkpoint holds more than tensors and plain values")
        case "random_states_0.pkl":  # which are not needed: each step begins with its own
            assert go_on(experiment, tmp_path)[0][-1]["step"] == 10
        case _:
            assert train(experiment, tmp_path).end() != 0
    assert not trace.exists()


def test_the_program_of_the_test_runs_where_pickles_are_read(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Program(tmp_path / "trace")))
    assert (tmp_path / "trace").is_dir()


# Tars


def write_tar(path: Path, keys: list[str], picture: bytes, extension: str = "jpg") -> Path:
    """A tar of somebody else: samples of two classes, with these member names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, key in enumerate(keys):
            words = {"caption": f"a picture of {number % 2}", "label": str(number % 2)}
            for name, data in ((f"{key}.{extension}", picture), (f"{key}.json", json.dumps(words).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def encoded(image: Image.Image, format: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format)
    return stream.getvalue()


def test_names_that_lead_out_of_a_tar_are_names_and_nothing_is_written_there(tmp_path: Path) -> None:
    shards, here = tmp_path / "a" / "b" / "shards", tmp_path / "c" / "d" / "here"
    here.mkdir(parents=True)
    picture = encoded(Image.new("RGB", (40, 40), "red"), "JPEG")
    tars = {}
    for split, count in (("train", 16), ("val", 4), ("test", 4)):
        names = [f"../../{split}-{n}" if n % 4 < 2 else f"{tmp_path}/absolute/{split}-{n}" for n in range(count)]
        tars[split] = [write_tar(shards / f"{split}-000000.tar", names, picture)]
    adopt_shards(tars, workers=1)
    training = train(small(shards, tmp_path / "runs", epochs=1, report=True), tmp_path, prepare=partial(os.chdir, here))
    assert training.end() == 0, training.printed
    report = (tmp_path / "runs" / "tiny" / "run" / "report.html").read_text()
    assert "../../test-0" in report
    assert {path.name for path in tmp_path.iterdir()} == {"a", "c", "runs", "rank-0.log"}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["shards"]
    assert all(path.name.startswith(("train-", "val-", "test-", "manifest")) for path in shards.iterdir())
    assert list((tmp_path / "c").rglob("*")) == [here.parent, here]


def test_a_picture_above_the_pixel_cap_ends_a_training_before_it_is_decoded(tmp_path: Path) -> None:
    """Of tars that another tool made, no picture was looked at before."""
    good = encoded(Image.new("RGB", (40, 40), "red"), "PNG")
    huge = encoded(Image.new("1", (12_000, 12_000)), "PNG")
    assert len(huge) < 100_000
    shards = tmp_path / "shards"
    tars = {
        split: [write_tar(shards / f"{split}-000000.tar", [f"{split}-{n}" for n in range(8)], picture, "png")]
        for split, picture in (("train", huge), ("val", good), ("test", good))
    }
    adopt_shards(tars, workers=1)
    printed = failed(train(small(shards, tmp_path), tmp_path))
    assert printed.startswith(f"{tars['train'][0]}: train-")
    assert "12000 x 12000 pixels are above the cap of 120,000,000 pixels" in printed


# Ports


def test_a_training_of_one_process_listens_on_no_port(tiny_shards: Path, tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    training = train(
        small(tiny_shards, tmp_path, workers=1), tmp_path, prepare=partial(before_step, 3, partial(list_ports, found))
    )
    assert training.end() == 0, training.printed
    assert json.loads(found.read_bytes()) == {"processes": 3, "ports": []}


def list_ports(out: Path) -> None:
    """Write down the connections and open ports of this process, its fork server and its loader's."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    ports = [str(connection) for process in processes for connection in process.net_connections("inet")]
    out.write_text(json.dumps({"processes": len(processes), "ports": ports}))
