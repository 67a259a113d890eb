"""The Dockerfile and the manifest of docs/kubernetes: linted, and what stands in them is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests import ROOT
from tests.helpers.recipes import recipe
from xmr_e2e.extras import EXTRAS
from xmr_e2e.training.launch import parse

DOCKERFILE = ROOT / "Dockerfile"
JOB = ROOT / "docs/kubernetes/train.yaml"


def test_the_linter_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or "hadolint"
    done = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_what_is_copied_is_there_and_is_all_that_the_wheel_is_made_of() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    copied = {name for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for name in line.split()}
    assert all((ROOT / name).exists() for name in copied)
    built = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(built["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]) <= copied
    assert {built["project"]["readme"], *built["project"]["license-files"], "pyproject.toml"} <= copied
    seen = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"}
    assert {name.partition("/")[0] for name in copied} == seen


def test_the_extras_exist() -> None:
    named = re.findall(r"EXTRAS=([\w,-]+)", DOCKERFILE.read_text() + (ROOT / "docs/containers.md").read_text())
    assert len(named) == 2 and {extra for each in named for extra in each.split(",")} <= EXTRAS.keys()


@pytest.fixture
def job() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(JOB.read_text(encoding="utf-8"))
    return found


def test_kubernetes_knows_every_field_of_the_job(job: dict[str, Any]) -> None:
    kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)


def test_a_field_that_kubernetes_does_not_know_is_seen(job: dict[str, Any]) -> None:
    job["spec"]["template"]["spec"]["terminationGraceSeconds"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)


def test_the_recipe_takes_the_jobs_options(job: dict[str, Any]) -> None:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    *launcher, module = container["command"]
    assert launcher == ["torchrun", "--nproc-per-node", "gpu", "-m"]
    experiment = parse(recipe(module.removeprefix("xmr_e2e.recipes.")).experiment, container["args"])
    assert experiment.train.name == "kubernetes"  # by which a pod that starts again goes on


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_image_is_built_and_trains() -> None:
    base = re.search(r"^ARG BASE=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert base
    if (
        not shutil.which("docker")
        or subprocess.run(["docker", "image", "inspect", base[1]], capture_output=True).returncode
    ):
        pytest.skip(f"no Docker runs here that has {base[1]}; the workflow builds the image")
    done = subprocess.run(["make", "container"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
