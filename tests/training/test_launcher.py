"""What `accelerate launch` and the environment were asked for: taken over, or refused with the option to use."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import torch
from accelerate import Accelerator

from tests.helpers.forked import free_port, tiny, trainings
from tests.helpers.launched import ACCELERATE, TORCHRUN, command, launch, records
from xmr_e2e.errors import XmrError
from xmr_e2e.runs.experiment import Train
from xmr_e2e.runs.run import Run
from xmr_e2e.training import launch as launch_module
from xmr_e2e.training import launcher
from xmr_e2e.training.launcher import take_over
from xmr_e2e.training.processes import make_accelerator

pytestmark = pytest.mark.slow

DEEPSPEED = {"USE_DEEPSPEED": "true", "DEEPSPEED_ZERO_STAGE": "2", "GRADIENT_ACCUMULATION_STEPS": "1"}


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
        monkeypatch.delenv(name)


def ask(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"ACCELERATE_{name}", value)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"MIXED_PRECISION": "no", "DYNAMO_BACKEND": "NO", "USE_FSDP": "false", "USE_DEEPSPEED": "False"}, Train()),
        ({"MIXED_PRECISION": "bf16"}, Train(precision="bf16")),
        ({"MIXED_PRECISION": "fp16"}, Train(precision="fp16")),
        (DEEPSPEED, Train(zero=2)),
        (DEEPSPEED | {"DEEPSPEED_ZERO_STAGE": "3", "GRADIENT_CLIPPING": "1.5"}, Train(zero=3, clip_norm=1.5)),
        (DEEPSPEED | {"DEEPSPEED_ZERO_STAGE": "0", "GRADIENT_CLIPPING": "none"}, Train()),
        (DEEPSPEED | {"DEEPSPEED_CONFIG_FILE": "None", "DEEPSPEED_OFFLOAD_PARAM_DEVICE": "none"}, Train(zero=2)),
    ],
)
def test_a_setting_is_taken_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, settings: dict[str, str], expected: Train
) -> None:
    ask(monkeypatch, **settings)
    with caplog.at_level(logging.INFO, "xmr_e2e"):
        assert take_over(Train()) == expected
    assert bool(caplog.records) == (expected != Train())


@pytest.mark.parametrize(
    ("settings", "train", "message"),
    [
        ({"MIXED_PRECISION": "fp8"}, Train(), r"--mixed_precision fp8: .* --train.precision is one of"),
        ({"MIXED_PRECISION": "bf16"}, Train(precision="fp16"), "bf16 contradicts --train.precision fp16"),
        ({"DYNAMO_BACKEND": "INDUCTOR"}, Train(), "--dynamo_backend inductor: .*launch with --dynamo_backend no"),
        ({"GRADIENT_ACCUMULATION_STEPS": "4"}, Train(), "--gradient_accumulation_steps 4: .*--train.micro-batches 4"),
        ({"GRADIENT_ACCUMULATION_STEPS": "4"}, Train(micro_batches=2), "--train.micro-batches 4"),
        ({"USE_FSDP": "true"}, Train(), "--use_fsdp: .*--train.zero 1, 2 or 3"),
        ({"USE_MEGATRON_LM": "true"}, Train(), "--use_megatron_lm: .*--train.zero 3"),
        ({"USE_PARALLELISM_CONFIG": "true"}, Train(), "--use_parallelism_config: .*--train.zero 3"),
        (DEEPSPEED, Train(zero=3), "--zero_stage 2 contradicts --train.zero 3"),
        (
            DEEPSPEED | {"DEEPSPEED_CONFIG_FILE": "ds.json"},
            Train(),
            "--deepspeed_config_file ds.json: .*--train.zero N",
        ),
        (
            DEEPSPEED | {"DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "cpu"},
            Train(),
            "--offload_optimizer_device cpu: .*--train.zero 3",
        ),
        (DEEPSPEED | {"GRADIENT_CLIPPING": "1.0"}, Train(clip_norm=2), "1.0 contradicts --train.clip-norm 2"),
        (DEEPSPEED | {"DEEPSPEED_ZERO3_INIT": "true"}, Train(), "--zero3_init_flag"),
    ],
)
def test_a_setting_that_cannot_be_followed_is_refused(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], train: Train, message: str
) -> None:
    ask(monkeypatch, **settings)
    with pytest.raises(XmrError, match=message):
        take_over(train)


def test_an_option_that_was_given_is_not_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    ask(monkeypatch, MIXED_PRECISION="bf16")
    with pytest.raises(XmrError, match=r"contradicts --train\.precision fp32"):
        take_over(Train(), {"--train.precision"})
    ask(monkeypatch, MIXED_PRECISION="no", GRADIENT_ACCUMULATION_STEPS="2")
    assert take_over(Train(micro_batches=2), {"--train.micro-batches"}) == Train(micro_batches=2)
    assert make_accelerator(Train(micro_batches=2)).gradient_accumulation_steps == 1  # by which it divides each loss


def test_what_stands_on_accelerates_command_line_and_in_its_file_alone_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "config.json"
    settings = {
        "compute_environment": "LOCAL_MACHINE", "distributed_type": "NO", "num_processes": 1, "num_machines": 1,
        "mixed_precision": "no", "use_cpu": True, "debug": False, "machine_rank": 0,
        "deepspeed_config": {"gradient_accumulation_steps": 8},
    }  # fmt: skip
    file.write_text(json.dumps(settings))
    for words, steps in (
        (["--gradient_accumulation_steps", "4", "recipe.py"], 4),
        (["--config_file", str(file), "recipe.py"], 8),
    ):
        monkeypatch.setattr(launcher, "_words_of_accelerate", lambda words=words: words)
        with pytest.raises(XmrError, match=f"--train.micro-batches {steps}"):
            take_over(Train())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--num_processes 2 r.py", "`torchrun --standalone --nproc-per-node 2 r.py '--train.name=a b'`"),
        (
            "--num_processes 4 --num_machines 2 --machine_rank 1 --main_process_ip 10.0.0.7 --main_process_port 295 r",
            "`torchrun --nnodes 2 --node-rank 1 --master-addr 10.0.0.7 --master-port 295 --nproc-per-node 2 r.py ",
        ),
        ("--num_processes 3 --num_machines 2 r.py", "3 is the number of .* cannot be divided among --num_machines 2"),
        ("--num_processes 4 --num_machines 2 r.py", "--num_machines 2 needs --main_process_ip and --main_process_port"),
    ],
)  # fmt: skip
def test_processes_that_accelerate_does_not_start_are_started_by_what_the_error_says(
    monkeypatch: pytest.MonkeyPatch, words: str, message: str
) -> None:
    monkeypatch.setattr(launcher, "_words_of_accelerate", words.split)
    monkeypatch.setattr(sys, "argv", ["r.py", "--train.name=a b"])
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for has_gpu, cpu in ((False, "false"), (True, "true")):  # the second is `accelerate launch --cpu`
        monkeypatch.setattr(torch.cuda, "is_available", lambda has_gpu=has_gpu: has_gpu)
        ask(monkeypatch, USE_CPU=cpu)
        expected = message.replace("`torchrun", "`ACCELERATE_USE_CPU=true torchrun") if has_gpu else message
        with pytest.raises(XmrError, match=expected):
            take_over(Train())


def test_what_to_type_keeps_the_precision_that_accelerate_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun knows none, so that it would be lost without a word."""
    monkeypatch.setattr(launcher, "_words_of_accelerate", "--num_processes 2 r.py".split)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ask(monkeypatch, MIXED_PRECISION="bf16")
    with pytest.raises(XmrError, match=r"torchrun .* --train\.precision bf16`"):
        take_over(Train())


def test_a_parent_whose_command_line_is_not_shown_is_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(process: psutil.Process) -> list[str]:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "cmdline", refuse)
    assert take_over(Train()) == Train()


def test_a_process_that_lost_another_says_so_in_a_line(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As while another still fits the words, before the training is watched."""

    def lose(*_: object) -> int:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1234")

    monkeypatch.setattr(launch_module, "run_experiment", lose)
    monkeypatch.setattr(launch_module, "parse", lambda *_: tiny(tiny_shards, tmp_path))
    with pytest.raises(SystemExit) as ended:
        launch_module.main(lambda: tiny(tiny_shards, tmp_path))
    assert ended.value.code == 2
    assert "error: the connection to another process was lost" in capfd.readouterr().err


# The environment


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE=2 .* no MASTER_ADDR and no MASTER_PORT by which they meet"),
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"}, "WORLD_SIZE=2 .* there is no RANK"),
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE=many in the environment is no number of processes"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0 in the environment"),
    ],
)
def test_a_group_that_cannot_meet_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(XmrError, match=message):
        make_accelerator(Train())


def test_one_process_needs_no_meeting_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    accelerator: Accelerator = make_accelerator(Train())
    assert accelerator.num_processes == 1


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in group.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")
    with pytest.raises(XmrError, match=r"2 processes on this machine, and 1 GPU.*accelerate launch --cpu"):
        make_accelerator(Train())


# Real launches


def test_accelerates_deepspeed_trains_with_zero(tiny_shards: Path, tmp_path: Path) -> None:
    """Two processes, and weights that move."""
    options = "--use_deepspeed --zero_stage 1 --num_processes 2 --mixed_precision bf16".split()
    arguments = command(tiny_shards, tmp_path, "--train.epochs", "1", "--train.name", "x")
    result = launch(arguments, [*ACCELERATE, *options])
    assert result.returncode == 0, result.stderr
    run = Run(tmp_path / "alscor_flickr8k" / "x")
    train = run.experiment().train
    assert (train.zero, train.precision, run.document("environment.json")["processes"]) == (1, "bf16", 2)
    losses = [record["loss"]["total"] for record in records(run.folder) if "loss" in record]
    assert len(set(losses)) == len(losses) == 10


def test_two_machines_are_one_training(tiny_shards: Path, tmp_path: Path) -> None:
    """Both on this host, without a GPU; each starts its part of the processes, by what the refusal says."""
    port = str(free_port())
    arguments = command(tiny_shards, tmp_path, "--train.epochs", "1", "--train.name", "x")
    started = [
        subprocess.Popen(
            [*TORCHRUN, "--nnodes", "2", "--node-rank", str(rank), "--master-addr", "127.0.0.1",
             "--master-port", port, "--nproc-per-node", "1", *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    printed = [process.communicate(timeout=240)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], printed
    run = Run(tmp_path / "alscor_flickr8k" / "x")
    assert run.document("environment.json")["processes"] == 2
    assert [record["step"] for record in run.records() if "loss" in record] == list(range(1, 11))


# One folder, one training


def test_a_folder_in_use_is_refused_and_free_again_when_its_process_is_gone(tiny_shards: Path, tmp_path: Path) -> None:
    endless = tiny(tiny_shards, tmp_path, epochs=999)
    run = tmp_path / "tiny" / "run"
    with trainings(endless, tmp_path) as (first,):
        first.wait_for(lambda: (run / "model.json").exists())
        (tmp_path / "second").mkdir()
        with trainings(endless, tmp_path / "second") as (second,):
            assert second.end() == 2
        assert f"run is in use by process {first.pid} on " in second.printed
        assert "another --train.name" in second.printed
        assert not first.is_over
        first.send(signal.SIGKILL)
    (tmp_path / "third").mkdir()
    with trainings(endless, tmp_path / "third") as (third,):
        third.wait_for(lambda: third.log.exists() and "going on from" in third.printed)


def test_starts_of_the_same_second_have_folders_of_their_own(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch_module.time, "strftime", lambda form: "20260102-030405")
    experiment = tiny(tiny_shards, tmp_path, name="")
    folders = [launch_module._unnamed(experiment).name for _ in range(3)]
    assert folders == ["20260102-030405", "20260102-030405-2", "20260102-030405-3"]


def test_a_start_that_fails_leaves_no_folder_and_one_without_a_step_is_begun_again(
    tiny_shards: Path, tmp_path: Path
) -> None:
    from dataclasses import replace

    from tests.helpers.forked import train

    experiment = tiny(tiny_shards, tmp_path / "runs", epochs=1)
    tokens = replace(experiment.data.tokens, kind="sentencepiece", size=3)
    failed = train(replace(experiment, data=replace(experiment.data, tokens=tokens)), tmp_path)
    assert failed.end() == 2 and "--data.tokens.size" in failed.printed
    assert not list((tmp_path / "runs").glob("*/*"))
    run = Run(tmp_path / "runs" / "tiny" / "run")
    run.folder.mkdir(parents=True)
    run.start(replace(experiment, method=replace(experiment.method, dim=4)), {"manifest_sha256": "of other shards"})
    (run.folder / "notes.txt").write_text("my own")
    (run.folder / "checkpoints" / "stage-00-epoch-0000-step-000002").mkdir(parents=True)  # copied without its records
    kept = train(experiment, tmp_path)
    assert kept.end() == 2 and "holds other data than the run began with" in kept.printed
    shutil.rmtree(run.folder / "checkpoints")
    assert train(experiment, tmp_path).end() == 0
    assert run.experiment().method == experiment.method
    assert (run.folder / "notes.txt").read_text() == "my own"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "words", "checkpoints"])
def test_files_that_no_training_left_stay(name: str, tiny_shards: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "tiny" / "run" / name / "file"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("{}")
    for _ in range(2):  # a start that was refused makes none of it its own
        with ExitStack() as held, pytest.raises(XmrError, match=f"run holds {name}, .* another --train.name"):
            launch_module._claim(tiny(tiny_shards, tmp_path), held)
    assert theirs.read_text() == "{}"


def test_a_start_that_was_killed_leaves_no_words_to_the_next(tiny_shards: Path, tmp_path: Path) -> None:
    """They may be those of other options."""
    experiment = tiny(tiny_shards, tmp_path)
    with ExitStack() as held:
        run = launch_module._claim(experiment, held)
        run.fit_words(experiment.data)
    with ExitStack() as held:
        assert not list((launch_module._claim(experiment, held).folder).glob("words"))


def test_without_a_home_directory_one_line_says_so() -> None:
    """As an unknown user in a container."""
    script = "from pathlib import Path; from xmr_e2e.console import report_errors; report_errors(Path.home)"
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    isolated = ["unshare", "-U", "--map-user=12345", sys.executable, "-c", script]
    result = subprocess.run(isolated, capture_output=True, text=True, env=environment)
    if "unshare" in result.stderr:
        pytest.skip(f"no user of our own here: {result.stderr.strip()}")
    assert result.stderr.strip().endswith("set HOME to a folder that can be written")
