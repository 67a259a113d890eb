"""The commands in benchmarks/, on a miniature."""

from __future__ import annotations

import csv
import importlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
import rich.console
import torch

from benchmarks import (
    allocation,
    building,
    gpu,
    measure,
    media,
    peers,
    performance,
    profiling,
    reading,
    reporting,
    retrieval,
    starting,
    threads,
    training,
    validating,
    waiting,
)
from benchmarks.measure import Figure, Goal, Side, compare, recorded
from benchmarks.photographs import list_photographs, shards_of
from benchmarks.rows import Row
from tests import ROOT
from tests.helpers.drawn import draw_image
from tests.helpers.recipes import fresh_accelerator
from xmr_e2e.data.config import Data
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.errors import XmrError
from xmr_e2e.models.saved_model import load

pytestmark = pytest.mark.slow

SMALL = "--train.epochs=1 --train.batch-size=20 --data.image-size=32 --data.load-size=32 --data.workers=0"


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.methods", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )


def test_the_table_of_methods_has_each_setting_and_the_random_row_and_is_gone_on_with(
    tiny_shards: Path, tmp_path: Path
) -> None:
    (tmp_path / "flickr8k").symlink_to(tiny_shards)
    out = tmp_path / "table.csv"
    arguments = [str(tmp_path), str(out), "--runs", str(tmp_path / "runs"), f"--options={SMALL}"]
    first = command(*arguments, "--only", "deep_sm_flickr8k")
    assert first.returncode == 0, first.stderr
    with open(out, newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["method"], row["towers"]) for row in rows[:2]] == [("deep_sm", "end to end"), ("deep_sm", "frozen")]
    assert rows[2]["method"] == "random ranking"
    assert all(0 < float(row["image_to_text mAP@all"]) <= 1 for row in rows)
    assert rows[1]["command"].startswith("accelerate launch recipes/deep_sm_flickr8k.py --method.frozen")
    assert str(tmp_path) not in out.read_text()
    before = out.read_bytes()
    again = command(*arguments, "--only", "deep_sm_flickr8k")
    assert again.returncode == 0
    assert "deep_sm_flickr8k, frozen" not in again.stdout  # it is in the table already
    assert out.read_bytes() == before


def test_an_unknown_recipe_is_an_error(tmp_path: Path) -> None:
    result = command(str(tmp_path), str(tmp_path / "x.csv"), "--only", "nothing")
    assert result.returncode == 2
    assert "--only nothing: no such recipe" in result.stdout + result.stderr


# Ratios. Nothing here looks at the clock: that each command measures what it says, and keeps it.


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # they build in ./build
    monkeypatch.setattr(reading, "SAMPLES", 130)
    monkeypatch.setitem(compare.__kwdefaults__, "warm", False)  # no figure is looked at for how large it is
    folder = tmp_path / "photos"
    for number in range(3):
        draw_image(folder / f"{number}.jpg")
    return folder


MEASURES: dict[str, Callable[[Path], Figure]] = {
    "transform": partial(reading.transform, repeats=2, side=32),
    "loader": partial(reading.loader, repeats=1),
    "tar": partial(reading.tar, repeats=2),
    "sounds": lambda _: media.sounds(repeats=1, files=2),
    "clips": partial(media.clips, repeats=1, files=2),
    "resume": partial(reading.resume, repeats=1),
    "memory": partial(reading.memory, batches=3),
    "start": lambda _: starting.start(repeats=1),
    "first_step": partial(starting.first_step, repeats=1),
    "syncs": lambda _: waiting.syncs(samples=10),
    "validation": partial(validating.validation, repeats=1, samples=12, trained=10),
    "kept": lambda _: allocation.kept(repeats=1, batch_size=2, steps=1),
    "step": partial(training.step, repeats=1, network="squeezenet1_1", batch_size=4, steps=2),
    "micro_batches": partial(training.micro_batches, repeats=1, network="squeezenet1_1", batch_size=8),
    "checkpoint": partial(training.checkpoint, repeats=2, network="resnet18"),
    "evaluation": lambda _: retrieval.evaluation(repeats=1, items=300, dim=8),
    "released": lambda _: retrieval.released(repeats=1, items=100, dim=8),
    "evals": partial(reporting.evals, repeats=1, samples=12, at_once=2),
    "build": partial(building.build, repeats=1, samples=20, cores=1),
    "resized": partial(building.resized, repeats=1, samples=20, cores=1),
    "regions": partial(building.regions, repeats=1, samples=1, slices=1),
}


@pytest.mark.parametrize("name", MEASURES)
def test_a_figure_is_measured_and_kept_with_both_of_its_sides(
    name: str, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In place of whole evaluations, each of which takes seconds.
    monkeypatch.setattr(reporting, "_evaluate", lambda runs: [load(run) for run in runs])
    figure = MEASURES[name](photographs)
    measure.record(figure)
    assert figure.name == name and figure.ratio > 0 and sorted(figure.ratios)[0] <= figure.ratio
    assert ": " in figure.numerator and ": " in figure.denominator and figure.machine
    assert recorded() == [figure]
    if name == "transform":
        assert float(figure.notes[0].split()[-5]) >= 35
    if name == "validation":
        assert float(figure.notes[0].split()[-3]) < 1e-5
    if name == "syncs":
        assert figure.is_met and len(figure.ratios) > 10 and min(figure.ratios) >= 1
        assert not any(note.startswith("dscmr") for note in figure.notes)
    if name == "released":
        assert float(figure.notes[0].split()[-1]) < 1e-6


def test_the_loader_is_compared_with_all_others_that_are_installed(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "SAMPLES", 130)
    figure = peers.peers(photographs, repeats=1, workers=1)  # one shard, of which webdataset gives a worker all
    assert figure.name == "peers" and figure.ratio > 0
    shown, left_out = figure.notes[0], "".join(figure.notes[1:])
    for name in peers.others(photographs, photographs, 1):
        assert (f"{name}: " in shown) != (f"{name} (" in left_out), name
    assert "webdataset: " in shown and "torchvision ImageFolder: " in shown


def test_a_loader_without_a_batch_is_left_out_with_its_reason() -> None:
    def broken() -> Iterator[torch.Tensor]:
        raise RuntimeError("no library\n of FFmpeg")
        yield

    assert peers.why_left_out(lambda: importlib.import_module("no_such_module")) == "no_such_module is not installed"
    assert peers.why_left_out(broken) == "no library of FFmpeg"
    assert peers.why_left_out(lambda: [torch.zeros(1)]) == ""


@pytest.mark.processes
def test_the_trainer_on_two_processes_is_compared_with_a_loop_by_hand(photographs: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    options = ["--repeats", "1", "--network", "squeezenet1_1", "--batch-size", "4", "--steps", "2"]
    command = [sys.executable, "-m", "benchmarks", "accelerate", str(photographs), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    assert document["name"] == "accelerate" and document["ratio"] > 0 and len(document["ratios"]) == 1


def test_a_figure_is_the_median_of_ratios_of_medians(tmp_path: Path) -> None:
    above, below = itertools.cycle([6.0, 100.0, 4.0]), itertools.cycle([2.0])
    sides = Side("a", "s", lambda: next(above)), Side("b", "s", lambda: next(below))
    figure = compare("x", Goal("at most", 2.9), *sides, repeats=1, slices=3, warm=False)
    assert figure.ratios == (3.0,) and not figure.is_met
    figure = compare("x", Goal("at least", 3), *sides, repeats=3, warm=False)
    assert figure.ratios == (3.0, 50.0, 2.0) and figure.ratio == 3.0 and figure.is_met


def test_the_table_stands_between_its_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sides = Side("ours", "images/s", lambda: 3.0), Side("theirs", "images/s", lambda: 2.0)
    measure.record(compare("loader", Goal("at least", 2), *sides, repeats=2).note("a remark"))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{performance.BEGIN}\nold\n{performance.END}\nafter\n")
    performance.everything(tmp_path, out=page, measure=False)
    text = page.read_text()
    assert "| loader | 1.5 | at least 2: **not reached** | ours: 3 images/s | theirs: 2 images/s | 1.5 1.5 |" in text
    assert "- loader: a remark" in text and "old" not in text
    assert text.startswith("before\n") and text.endswith("after\n")
    page.write_text("no marks")
    with pytest.raises(XmrError, match="must have the lines"):
        performance.everything(tmp_path, out=page, measure=False)


def test_busy_cores_are_busy_for_as_long_as_trainings_are_measured(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = []
    rates = {None: 8.0, "1": 10.0, "2": 9.0}

    def rate(recipe: str, shards: Path, batch_size: int, asked: str | None) -> float:
        busy.append(len([each for each in psutil.Process().children() if threads.SPIN in each.cmdline()]))
        return rates[asked]

    monkeypatch.setattr(threads, "training_rate", rate)
    figure = threads.threads_busy(photographs, repeats=2, batch_size=10, steps=4)
    assert figure.name == "threads_busy" and figure.ratios == (0.8, 0.8) and not figure.is_met
    assert figure.notes == ("the better number of threads, each time: 1 1",)
    assert threads.threads(photographs, repeats=1, batch_size=10, steps=4).ratios == (0.8,)
    assert busy == [*6 * [len(os.sched_getaffinity(0))], 0, 0, 0]
    assert not [each for each in psutil.Process().children() if threads.SPIN in each.cmdline()]


def test_a_training_is_started_and_its_rate_is_read(photographs: Path) -> None:
    shards = shards_of(list_photographs(photographs), 40)
    assert threads.training_rate("dscmr_flickr8k", shards, 10, "1") > 0


def test_what_needs_a_gpu_is_one_table_wherever_it_is_asked_for(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "recipes_measured", lambda: ["dscmr_flickr8k", "cca_flickr8k"])
    monkeypatch.setattr(gpu, "NETWORKS", ("resnet18", "no such network"))
    data = Data(photographs, image_size=32, load_size=36, words=WordVectors(dim=8), workers=0)
    sizes = gpu.Sizes(side=32, batches=(4, 4), steps=3, items=(200,), compiled=False, data=data)
    with fresh_accelerator():
        table = gpu.gpu(photographs, sizes=sizes, minutes=60, cpu=True)
    rows = dict(zip(*([*map(str, column.cells)] for column in table.columns[:2])))
    beside = dict(zip(*([*map(str, table.columns[place].cells)] for place in (0, 2))))
    assert len(rows) == 14
    assert all(rows[f"loader, decodes on the {where}"].endswith("img/s") for where in ("CPU", "device"))
    assert rows["resnet18, fp32, bare"].endswith("img/s") and beside["resnet18, bf16, bare"].startswith("channels_last")
    assert float(beside["resnet18, bf16, trainer, decodes on CPU"].split()[0]) > 0
    assert rows["no such network, fp32, bare"].startswith("not measured: ")
    assert rows["dscmr_flickr8k"].endswith("ms a step") and rows["mAP@all, 200 x 200"].endswith("s")
    assert rows["checkpoint, recurrent text tower"].endswith("s")
    assert rows["stopped after step 4, gone on to step 6"] == "losses differ by 0"
    table = gpu.gpu(photographs, minutes=0, sizes=sizes, cpu=True)
    assert set(map(str, table.columns[1].cells)) == {"not measured: 0 s are left, too few"}


def test_the_table_of_a_gpu_has_forty_lines_at_most(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = [Row(f"a row with a long name, number {number}", "1,000 img/s", "0.9 x bare") for number in range(2)]
    for name in ("trainer", "loader", "bare", "evaluation", "resume", "method", "compiled"):
        measured = two[:1] if name in ("bare", "evaluation", "method") else two
        monkeypatch.setattr(gpu, f"{name}_rows", lambda *_, measured=measured: measured)
    table = gpu.gpu(photographs, cpu=True)
    assert {"compiled", "method"} <= {each.kind for each in gpu._all(photographs, gpu.Sizes())}
    narrow = rich.console.Console(width=80, record=True)
    narrow.print(table)
    assert 30 < len(narrow.export_text().splitlines()) <= 40


def test_without_a_gpu_it_is_said_that_there_is_none(photographs: Path) -> None:
    with pytest.raises(XmrError, match="no GPU is found here"):
        gpu.gpu(photographs)


def test_what_would_not_end_in_time_is_left_out() -> None:
    def rows() -> list[Row]:
        return [Row("bare", "1 img/s")]

    one = gpu.Measurement("bare", "bare", 5, rows)
    assert gpu._rows(one, 6.0, 0.0) == rows()
    assert gpu._rows(one, 6.0, 7.0) == [Row("bare", "not measured: 6 s are left, too few")]
    assert gpu._rows(one, 4.0, 0.0) == [Row("bare", "not measured: 4 s are left, too few")]


def test_a_step_is_taken_apart(photographs: Path) -> None:
    data = Data(photographs, image_size=32, load_size=36, words=WordVectors(dim=8), workers=0)
    with fresh_accelerator():
        table = profiling.profile(
            photographs, steps=4, only=("dcca_flickr8k", "cca_flickr8k"), data=data, batch_size=12
        )
    columns = {str(column.header): [*map(str, column.cells)] for column in table.columns}
    assert columns["recipe"] == ["dcca", "cca"]
    for name in ("first step", "a step", "forward", "backward", "optimizer"):
        assert min(map(float, columns[name])) >= 0, name
    assert float(columns["a step"][0]) > 0 and all(cell.count("%") == profiling.TOP for cell in columns["operators"])
    with pytest.raises(XmrError, match="no such recipe"):
        profiling.profile(photographs, only=("probe_flickr8k",))
