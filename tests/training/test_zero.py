"""DeepSpeed's ZeRO on two CPU processes: trains, goes on, and leaves the weights that plain training leaves."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import xmr_e2e
from recipes import alscor_flickr8k
from tests.helpers.forked import trainings
from tests.helpers.launched import RECIPE, command, only_run, records
from tests.helpers.typed import typed, typed_ranks
from xmr_e2e.runs.export import export
from xmr_e2e.runs.run import Run
from xmr_e2e.training.launch import parse

PLAIN = "--train.epochs 2 --train.checkpoint-steps 6 --train.checkpoints-kept 9 --data.workers 0".split()
MIDDLE = "stage-00-epoch-0001-step-000002"
"""the checkpoint after step 12 of 20"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.processes,
    pytest.mark.skipif(
        shutil.which("g++") is None, reason="there is no g++, with which DeepSpeed on the CPU compiles its operator"
    ),
]


def start(shards: Path, runs: Path, *options: str) -> None:
    """Train on two processes to the end."""
    experiment = parse(alscor_flickr8k.experiment, command(shards, runs, *PLAIN, *options)[1:])
    with trainings(experiment, runs, processes=2) as ranks:
        assert [rank.end() for rank in ranks] == [0, 0], ranks[0].printed


def losses(run: Path) -> list[float]:
    return [record["loss"]["total"] for record in records(run) if "loss" in record]


def go_back(run: Path) -> None:
    """To where it stood in the middle."""
    for folder in (run / "checkpoints").glob("stage-*"):
        if folder.name > MIDDLE:
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def plain(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training under DistributedDataParallel."""
    runs = tmp_path_factory.mktemp("plain")
    start(tiny_shards, runs)
    return only_run(runs)


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_zero_trains_saves_goes_on_and_exports(plain: Path, tiny_shards: Path, tmp_path: Path, zero: int) -> None:
    options = ("--train.zero", str(zero))
    start(tiny_shards, tmp_path, *options)
    run = only_run(tmp_path)
    whole = losses(run)
    np.testing.assert_allclose(whole, losses(plain), rtol=1e-4)
    assert (run / "checkpoints" / MIDDLE / "pytorch_model").is_dir()  # DeepSpeed's own files

    # What is exported has the names of a plain run's weights, and their values within the precision.
    for source, name in ((run, "zero"), (plain, "plain")):
        export(Run(source), tmp_path / name, "stage-00-epoch-0001-step-000008")
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("zero", "plain"))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-4, msg=lambda text: f"{name}: {text}")  # noqa: B023
    assert xmr_e2e.load(tmp_path / "zero").embed_texts(["an apple"]).shape == (1, 4)

    go_back(run)
    start(tiny_shards, tmp_path, *options, "--train.resume", str(run))
    assert losses(run) == whole


def test_a_run_of_zero_goes_on_without_it(plain: Path, tiny_shards: Path, tmp_path: Path) -> None:
    options = ("--train.precision", "bf16")
    start(tiny_shards, tmp_path, *options, "--train.zero", "2")
    run = only_run(tmp_path)
    found = losses(run)
    np.testing.assert_allclose(found, losses(plain), rtol=0.1)
    assert found != losses(plain)
    go_back(run)
    resumed = typed([str(RECIPE), "--train.zero", "0", "--train.resume", str(run)])
    assert resumed.returncode == 0, resumed.stderr
    said = " ".join(resumed.stderr.split())
    expected = (
        "saved by 2 process(es) with --train.zero 2: weights and progress go on, BUT THE OPTIMIZER'S STATE IS RESET"
    )
    assert expected in said
    assert losses(run)[:12] == found[:12]
    assert [r["samples"] for r in records(run) if "loss" in r] == [r["samples"] for r in records(plain) if "loss" in r]


def test_zero_trains_in_fp16(tiny_shards: Path, tmp_path: Path) -> None:
    """With another text tower: on the CPU, torch has no LSTM in fp16."""
    recipe = RECIPE.with_name("dscmr_flickr8k.py")
    options = (
        "--method.dim 8 --method.hidden 16 --method.text.kernels 16 --data.words.dim 8 --method.image.name".split()
    )
    small = [*options, "squeezenet1_1", "--data.shards", str(tiny_shards), "--train.runs", str(tmp_path)]
    sizes = "--data.image-size 48 --data.load-size 48 --data.workers 0 --train.batch-size 4 --train.epochs 1".split()
    words = [str(recipe), *small, *sizes, "--train.zero", "2", "--train.precision", "fp16"]
    result, _ = typed_ranks(words, 2)
    assert result.returncode == 0, result.stderr
    (run,) = (tmp_path / "dscmr_flickr8k").iterdir()
    assert all(np.isfinite(losses(run))) and len(losses(run)) == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--train.micro-batches", "2"], "--train.micro-batches needs --train.zero 0"),
        (["--train.micro-tokens", "90"], "--train.micro-tokens needs --train.zero 0"),
        ([], "--train.zero 1 divides the training's state among several processes, and there is one"),
    ],
)
def test_what_zero_cannot_do_is_said(tiny_shards: Path, tmp_path: Path, options: list[str], message: str) -> None:
    arguments = command(tiny_shards, tmp_path, "--train.zero", "1", *options)
    for result in typed_ranks(arguments, 2 if options else 1):
        assert result.returncode == 2
        assert message in " ".join(result.stderr.split())
