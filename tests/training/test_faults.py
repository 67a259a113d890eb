"""What goes wrong in the middle of a training: a clear message, no hang, and a checkpoint from which it goes on.

Real processes; what is to fail is made to fail from within, at a certain step, so that nothing depends on the clock.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.forked import PATIENCE, result, train, trainings
from tests.helpers.small_trainings import Result, before_step, failed, go_on, small
from xmr_e2e.data.batch_dataset import BatchDataset
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.methods.dscmr import DscmrModel
from xmr_e2e.shards.index import load_index
from xmr_e2e.training import trainer
from xmr_e2e.training.trainer import Trainer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a training in which nothing goes wrong, with a checkpoint of each step."""
    folder = tmp_path_factory.mktemp("whole")
    training = train(small(tiny_shards, folder, checkpoint_steps=1, checkpoints_kept=99), folder)
    assert training.end() == 0, training.printed
    return folder / "tiny" / "run"


@pytest.fixture(scope="module")
def whole_of_two(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What comes of it with two processes."""
    folder = tmp_path_factory.mktemp("whole_of_two")
    return go_on(small(tiny_shards, folder), folder, processes=2)


@pytest.fixture
def shards(tiny_shards: Path, tmp_path: Path) -> Path:
    """The tiny shards, to be damaged."""
    return Path(shutil.copytree(tiny_shards, tmp_path / "shards"))


def checkpoints(runs: Path) -> list[str]:
    """The whole ones, oldest first."""
    return sorted(path.name for path in (runs / "tiny" / "run" / "checkpoints").glob("*[0-9]"))


# Data


def destroy(shards: Path, position: int, split: str = "train") -> tuple[Path, str]:
    """Zero the picture of a sample; its tar and its key."""
    reader = SplitReader(shards, split)
    tar, key = shards / reader.shards[position // 8].name, reader.key(position)
    index = load_index(tar)
    span = index.span("jpg", index.keys.index(key))
    assert span
    with open(tar, "r+b") as stream:
        stream.seek(span[0])
        stream.write(bytes(span[1]))
    return tar, key


def test_a_damaged_sample_is_named_by_its_rank_and_both_save_and_end(
    shards: Path, tiny_shards: Path, whole_of_two: Result, tmp_path: Path
) -> None:
    experiment = small(shards, tmp_path)
    tar, key = destroy(shards, 17)
    with trainings(experiment, tmp_path, processes=2) as ranks:
        printed = [failed(rank) for rank in ranks]
    assert sorted(text.startswith("stopped: another process met an error, which it names") for text in printed) == [
        False, True
    ]  # fmt: skip
    assert any(f"{tar}: {key}: the image not an image that can be read" in text for text in printed)
    shutil.copy(tiny_shards / tar.name, tar)
    assert go_on(experiment, tmp_path, processes=2) == whole_of_two


def test_what_a_validation_cannot_read_ends_the_training_before_its_first_step(shards: Path, tmp_path: Path) -> None:
    tar, key = destroy(shards, 11, "val")
    experiment = small(shards, tmp_path)
    with trainings(experiment, tmp_path) as (rank,):
        assert f"{tar}: {key}: the image not an image that can be read" in failed(rank)
    assert not (experiment.train.runs / "tiny").exists()


@pytest.mark.parametrize("what", ["unwrapped", "_state"])
def test_what_the_end_of_an_epoch_needs_is_tried_before_the_first_step(shards: Path, tmp_path: Path, what: str) -> None:
    """As a package that cannot be imported there, or weights that cannot be put together."""
    experiment = small(shards, tmp_path)
    with trainings(experiment, tmp_path, prepare=partial(without, what)) as (rank,):
        assert rank.end() == 1
        assert "ModuleNotFoundError: No module named 'needed'" in rank.printed
    assert not (experiment.train.runs / "tiny").exists()


def without(what: str) -> None:
    """In a training's process: let something fail as a package that is missing does."""

    def fail(*arguments: Any, **options: Any) -> None:
        raise ModuleNotFoundError("No module named 'needed'")

    setattr(trainer if what == "unwrapped" else Trainer, what, fail)


def test_a_shard_that_is_cut_in_mid_run_is_named(shards: Path, tiny_shards: Path, whole: Path, tmp_path: Path) -> None:
    experiment = small(shards, tmp_path)
    tar = shards / SplitReader(shards, "train").shards[2].name
    training = train(experiment, tmp_path, prepare=partial(before_step, 2, partial(os.truncate, tar, 1024)))
    assert failed(training).startswith(f"{tar}: ")
    assert "the shard ends within this sample (byte" in training.printed
    assert "run `xmr shards verify`" in training.printed
    shutil.copy(tiny_shards / tar.name, tar)
    assert go_on(experiment, tmp_path) == result(whole)


def test_a_shard_that_vanishes_in_mid_run_is_named(
    shards: Path, tiny_shards: Path, whole: Path, tmp_path: Path
) -> None:
    """Loader processes open the tars again in each epoch."""
    experiment = small(shards, tmp_path, workers=1)
    tar = shards / SplitReader(shards, "train").shards[2].name
    training = train(experiment, tmp_path, prepare=partial(before_step, 5, tar.unlink))
    assert failed(training).startswith(f"{tar}: ")
    assert "the shard cannot be read: No such file or directory" in training.printed
    shutil.copy(tiny_shards / tar.name, tar)
    assert go_on(experiment, tmp_path) == result(whole)


def test_a_killed_loader_process_is_told(tiny_shards: Path, whole: Path, tmp_path: Path) -> None:
    experiment = small(tiny_shards, tmp_path, workers=1)
    printed = failed(train(experiment, tmp_path, prepare=partial(before_step, 4, kill_loader)))
    assert "A loader process has died" in printed
    assert "try fewer --data.workers" in printed
    assert go_on(experiment, tmp_path) == result(whole)


def kill_loader() -> None:
    (server,) = psutil.Process().children()
    (worker,) = server.children()
    worker.kill()


def test_a_killed_training_leaves_no_loader_process(tiny_shards: Path, tmp_path: Path) -> None:
    left = tmp_path / "processes"
    training = train(
        small(tiny_shards, tmp_path, workers=2), tmp_path, prepare=partial(before_step, 3, partial(die, left))
    )
    assert training.end() == -signal.SIGKILL
    processes = [int(number) for number in left.read_text().split()]
    assert len(processes) == 3  # the fork server and two workers
    deadline = time.monotonic() + PATIENCE
    while any(map(psutil.pid_exists, processes)):
        assert time.monotonic() < deadline, "loader processes live on"
        time.sleep(0.05)


def die(left: Path) -> None:
    left.write_text(" ".join(str(child.pid) for child in psutil.Process().children(recursive=True)))
    os.kill(os.getpid(), signal.SIGKILL)


# Values that are not finite


def with_objective(step: int, change: Callable[[Any, dict[str, Any]], dict[str, Any]]) -> None:
    """In a training's process: change the loss terms of one step of the first epoch."""
    objective = DscmrModel.objective

    def changed(self: DscmrModel, representations: Any, labels: Any, context: Any) -> Any:
        terms = objective(self, representations, labels, context)
        is_it = self.training and round(context.progress * 10) + 1 == step
        return change(representations, terms) if is_it else terms

    setattr(DscmrModel, "objective", changed)  # noqa: B010


def without_term(representations: Any, terms: dict[str, Any]) -> dict[str, Any]:
    return terms | {"common": terms["common"] * float("nan")}


def without_gradient(representations: Any, terms: dict[str, Any]) -> dict[str, Any]:
    """The same value, whose gradient is that of the root of 0."""
    return terms | {"total": terms["total"] + (representations["text"] * 0).sum().sqrt()}


def same_state(one: Path, other: Path) -> bool:
    """Whether two checkpoints hold the same parameters and the same optimiser."""
    weights = [load_file(folder / "weights.safetensors") for folder in (one, other)]
    states = [torch.load(folder / "optimizer.bin", weights_only=True)["state"] for folder in (one, other)]
    return (
        weights[0].keys() == weights[1].keys()
        and all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
        and states[0].keys() == states[1].keys()
        and all(torch.equal(value, states[1][k][name]) for k, row in states[0].items() for name, value in row.items())
    )


@pytest.mark.parametrize(
    ("change", "what"),
    [(without_term, "the loss term 'common'"), (without_gradient, "the gradient of towers.text.")],
)
def test_nan_ends_the_training_before_it_reaches_the_parameters(
    change: Any, what: str, tiny_shards: Path, whole: Path, tmp_path: Path
) -> None:
    experiment = small(tiny_shards, tmp_path)
    printed = failed(train(experiment, tmp_path, prepare=partial(with_objective, 4, change)))
    place, _, rest = printed.partition(": NaN or infinite values in ")
    assert rest.startswith(what) and "--train.max-skipped-steps" in rest
    epoch, step, keys = place.split(", ", 2)
    assert (epoch, step) == ("epoch 1/2", "step 4")
    keys = keys.removeprefix("samples ").replace(",", "")
    expected = result(whole)
    assert hashlib.sha256(keys.encode()).hexdigest()[:16] == expected[0][3]["samples"]
    name = "stage-00-epoch-0000-step-000003"
    assert checkpoints(tmp_path)[-1] == name
    assert same_state(tmp_path / "tiny" / "run" / "checkpoints" / name, whole / "checkpoints" / name)
    assert go_on(experiment, tmp_path) == expected


def test_a_step_with_nan_is_left_out_and_counted_if_that_is_allowed(
    tiny_shards: Path, whole: Path, tmp_path: Path
) -> None:
    experiment = small(tiny_shards, tmp_path, max_skipped_steps=1)
    training = train(experiment, tmp_path, prepare=partial(with_objective, 4, without_term))
    assert training.end() == 0, training.printed
    assert "left out, NaN or infinite values in the loss term 'common'" in training.printed
    records, expected = result(tmp_path / "tiny" / "run")[0], result(whole)[0]
    assert records[:3] == expected[:3]
    assert {name: records[3][name] for name in ("step", "skipped")} == {"step": 4, "skipped": "the loss term 'common'"}
    assert hashlib.sha256(" ".join(records[3]["keys"]).encode()).hexdigest()[:16] == expected[3]["samples"]
    assert [(r["step"], r.get("samples")) for r in records[4:]] == [(r["step"], r.get("samples")) for r in expected[4:]]
    assert records[4]["loss"] != expected[4]["loss"]


def test_one_step_more_than_allowed_ends_it(tiny_shards: Path, tmp_path: Path) -> None:
    """Also where the first one was left out before an interruption."""
    experiment = small(tiny_shards, tmp_path, max_skipped_steps=1)
    with trainings(experiment, tmp_path, prepare=skip_and_stop) as (first,):
        assert first.end() == 75, first.printed
    second = train(experiment, tmp_path, prepare=partial(with_objective, 8, without_term))
    assert failed(second).startswith("epoch 2/2, step 3, samples ")
    assert go_on(experiment, tmp_path)[0][-1]["step"] == 10


def skip_and_stop() -> None:
    with_objective(4, without_term)
    before_step(6, partial(signal.raise_signal, signal.SIGUSR1))


# Processes


@pytest.mark.parametrize("victim", [0, 1])
def test_the_other_rank_says_who_was_killed(
    victim: int, tiny_shards: Path, whole_of_two: Result, tmp_path: Path
) -> None:
    experiment = small(tiny_shards, tmp_path)
    kill = partial(before_step, 4, partial(signal.raise_signal, signal.SIGKILL), rank=victim)
    with trainings(experiment, tmp_path, prepare=kill, processes=2) as ranks:
        assert ranks[victim].end() == -signal.SIGKILL
        printed = failed(ranks[1 - victim])
    assert printed.startswith("the connection to another process was lost: ")
    who = f"rank {victim} (process {ranks[victim].pid} on {socket.gethostname()})"
    assert f"{who} has died (killed? out of memory?); last seen " in printed
    assert go_on(experiment, tmp_path, processes=2) == whole_of_two


def test_the_other_rank_says_who_ended_with_an_error(tiny_shards: Path, tmp_path: Path) -> None:
    """One that no part of ours foresees, as a GPU whose memory is full: it gets its traceback."""
    prepare = partial(before_step, 4, run_out_of_memory, rank=1)
    with trainings(small(tiny_shards, tmp_path), tmp_path, prepare=prepare, processes=2) as ranks:
        printed = failed(ranks[0])
        assert ranks[1].end() == 1
    who = f"rank 1 (process {ranks[1].pid} on {socket.gethostname()})"
    assert (
        printed.strip() == f"the connection to another process was lost: {who} has ended with an error: out of memory"
    )
    assert "MemoryError: out of memory" in ranks[1].printed


def run_out_of_memory() -> None:
    raise MemoryError("out of memory")


def test_the_other_rank_says_who_was_stopped(tiny_shards: Path, whole_of_two: Result, tmp_path: Path) -> None:
    experiment = small(tiny_shards, tmp_path, timeout_minutes=0.1)
    stop = partial(before_step, 4, partial(signal.raise_signal, signal.SIGSTOP), rank=1)
    with trainings(experiment, tmp_path, prepare=stop, processes=2) as ranks:
        printed = failed(ranks[0])
        assert not ranks[1].is_over
    stopped = f"rank 1 (process {ranks[1].pid} on {socket.gethostname()}) gives no sign of life (stopped?); last seen "
    assert printed.startswith(f"nothing has happened for 6 s (--train.timeout-minutes): {stopped}")
    assert go_on(experiment, tmp_path, processes=2) == whole_of_two


def test_a_rank_that_hangs_in_reading_a_batch_is_named_with_it(
    tiny_shards: Path, whole_of_two: Result, tmp_path: Path
) -> None:
    experiment = small(tiny_shards, tmp_path, timeout_minutes=0.1)
    with trainings(experiment, tmp_path, prepare=hang_in_reading, processes=2) as ranks:
        printed = [failed(rank) for rank in ranks]
    hung = f"rank 1 (process {ranks[1].pid} on {socket.gethostname()}) has been reading the batch of step 4 for "
    assert all(hung in text for text in printed)
    assert any(text.startswith(f"nothing has happened for 6 s (--train.timeout-minutes): {hung}") for text in printed)
    assert go_on(experiment, tmp_path, processes=2) == whole_of_two


def hang_in_reading() -> None:
    load, calls = BatchDataset._load, []

    def hanging(self: BatchDataset, request: Any) -> Any:
        calls.extend([request] * (self.reader.split == "train"))
        if len(calls) == 4 and os.environ["RANK"] == "1":
            time.sleep(3600)
        return load(self, request)

    setattr(BatchDataset, "_load", hanging)  # noqa: B010


# The disk


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own of this size."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m"]
    mounted = subprocess.run(["mount", *options, "none", str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk_is_told_and_the_last_checkpoint_is_whole(
    processes: int, tiny_shards: Path, whole: Path, whole_of_two: Result, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        experiment = small(tiny_shards, disk)
        filling = partial(before_step, 3, partial(fill, disk))
        with trainings(experiment, tmp_path, prepare=filling, processes=processes) as ranks:
            printed = [failed(rank) for rank in ranks]
        run = disk / "tiny" / "run"
        fault = f"{run / 'checkpoints' / 'stage-00-epoch-0000-step-000004'}: the checkpoint cannot be written: "
        assert printed[0].startswith(fault) and "No space left on device" in printed[0]
        assert f"--train.resume {run} from stage-00-epoch-0000-step-000002" in printed[0]
        # The other one has a file of its own to write, in which it may also fail.
        assert all(text.startswith((fault, "the connection to another process was lost: ")) for text in printed[1:])
        assert checkpoints(disk)[-1] == "stage-00-epoch-0000-step-000002"
        (disk / "filler").unlink()
        expected = result(whole) if processes == 1 else whole_of_two
        assert go_on(experiment, tmp_path, processes=processes) == expected


def fill(disk: Path) -> None:
    """Leave no room on it."""
    with open(disk / "filler", "wb", buffering=0) as stream:
        try:
            while stream.write(bytes(4096)):
                pass
        except OSError:
            return


# Signals


def test_a_signal_during_a_validation_leads_to_a_checkpoint(tiny_shards: Path, whole: Path, tmp_path: Path) -> None:
    experiment = small(tiny_shards, tmp_path)
    with trainings(experiment, tmp_path, prepare=terminate_in_validation) as (training,):
        assert training.end() == 75, training.printed
    assert "SIGTERM: the training stops after this step and saves a checkpoint" in training.printed
    assert checkpoints(tmp_path)[-1] == "stage-00-epoch-0001-step-000000"
    assert go_on(experiment, tmp_path) == result(whole)


def test_a_signal_ends_the_wait_for_a_batch_that_never_comes(tiny_shards: Path, whole: Path, tmp_path: Path) -> None:
    experiment = small(tiny_shards, tmp_path)
    hanging = tmp_path / "hanging"
    with trainings(experiment, tmp_path, prepare=partial(hang_for_ever, hanging)) as (training,):
        training.wait_for(hanging.exists)
        training.send(signal.SIGTERM)
        assert training.end() == 75, training.printed
    assert "SIGTERM: the training stops" in training.printed
    assert checkpoints(tmp_path)[-1] == "stage-00-epoch-0000-step-000003"
    assert go_on(experiment, tmp_path) == result(whole)


def hang_for_ever(hanging: Path) -> None:
    load, calls = BatchDataset._load, []

    def waiting(self: BatchDataset, request: Any) -> Any:
        calls.extend([request] * (self.reader.split == "train"))
        if len(calls) == 4:
            hanging.touch()
            time.sleep(3600)
        return load(self, request)

    setattr(BatchDataset, "_load", waiting)  # noqa: B010


def terminate_in_validation() -> None:
    read = BatchDataset._load

    def terminated(self: BatchDataset, request: Any) -> Any:
        if self.reader.split == "val" and len(request.positions) > 2:  # not where two samples are tried beforehand
            signal.raise_signal(signal.SIGTERM)
        return read(self, request)

    setattr(BatchDataset, "_load", terminated)  # noqa: B010
