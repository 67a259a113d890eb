"""`xmr doctor`: what it says of machines and recipes that are whole, and of what is wrong with them."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.helpers.launched import RECIPE, SMALL
from tests.helpers.typed import typed, typed_ranks
from xmr_e2e.cli import main
from xmr_e2e.data import unknown, workers
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.doctor import group, machine, memory, ranks, speed
from xmr_e2e.doctor.dry_run import ActivationMemory, DryRun, StageRun, dry_run
from xmr_e2e.doctor.finding import Finding, in_words, problem
from xmr_e2e.doctor.group import ProcessInfo
from xmr_e2e.doctor.memory import Processes
from xmr_e2e.doctor.method import build, quick_words
from xmr_e2e.doctor.recipe import check_recipe, load_experiment
from xmr_e2e.doctor.shards import check_word_file
from xmr_e2e.doctor.weights import check_weights
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.dcca import Dcca
from xmr_e2e.methods.sdml import Sdml
from xmr_e2e.methods.stages import Stage
from xmr_e2e.models.model_folder import RUN_DESCRIPTION
from xmr_e2e.runs.experiment import Experiment, Optimizer
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.shards.manifest import load_manifest
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import BiLstmCnn
from xmr_e2e.training.preflight import check_start

DOCTOR = ["-m", "xmr_e2e.cli", "doctor"]


def start(
    arguments: Sequence[str], *, before: Sequence[str] = (), cwd: Path | None = None, path: str = ""
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **({"PYTHONPATH": path} if path else {})}
    command = [*before, sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment of decoding in place of a second."""
    monkeypatch.setattr(speed, "SECONDS", 0.01)


def words(printed: str) -> str:
    """Without the line breaks and columns of a table."""
    return " ".join(printed.split())


def experiment(shards: Path, *options: str) -> Experiment:
    return load_experiment(RECIPE, ["--data.shards", str(shards), *SMALL, *options])


def look(shards: Path, *options: str, processes: int = 1) -> list[Finding]:
    return list(check_recipe(experiment(shards, *options), Processes(processes, processes)))


def only_problem(findings: Sequence[Finding]) -> str:
    (found,) = (finding for finding in findings if finding.level == "problem")
    return f"{found.about}: {found.text}"


# ---- the command


@pytest.mark.slow
def test_a_whole_recipe_on_a_whole_machine(tiny_shards: Path, tmp_path: Path) -> None:
    options = ["--data.shards", str(tiny_shards), "--train.runs", str(tmp_path / "runs"), *SMALL]
    result = typed([*DOCTOR, str(RECIPE), *options, "--train.epochs", "3"])
    said = words(result.stdout)
    assert result.returncode == 0, said + result.stderr
    assert said.endswith("no problems found")
    for line in (
        "ok libraries installed; their versions, and the GPUs' driver: python -m torch.utils.collect_env",
        "ok torchvision its operators work",
        "ok shards tiny: train 40 samples, val 12 samples, test 12 samples; 4 classes, one label per sample",
        "the first and the last of train, val, test can be read and decoded",
        "ok steps 40 samples, 10 steps per epoch of 4, 30 steps in 3 epochs, 1 process",
        "two samples give towers.image 2 x 512, towers.text 2 x 16, and embeddings of 4 numbers",
        "ok all-reduce 2 processes over gloo add up what they should",
    ):
        assert line in said
    assert not (tmp_path / "runs").exists()  # a look leaves nothing behind


@pytest.mark.slow
def test_a_recipe_without_shards_on_one_core(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    result = start([*DOCTOR, str(RECIPE)], before=["taskset", "-c", str(core)], cwd=tmp_path)
    said = words(result.stdout)
    assert result.returncode == 1, result.stderr
    assert "problem shards data/shards/flickr8k/manifest.json does not exist: build the shards first" in said
    assert "ok torchvision" in said and "all-reduce" in said
    if (os.cpu_count() or 1) > 1:
        assert f"problem cores this process may use 1 of the machine's {os.cpu_count()} cores" in said
        assert said.endswith("2 problems")


@pytest.mark.slow
def test_two_ranks_meet_and_the_first_one_speaks_for_them(tiny_shards: Path) -> None:
    options = ["--data.shards", str(tiny_shards), *SMALL, "--train.batch-size", "3"]
    results = typed_ranks([*DOCTOR, str(RECIPE), *options], 2)
    said = words("".join(result.stdout for result in results))
    assert [result.returncode for result in results] == [0, 0], said + results[0].stderr
    assert said.count("machine ok libraries") == said.count("no problems found") == 1
    assert f"ok processes {socket.gethostname()}: rank 0, 1 on " in said
    assert "2 processes over" in said and "add up what they should" in said
    assert "40 samples, 14 steps per epoch of 3" in said and "2 processes ok dry run" in said


@pytest.mark.slow
def test_a_torchvision_of_another_build_is_named_and_the_recipe_left(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    complaint = "raise RuntimeError('operator torchvision::nms does not exist')\n"
    (tmp_path / "torchvision" / "__init__.py").write_text(complaint)
    result = start([*DOCTOR, str(RECIPE)], path=str(tmp_path))
    said = words(result.stdout)
    assert result.returncode == 1, result.stderr
    assert "its operators do not work (operator torchvision::nms does not exist): torch and torchvision are not" in said
    assert "problem recipe not looked at" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([str(RECIPE), "--train.eposch", "3"], "--train.epochs"),
        ([str(RECIPE), "--train.batch-size", "1"], "--train.batch-size must be at least 2, not 1"),
        (["nowhere.py"], "nowhere.py is no recipe: name a Python file"),
        ([str(RECIPE.parent / "__init__.py")], "it has no function `experiment`"),
        (["--train.epochs", "3"], "Unrecognized options: --train.epochs"),
    ],
)
def test_a_wrong_option_is_refused_at_once(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["doctor", *arguments])
    except SystemExit as leaving:
        status = leaving.code  # type: ignore[assignment]
    printed = capsys.readouterr()
    assert status == 2
    assert message in words(printed.out + printed.err)
    assert "machine" not in printed.out


@pytest.mark.parametrize(("arguments", "line"), [([], "dry-run a recipe on it"), ([str(RECIPE)], "--data.shards")])
def test_help_is_the_commands_own_or_the_recipes(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["doctor", *arguments, "--help"])
    assert not leaving.value.code
    assert line in words(capsys.readouterr().out)


# ---- the recipe


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--data.shards nowhere", "shards: nowhere/manifest.json does not exist: build the shards first"),
        ("--method.image.name alexnet", "method: alexnet cannot take images of 48 pixels"),
        ("--method.image.weights lost.pth", "weights: --method.image.weights lost.pth: there is no such file"),
        ("--train.select mAP@10", "options: --train.select 'mAP@10' is none of mAP@all"),
        ("--data.words.min-count 1000", "texts: no word occurs 1000 times"),
        pytest.param(
            "--train.precision fp16",
            "dry run: --train.precision fp16: these networks cannot have it on a CPU",
            marks=pytest.mark.skipif(
                torch.ops.mkldnn._is_mkldnn_fp16_supported(), reason="this CPU computes recurrent layers in fp16"
            ),
        ),
        ("--data.words.file lost.bin", "words: --data.words.file: lost.bin does not exist"),
    ],
)
def test_what_cannot_be_trained_is_said(tiny_shards: Path, options: str, message: str) -> None:
    assert message in only_problem(look(tiny_shards, *options.split(" ")))


@pytest.mark.parametrize(
    ("vectors", "level", "message"),
    [
        ("a 1 2\nof 1 3\nnumber 2 2\npicture 1 1\n", "note", "has vectors of 4 of the "),
        ("chien 1 2\nchat 1 3\n", "problem", "begins with 'chien', 'chat', and the texts' most frequent words are '"),
        ("picture nan 1\n", "problem", "line 1, 'picture': the vector holds NaN"),
    ],
)
def test_vectors_that_do_not_fit_the_texts(
    tiny_shards: Path, tmp_path: Path, vectors: str, level: str, message: str
) -> None:
    (tmp_path / "v.txt").write_text(vectors)
    findings = look(tiny_shards, "--data.words.file", str(tmp_path / "v.txt"), "--data.words.dim", "2")
    assert [finding.level for finding in findings if finding.about == "words" and message in finding.text] == [level]


def test_unknown_words_are_counted_split_by_split(tiny_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unknown, "MANY", 0.2)
    said = [finding for finding in look(tiny_shards, "--data.words.min-count", "30") if finding.about == "texts"]
    assert [finding.level for finding in said] == ["note"]
    assert said[0].text.startswith("unknown words (<unk>): train ") and "sentencepiece" in said[0].text


@pytest.mark.parametrize(("split", "first"), [("train", 5), ("val", 2), ("test", 11)])
def test_samples_without_labels_are_counted_and_the_first_one_is_named(
    split: str, first: int, tiny_samples: tuple[RawSample, ...], tmp_path: Path
) -> None:
    own = [sample for sample in tiny_samples if sample.split == split]
    without = {own[first], own[-1]}
    samples = [replace(sample, labels=()) if sample in without else sample for sample in tiny_samples]
    classes = sorted({label for sample in samples for label in sample.labels})
    options = BuildOptions(shard_samples=8, workers=1)
    build_shards(tmp_path / "shards", dataset="tiny", classes=classes, samples=samples, options=options)
    reader = SplitReader(tmp_path / "shards", split)
    expected = [reader.key(n) for n in range(len(reader)) if not reader.labels(n)]
    count = "1 of" if len(without) == 1 else "2 of"
    said = f"{count} {len(reader)} samples of the split {split!r} have no label (the first: {expected[0]})"
    assert said in only_problem(look(tmp_path / "shards"))
    chosen = experiment(tmp_path / "shards")
    with pytest.raises(XmrError, match=re.escape(said)):
        check_start(chosen, 1)
    unlabelled_may_train = replace(chosen, method=Dcca(image=chosen.method.image, text=chosen.method.text, dim=4))
    if split == "train":
        check_start(unlabelled_may_train, 1)
    else:
        with pytest.raises(XmrError, match="have no label"):
            check_start(unlabelled_may_train, 1)


def test_pieces_of_one_sample_and_batch_normalisation(tiny_shards: Path, tmp_path: Path) -> None:
    options = ["--method.image.name", "resnet18", "--data.image-size", "32", "--train.batch-size", "12"]
    assert "leave micro-batches of one sample" in only_problem(
        look(tiny_shards, *options, "--train.micro-batches", "100")
    )
    check_start(experiment(tiny_shards, *options, "--train.micro-batches", "5"), 1)
    with pytest.raises(
        XmrError, match=r"--train\.micro-batches 5 and 2 process\(es\) leave micro-batches of one sample"
    ):
        check_start(experiment(tiny_shards, *options, "--train.micro-batches", "5"), 2)
    check_start(experiment(tiny_shards, "--train.micro-batches", "100"), 1)  # a network without batch normalisation


def test_batches_that_do_not_fit_into_shared_memory(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr("xmr_e2e.data.workers.shutil.disk_usage", lambda _: usage)
    large = experiment(tiny_shards, "--data.load-size", "100", "--data.workers", "7", "--train.batch-size", "20")
    with pytest.raises(XmrError) as error:
        check_start(large, 2)
    for said in (
        "/dev/shm has 1 MB free",
        "7 loader process(es) for each of 2",
        "--shm-size 1g",
        "--data.workers to 0",
    ):
        assert said in str(error.value)
    check_start(experiment(tiny_shards, "--data.workers", "0"), 2)
    check_start(experiment(tiny_shards, "--data.workers", "1"), 1)  # 12 samples of 48 pixels


def test_no_semaphores_without_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(workers._processes, "Lock", refuse)
    assert machine.check_shared_memory(workers.SHARED_MEMORY).level == "problem"
    with pytest.raises(XmrError, match=r"/dev/shm cannot be used \(Read-only file system\).*--data\.workers 0"):
        workers.check_shared_memory(1, 1)


def test_missing_and_cut_shards_are_named(tiny_shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(tiny_shards, folder)
    (folder / "train-00001.tar").unlink()
    tar = folder / "val-00000.tar"
    tar.write_bytes(tar.read_bytes()[:-512])
    said = only_problem(look(folder))
    assert f"shards: {folder}: train-00001.tar is missing, val-00000.tar has {tar.stat().st_size:,} bytes" in said
    assert said.endswith("copy or build these shards again")


def test_a_damaged_picture_is_named_by_shard_and_key(tiny_shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(tiny_shards, folder)
    tar = folder / "test-00000.tar"
    content = bytearray(tar.read_bytes())
    picture = content.index(b"\xff\xd8\xff")
    content[picture : picture + 64] = bytes(64)
    tar.write_bytes(content)
    assert f"samples: {tar}: " in only_problem(look(folder))


def test_batches_too_small_for_the_processes(tiny_shards: Path) -> None:
    said = only_problem(look(tiny_shards, processes=6))
    assert "batches of 4 samples leave 2 of the processes nothing to do" in said


def test_folders_that_are_mixed_in_are_looked_at_too(tiny_shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(tiny_shards, folder)
    option = f"--data.extra-shards {folder} 0.5"
    said = {finding.about: finding.text for finding in look(tiny_shards, *option.split(" "))}
    assert "80 samples, 15 steps per epoch of 4" in said["steps"]  # 40 + 20 visits
    (folder / "train-00000.tar").unlink()
    assert f"{folder}: train-00000.tar is missing" in only_problem(look(tiny_shards, *option.split(" ")))


def test_batches_that_cannot_be_drawn(tiny_shards: Path) -> None:
    assert "no multiple of --train.batch-classes 3" in only_problem(look(tiny_shards, "--train.batch-classes", "3"))


def test_stages_are_run_one_by_one(tiny_shards: Path) -> None:
    options = (
        f"--data.shards {tiny_shards} --data.words.dim 8 --data.image-size 48 --data.load-size 48 "
        "--method.image.name squeezenet1_1 --method.image.weights none --method.hidden 16 --method.dim 8"
    )
    trained = load_experiment(RECIPE.parent / "drcl_wikipedia.py", options.split(" "))
    said = {finding.about: finding.text for finding in check_recipe(trained, Processes(1, 1))}
    assert "stage 'consistency-text': 40 samples" in said["steps"]
    assert all(name in said["dry run"] for name in ("prior-image", "prior-text", "consistency-image"))
    # The stage of the images takes most: its weights, and squeezenet's activations.
    assert "most of all in the stage '" in said["memory"] and "-image'" in said["memory"]


def test_frozen_towers_and_a_fit_in_closed_form(tiny_shards: Path) -> None:
    options = (
        f"--data.shards {tiny_shards} --data.words.dim 8 --data.image-size 48 --data.load-size 48 "
        "--method.dim 4 --method.frozen"
    )
    trained = load_experiment(RECIPE.parent / "cca_flickr8k.py", options.split(" "))
    said = {finding.about: finding for finding in check_recipe(trained, Processes(2, 2))}
    assert "problem" not in {finding.level for finding in said.values()}
    assert said["towers.image"].text.endswith("million parameters frozen")
    assert "fitted in closed form" in said["steps"].text
    # 256 numbers of a picture and 300 of a text, for the 52 samples of train and val, in each of two processes.
    assert f"take {in_words(4 * 556 * 52 * 2)} in 2 processes" in said["frozen"].text


def test_pretrained_weights_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    method = Sdml(image=ImageTower("alexnet"), text=BiLstmCnn())
    (missing,) = check_weights(method)
    assert missing.level == "note" and "233.1 MB from https://" in missing.text
    path = Path(missing.text.split(" ")[-1])
    assert path.is_relative_to(tmp_path)
    path.parent.mkdir(parents=True)
    path.touch()
    (found,) = check_weights(method)
    assert found == Finding("weights", f"alexnet's from ImageNet, at hand: {path}")
    (none,) = check_weights(replace(method, image=ImageTower("resnet10_slim")))
    assert none.level == "problem" and "there are none for resnet10_slim" in none.text


@pytest.mark.parametrize("field", ["weights", "prior_weights"])
def test_the_run_that_a_method_or_its_prior_begins_with_is_looked_for(field: str, tmp_path: Path) -> None:
    option = f"--method.{field.replace('_', '-')}"
    method = Sdml(image=ImageTower("resnet10_slim", weights="none"), text=BiLstmCnn(), **{field: str(tmp_path / "run")})
    (missing,) = check_weights(method)
    assert missing.level == "problem" and f"{option} {tmp_path}/run: there is no such run or model" in missing.text
    (tmp_path / "run").mkdir()
    (empty,) = check_weights(method)
    assert empty.level == "problem" and empty.text.startswith(f"{option} {tmp_path}/run: ")
    (tmp_path / "run" / RUN_DESCRIPTION).touch()
    (found,) = check_weights(method)
    assert found == Finding("weights", f"{tmp_path}/run, a model for {option}")


def test_word_vectors_of_another_width(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("2 3\nsea 1 2 3\nsun 1 2 3\n")
    (wrong,) = check_word_file(WordVectors(dim=100, file=path))
    assert wrong == problem("words", f"{path} holds 3-d vectors: set --data.words.dim 3")
    (right,) = check_word_file(WordVectors(dim=3, file=path))
    assert right.level == "ok" and "2 vectors of 3 numbers" in right.text


# ---- sizes


def stage_run(*, moving: int, raw: int, prepared: int = 0) -> StageRun:
    stage = Stage("training", ("image", "text"))
    return StageRun(
        stage, moving, ActivationMemory(), ActivationMemory(), raw, prepared, without_gradient=(), total=1.0
    )


def test_weights_gradients_and_optimiser_state_by_hand(tiny_shards: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
    moving = 4 * (3 * 5 + 5 + 5 + 5)
    assert memory.weight_bytes(model) == moving + 4 * (5 + 5) + 8  # type: ignore[arg-type]
    chosen = experiment(tiny_shards)
    run = replace(
        stage_run(moving=moving, raw=600, prepared=2400),
        towers=ActivationMemory(1000, 10),
        objective=ActivationMemory(40, 0),
    )
    expected = memory.Need("training", 168, 120, 240, 10 * 505 + 20 * 20, 10 * 1500)
    assert memory.need(chosen, 168, run, 20, 2) == expected
    # fp16 halves what is kept of floating numbers, and keeps half as large a copy of the weights.
    half = replace(chosen, train=replace(chosen.train, precision="fp16", micro_batches=5))
    assert memory.need(half, 168, run, 20, 2).activations == 2 * 255 + 20 * 20 + 60
    zero = replace(chosen, train=replace(chosen.train, zero=2))
    shared = memory.need(zero, 168, run, 20, 2)
    assert (shared.weights, shared.gradients, shared.optimizer) == (168, 60, 120)
    assert [memory.optimizer_copies(Optimizer("sgd", momentum=m)) for m in (0.9, 0.0)] == [1, 0]


def test_activations_are_counted_once_and_without_what_is_known() -> None:
    layer, inputs = nn.Linear(8, 16), torch.rand(4, 8)
    saved = ActivationMemory()
    with saved.count(layer, {"image": inputs}):
        rows = torch.sigmoid(layer(inputs))  # keeps its result
        (rows * rows).max(dim=1)  # keeps the same twice, and where the maxima are
    assert saved.floating == 4 * 4 * 16
    assert saved.other == 8 * 4


def test_activations_grow_with_the_pictures(tiny_shards: Path) -> None:
    def activations(size: int) -> int:
        chosen = experiment(tiny_shards, "--data.image-size", str(size), "--data.load-size", "128")
        found = quick_words(chosen)
        method = build(chosen, load_manifest(tiny_shards), found)
        return dry_run(chosen, method, found.tokenizer).stages[0].towers.floating

    small, large = activations(48), activations(96)
    assert 3.5 * small < large < 6 * small


def test_what_does_not_fit_is_a_problem(tiny_shards: Path) -> None:
    chosen, processes = experiment(tiny_shards), Processes(1, 1)
    huge = stage_run(moving=10**15, raw=10**15)
    run = DryRun(nn.Identity(), {}, 4, 10**15, (huge,))  # type: ignore[arg-type]
    findings = [
        *memory.check_memory([memory.need(chosen, 10**15, huge, 4, 1)], processes),
        *memory.check_cached_features(run, 52, processes),
        memory.check_loader(run, 4, 1, processes),
        memory.check_checkpoints(chosen, 10**15, run),
    ]
    assert [finding.level for finding in findings] == ["problem"] * 4
    assert "--train.zero" in findings[0].text and "--train.runs" in findings[3].text


# ---- the machine


def test_cores_that_srun_withholds() -> None:
    assert machine.check_cores(64, 64) == Finding("cores", "64")
    assert machine.check_cores(8, 64) == Finding("cores", "8 of the machine's 64")
    assert machine.check_cores(1, 1).level == "ok"
    assert "--cpus-per-task" in machine.check_cores(1, 64).text


def test_cores_that_a_quota_withholds() -> None:
    assert machine.check_cores(8, 64, 8.0) == Finding("cores", "8 of the machine's 64")
    found = machine.check_cores(64, 64, 2.5)
    assert (found.level, found.text[:94]) == (
        "ok",
        "a quota of this container or job allows the time of 2.5 of the machine's 64 cores; threads and",
    )
    assert machine.check_cores(64, 64, 0.5).level == "problem"


@pytest.mark.parametrize(
    ("membership", "root", "files"),
    [
        ("0::/job/step\n", "", ("memory.max", "memory.current", "inactive_file")),
        (
            "4:cpu,memory:/job/step\n0::/\n",
            "memory",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ),
    ],
)
def test_control_groups_limit_the_memory(membership: str, root: str, files: tuple[str, ...], tmp_path: Path) -> None:
    for name, limit in (("job/step", "max" if not root else str(2**62)), ("job", "3000")):
        folder = tmp_path / root / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / files[0]).write_text(f"{limit}\n")
        (folder / files[1]).write_text("2000\n")
        (folder / "memory.stat").write_text(f"file 1\n{files[2]} 500\n")
    (tmp_path / "self").write_text(membership)
    assert min(machine.memory_limits(tmp_path, tmp_path / "self")) == (3000, 1500)


def test_no_room_and_no_right_to_write(tmp_path: Path) -> None:
    assert machine.existing(tmp_path / "runs" / "here") == tmp_path
    assert machine.check_shared_memory(tmp_path / "none").level == "ok"
    assert machine.check_disk("run folder", Path("/proc/runs")).level == "problem"


def test_a_gpu_that_torch_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho GPU 0: A\necho GPU 1: B\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (found,) = machine.check_gpus()
    assert found == problem("GPU", "nvidia-smi shows 2, and torch sees none: CUDA_VISIBLE_DEVICES is ''")


# ---- processes


@pytest.mark.slow
def test_a_group_that_cannot_talk_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nowhere0")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "nowhere0")
    found = group.check_local_group()
    assert found.level == "problem" and "_SOCKET_IFNAME" in found.text


@pytest.mark.slow
def test_a_rank_that_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    monkeypatch.setattr(ranks, "PATIENCE", 0.5)
    (unreached,) = ranks.meet(ProcessInfo(1, 1, 3), [])
    assert unreached.level == "problem" and f"does not reach the others at 127.0.0.1:{port}" in unreached.text
    here, *others = ranks.meet(ProcessInfo(0, 0, 3), [])
    assert "rank 0 on " in here.text
    assert "of 3 processes, rank 1, 2 did not come" in only_problem(others)


def test_hosts_that_differ() -> None:
    first = ranks.Member(0, "one", "H100", 8, {"torch": "2.11", "numpy": "2"}, [problem("disk", "full")])
    second = ranks.Member(1, "two", "", 1, {"torch": "2.15", "numpy": "2"}, [problem("disk", "full")])
    found = list(ranks.describe([first, second]))
    assert found[:2] == [
        Finding("processes", "one: rank 0 on H100, 8 cores to use"),
        Finding("processes", "two: rank 1 on CPU, 1 core to use"),
    ]
    assert [finding.text for finding in found[2:]] == [
        "two: full",
        "rank 1 have none, the others have: they cannot train together",
        "torch is 2.11 on one and 2.15 on two: give all nodes the same environment",
    ]


def test_tasks_of_srun_that_would_train_each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    (found,) = ranks.check_launcher(ProcessInfo())
    assert found.level == "problem" and "srun started 4 tasks" in found.text
    assert not list(ranks.check_launcher(ProcessInfo(0, 0, 4)))
