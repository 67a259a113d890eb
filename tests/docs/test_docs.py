"""Every command and every piece of code of README.md and docs/ runs, on miniatures.

They are found by parsing the pages (`pages`); a new one for which there is no way to run it fails here, by its name.
`xmr` and `python -m` run in this process; recipes are parsed by their own parser, then trained at the size of a
miniature, on several processes where the line says so; Slurm takes sbatch lines, and the recipe or the builder what
stands behind the script. What commands name (RAW, RUN, my_data, photo.jpg, …) is made by `project_folder`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from accelerate.commands.launch import launch_command_parser
from fastapi.testclient import TestClient
from torch import nn
from torch.distributed.run import get_args_parser
from torchvision import models

from benchmarks import photographs
from tests import ROOT
from tests.helpers import forked
from tests.helpers.hub_server import WRITES, serving_hub, use_hub
from tests.helpers.miniatures import build_narrow, miniatures, narrow, small
from tests.helpers.pages import Block, blocks, commands
from tests.helpers.project_folder import RUN, Project
from tests.helpers.recipes import DOCTOR, fresh_accelerator, recipe
from xmr_e2e.cli import main
from xmr_e2e.models.saved_model import load
from xmr_e2e.runs.environment import environment
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.runs.run import Run
from xmr_e2e.search.access import Rules, own_addresses
from xmr_e2e.search.app import create_app
from xmr_e2e.search.index import Index
from xmr_e2e.towers import detector
from xmr_e2e.towers.detector import Detector, load_detector
from xmr_e2e.towers.networks import OWN
from xmr_e2e.training import launch
from xmr_e2e.training.processes import make_accelerator
from xmr_e2e.training.trainer import Trainer

if TYPE_CHECKING:
    from tests.helpers.slurm_cluster import Slurm

pytestmark = pytest.mark.slow

pytest_plugins = ["tests.helpers.slurm_cluster"]

COMMANDS = commands()
START = subprocess.run
RECIPE_OF_OPTIONS = "accelerate launch recipes/dscmr_flickr8k.py"
"""what lines that are options alone are tried with"""
SMALLER = {
    "--per-class": "1",
    "--num_processes": "2",
    "--nodes": "2",
    "--cpus-per-task": "2",
    "--mem": "100M",
    "--items": "200",
}
"""options whose values are too large for a test"""
PUBLISHED = "someone/birds"
"""a model of the hub, on the pages"""
CHECKPOINT = "stage-00-epoch-0000-step-000000"
"""the first one of the finished run, in place of any that a line names"""
QUICK = {
    "shards verify": "--workers 1",
    "shards index": "--workers 1",
    "shards from-parquet": "--workers 1",
    "shards from-hf": "--workers 1",
    "shards audit": "--workers 1 --no-texts",  # the miniatures' texts are few
    "serve": "--port 0",
}
"""command -> options that are added"""


# ---- how each kind of command is run


class Handler(SimpleHTTPRequestHandler):
    """A web server that has the miniature's files at any address."""

    shards: Path

    def translate_path(self, path: str) -> str:
        return str(self.shards / Path(path.partition("?")[0]).name)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Experiment], Path]:
    """The shards of a miniature of an experiment's dataset."""
    return miniatures(tmp_path_factory.mktemp("docs"))


@pytest.fixture(scope="session")
def shards(miniature: Callable[[Experiment], Path]) -> Path:
    """The miniature that stands for any folder of shards: one label per sample, pictures and texts."""
    return miniature(recipe("alscor_pascal").experiment())


@pytest.fixture(scope="session")
def site(shards: Path) -> Iterator[str]:
    handler = type("SiteHandler", (Handler,), {"shards": shards})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of recipes/alscor_pascal.py at the size of the miniature, as its command would have made it."""
    runs = tmp_path_factory.mktemp("trained")
    experiment = small(recipe("alscor_pascal").experiment(), shards)
    named = replace(experiment, train=replace(experiment.train, runs=runs, name=Path(RUN).name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "get_model", build_narrow)
        with fresh_accelerator():
            assert launch.run_experiment(named, make_accelerator(named.train)) == 0
    return runs / "alscor_pascal" / Path(RUN).name


@pytest.fixture(scope="session")
def trained_once() -> list[Experiment]:
    """What was trained already: many lines differ only in sizes, which are made the same."""
    return []


@pytest.fixture
def project(shards: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty project folder, which is the current one, and in which networks are narrow."""
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.setattr(models, "get_model", build_narrow)
    return Project(root, shards, trained)


def unnamed(experiment: Experiment) -> Experiment:
    """Without the name of its run."""
    return replace(experiment, train=replace(experiment.train, name=""))


def shrink(experiment: Experiment, shards: Path) -> Experiment:
    """The experiment at the size of the miniature; files of weights that were asked for are made and kept."""
    tiny = small(experiment, shards)
    # DeepSpeed compiles for minutes where it has not done so; test_zero.py trains with it.
    tiny = replace(tiny, train=replace(tiny.train, zero=0))
    if experiment.train.batch_classes:
        tiny = replace(tiny, train=replace(tiny.train, batch_classes=2))
    image = experiment.method.towers.get("image")
    weights = Path(getattr(image, "weights", ""))
    if weights.suffix == ".pth":
        network: nn.Module = OWN[image.name]() if image.name in OWN else models.get_model(image.name, weights=None)
        torch.save(network.state_dict(), weights)
        tower = replace(tiny.method.towers["image"], weights=str(weights))
        tiny = replace(tiny, method=replace(tiny.method, image=tower))
    for name, tower in experiment.method.towers.items():  # those of the run that stands for any
        if Path(weights := getattr(tower, "weights", "none")).is_dir():
            given: Any = replace(tiny.method.towers[name], weights=weights)  # type: ignore[call-arg]
            tiny = replace(tiny, method=replace(tiny.method, **{name: given}))
    return tiny


@dataclass
class Runner:
    """Runs a command of the pages; each kind is a method of the program's name."""

    project: Project
    miniature: Callable[[Experiment], Path]
    site: str
    trained_once: list[Experiment]
    patch: pytest.MonkeyPatch

    def run(self, line: str) -> None:
        if line.startswith("--"):
            line = f"{RECIPE_OF_OPTIONS} {line}"
        words = self.project.provide(line, shlex.split(line))
        words = [SMALLER.get(before, word) for before, word in zip(["", *words], words)]
        words = [CHECKPOINT if word.startswith("stage-") else word for word in words]
        program = getattr(self, f"run_{words[0]}", None)
        assert program, f"there is no way to run `{line}`: tests/docs/test_docs.py needs a method run_{words[0]}"
        program(words)

    def run_make(self, words: list[str]) -> None:
        done = subprocess.run([words[0], "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def run_xmr(self, words: list[str]) -> None:
        self.put_on_path("sbatch", "echo 1")  # nothing is submitted
        self.put_on_path("squeue", "true")
        if words[1] == "shards" and words[2] in ("mount", "trust"):
            words = self.reachable(words)
        elif words[1] == "doctor":
            words = [*words, *self.small_doctor(words)]
        options = QUICK.get(" ".join(words[1 : 3 if words[1] == "shards" else 2]), "")
        with self.hub(words):
            self.provide_index(words)
            status = main([*words[1:], *options.split()])
        if any(word.startswith("s3://") for word in words):
            if importlib.util.find_spec("s3fs"):
                pytest.skip("s3fs is installed, and there is no bucket to ask")
            status -= 2  # the answer is the pip line, which test_remote.py looks at
        assert status == 0

    def provide_index(self, words: Sequence[str]) -> None:
        """For commands that need one; and a server that does not serve until Ctrl-C."""
        if words[1] == "serve" or {"--index", "--add"} & set(words):
            run = next(word for word in words if word == PUBLISHED or Path(word, "config.json").exists())
            out = ["--out", words[words.index("--index") + 1]] if run == PUBLISHED else []
            assert main(["index", run, str(self.project.shards), *out]) == 0
        self.patch.setattr("uvicorn.Server.run", lambda *_, **__: None)

    @contextmanager
    def hub(self, words: Sequence[str]) -> Iterator[None]:
        """The hub, with the model of the finished run for commands that name it, and empty for one that fills it."""
        if not any(word.partition("@")[0] == PUBLISHED for word in words):
            yield
            return
        with serving_hub() as hub:
            if words[1] != "push":
                load(self.project.root / RUN).save_pretrained("published")
                hub.publish(PUBLISHED, Path("published"))
            use_hub(self.patch, hub.address, self.project.root / "cache", WRITES)
            yield

    def put_on_path(self, name: str, script: str) -> None:
        """A program of the test's own."""
        folder = self.project.root / "bin"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
        if str(folder) not in os.environ["PATH"]:
            self.patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def small_doctor(self, words: Sequence[str]) -> list[str]:
        own = [] if "--data.shards" in words else ["--data.shards", str(self.project.shards)]
        return [*own, *DOCTOR.split(" ")]

    def reachable(self, words: list[str]) -> list[str]:
        """Hosts, folders of other machines and a cache that are there."""
        self.patch.setenv("HOME", str(self.project.root / "home"))  # what is allowed is kept there
        words = [re.sub(r"^https?://[^/]+", self.site, word) for word in words]
        return [str(self.project.root / "cache") if word.startswith("/local") else word for word in words]

    def run_python(self, words: list[str]) -> None:
        if words[1] != "-m":
            return self.train(words[1:])
        name, *arguments = words[2:]
        if name == "benchmarks.methods":
            arguments += ["--only", "deep_sm_flickr8k"]
            self.patch.setattr(subprocess, "run", self.train_for_benchmark)
        elif name == "benchmarks" and arguments[0] == "all":  # each of them: tests/benchmarks/test_benchmarks.py
            (self.project.root / "performance.md").write_text((ROOT / "docs" / "performance.md").read_text())
            arguments += ["--no-measure", "--out", "performance.md"]
        elif name == "benchmarks" and arguments[0] == "gpu":  # the same file measures it
            arguments += ["--minutes", "0", "--cpu"]
            made = photographs.samples_of
            self.patch.setattr(photographs, "samples_of", lambda found, count: made(found, min(count, 100)))
        elif name == "benchmarks" and arguments[0] == "profile":
            arguments += ["--steps", "4", "--batch-size", "4"]
        elif name.startswith("preprocessing.") and not name.endswith((".regions", ".bottom_up", ".caption_labels")):
            arguments += ["--workers", "1"]
        self.patch.setattr(sys, "argv", [name, *arguments])
        self.patch.setattr(detector, "load_detector", small_detector)
        with pytest.raises(SystemExit) as end:
            runpy.run_module(name, run_name="__main__")
        assert not end.value.code

    def run_accelerate(self, words: list[str]) -> None:
        given = launch_command_parser().parse_args(words[2:])
        self.train([given.training_script, *given.training_script_args], given.num_processes or 1)

    def run_torchrun(self, words: list[str]) -> None:
        """By torchrun's own parser, then as under accelerate, or in this process (test_doctor.py starts two)."""
        given = get_args_parser().parse_args(words[1:])
        if given.training_script.startswith("recipes/"):
            return self.train([given.training_script, *given.training_script_args], min(2, int(given.nproc_per_node)))
        assert (given.module, given.training_script) == (True, "xmr_e2e.cli")
        self.run_xmr(["xmr", *given.training_script_args])

    def run_docker(self, words: list[str]) -> None:
        """The arguments of a build, and what is run in the image by its own parser; test_containers.py builds one."""
        if words[1] == "build":
            known = re.findall(r"^ARG (\w+)=", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
            assert {word.partition("=")[0] for before, word in pairwise(words) if before == "--build-arg"} <= {*known}
            return
        inside = words[words.index("xmr-e2e") + 1 :]
        if "-m" in inside:
            module, *options = inside[inside.index("-m") + 1 :]
            self.parsed([f"{module.removeprefix('xmr_e2e.').replace('.', '/')}.py", *options])
        elif inside == ["xmr", "doctor"]:
            assert main(inside[1:]) in (0, 1)  # of this machine, which may have problems
        else:
            self.run_xmr(self.project.provide(shlex.join(inside), inside))

    def run_curl(self, words: list[str]) -> None:
        """The server's answer, without a port."""
        *options, url = words[1:]
        run = self.project.root / RUN
        assert main(["index", str(run), str(self.project.shards)]) == 0
        app = create_app(Index(run / "index"), load(run), Rules(frozenset(own_addresses("127.0.0.1"))))
        with TestClient(app, base_url=re.sub(r"(?<=\d)/.*", "", url)) as client:
            if options:
                assert options[0] == "-F"
                name, _, file = options[1].partition("=@")
                answer = client.post(url, files={name: Path(file).read_bytes()})
            else:
                answer = client.get(url)
        assert answer.status_code == 200, answer.text

    def run_sbatch(self, words: list[str]) -> None:
        """What stands behind the script; before it: `test_slurm_takes_the_line`."""
        place = next(number for number, word in enumerate(words) if word.startswith("slurm/"))
        script, *behind = words[place:]
        if script == "slurm/build_shards.sh":
            self.run_python(["python", "-m", f"preprocessing.{behind[0]}", "--part", "0/1", *behind[1:]])
        else:
            self.parsed(["recipes/semantic_sharing_mscoco.py", *behind] if script == "slurm/mscoco.sh" else behind)

    def parsed(self, words: Sequence[str]) -> Experiment:
        """What the recipe's own parser makes of its command line."""
        assert (ROOT / words[0]).is_file()
        return launch.parse(recipe(Path(words[0]).stem).experiment, words[1:])

    def train(self, words: Sequence[str], processes: int = 1) -> None:
        """Parse, and train on a miniature."""
        if {"--help", "--help-all"} & set(words):
            with pytest.raises(SystemExit, match="0"):
                self.parsed(words)
            return
        experiment = self.parsed(words)
        tiny = shrink(experiment, self.miniature(recipe(experiment.name).experiment()))
        if processes > 1:
            with forked.trainings(tiny, self.project.root, prepare=narrow, processes=processes) as started:
                assert [rank.end() for rank in started] == [0] * processes, started[0].printed
        elif tiny.train.resume:
            self.train_to_the_report(tiny)
        elif unnamed(tiny) not in self.trained_once:
            run = Run(tiny.train.runs / tiny.name / (tiny.train.name or "run"))
            run.start(tiny, environment(tiny, 1))
            with fresh_accelerator():
                Trainer(tiny, run, make_accelerator(tiny.train)).fit()
            self.trained_once.append(unnamed(tiny))

    def train_to_the_report(self, tiny: Experiment) -> None:
        with fresh_accelerator():
            assert launch.run_experiment(tiny, make_accelerator(tiny.train)) == 0

    def train_for_benchmark(self, start: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """In place of a process for each recipe that has everything to import."""
        if start[0] != sys.executable:
            return START(start, **options)
        experiment = launch.parse(recipe(Path(start[1]).stem).experiment, start[2:])
        ended = forked.train(shrink(experiment, self.project.shards), self.project.root)
        return subprocess.CompletedProcess(start, ended.end())


def small_detector(*_: str) -> Detector:
    """Random weights, and a shorter side of 32 pixels in place of torchvision's 800."""
    found = load_detector("none", "--weights")
    found.network.transform.min_size, found.network.transform.max_size = (32,), 64
    return found


# ---- commands and code


@pytest.fixture
def runner(
    project: Project,
    miniature: Callable[[Experiment], Path],
    site: str,
    trained_once: list[Experiment],
    monkeypatch: pytest.MonkeyPatch,
) -> Runner:
    return Runner(project, miniature, site, trained_once, monkeypatch)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")  # a module that is run and was imported
@pytest.mark.parametrize("line", COMMANDS, ids=str)
def test_a_command_of_the_pages_runs(line: str, runner: Runner) -> None:
    runner.run(line)


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("sbatch ")], ids=str)
def test_slurm_takes_the_line(line: str, slurm: Slurm) -> None:
    words = shlex.split(line)
    words = [SMALLER.get(before, word) for before, word in zip(["", *words], words)]
    partition = {**slurm.environment, "SBATCH_PARTITION": "gpu"}
    start = [words[0], "--test-only", *words[1:]]
    done = subprocess.run(start, cwd=ROOT, env=partition, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", list(blocks("python")), ids=lambda block: f"{block.page}, {block.heading}")
def test_code_of_the_pages_runs_and_gives_what_its_comments_say(block: Block, project: Project) -> None:
    project.provide(block.text, re.findall(r'"([^"]+)"', block.text))
    for table in re.findall(r'"(\w+\.parquet)"', block.text):
        assert main(["embed", RUN, str(project.shards), "--out", table]) == 0
    names: dict[str, Any] = {}
    exec(block.text, names)
    for expression, shape in re.findall(r"^(\S.*?)  # (\([\d, ]+\))$", block.text, re.MULTILINE):
        assert str(tuple(eval(expression, names).shape)) == shape
