"""Check that a recipe's configuration can be trained: its shards, its weights, its networks, and what they take."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from xmr_e2e.data.mixture import open_split
from xmr_e2e.data.workers import default_workers
from xmr_e2e.doctor.dry_run import DryRun, dry_run
from xmr_e2e.doctor.finding import Finding, in_words, note, problem
from xmr_e2e.doctor.group import ProcessInfo
from xmr_e2e.doctor.machine import available_memory
from xmr_e2e.doctor.memory import (
    Processes,
    check_cached_features,
    check_checkpoints,
    check_loader,
    check_memory,
    need,
    weight_bytes,
)
from xmr_e2e.doctor.method import StagePlan, build, check_plan, describe, plans, quick_words
from xmr_e2e.doctor.shards import check_samples, check_shards, check_word_file
from xmr_e2e.doctor.speed import check_speed
from xmr_e2e.doctor.texts import check_texts
from xmr_e2e.doctor.weights import check_weights
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.shards.manifest import Manifest, load_manifest
from xmr_e2e.training.launch import parse
from xmr_e2e.training.preflight import SLOW_PRECISION, check_networks, check_trackers
from xmr_e2e.training.selection import check_splits
from xmr_e2e.training.zero import zero_plugin

_MODULE = "xmr_recipe"


def load_experiment(path: Path, options: Sequence[str]) -> Experiment:
    """The experiment of a recipe's file, changed by the options of its command line.

    Raises:
        XmrError: no such file, or no recipe.
        SystemExit: options that it does not have, or --help; said to the user.
    """
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise XmrError(f"{path} is no recipe: name a Python file such as recipes/alscor_pascal.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module  # where dataclasses and tyro look for what its annotations mean
    sys.path.insert(0, str(path.resolve().parent))  # as of a script that is started
    spec.loader.exec_module(module)
    if not callable(getattr(module, "experiment", None)):
        raise XmrError(f"{path} is no recipe: it has no function `experiment`")
    return parse(module.experiment, options)


def planned_processes(place: ProcessInfo) -> Processes:
    """The launcher's processes; without one those that would be started here, one on each GPU."""
    count = place.world_size if place.world_size > 1 else max(1, torch.cuda.device_count())
    return Processes(count, int(os.environ.get("LOCAL_WORLD_SIZE", count)))


def check_recipe(experiment: Experiment, processes: Processes) -> Iterator[Finding]:
    """Step by step what a training does first; ends at the first step that cannot be done."""
    train, shards = experiment.train, experiment.data.shards
    about = "files"
    try:
        files = list(check_files(experiment))
        yield from files
        if any(finding.about == "shards" and finding.level == "problem" for finding in files):
            return
        about = "options"
        manifest = load_manifest(shards)
        check_splits(experiment, manifest)
        if train.precision == "fp16" and not torch.cuda.is_available():
            yield note("options", SLOW_PRECISION)
        if train.zero:
            zero_plugin(train, processes.count)
        check_trackers(train)
        about = "texts"
        words = quick_words(experiment)
        yield from check_texts(experiment, words)
        about = "samples"
        yield check_samples(experiment, manifest, words.tokenizer)
        about = "method"
        method = build(experiment, manifest, words)
        yield from describe(method, words)
        about = "steps"
        stages = list(plans(experiment, method))
        yield from (check_plan(plan, train.epochs, processes.count) for plan in stages)
        about = "dry run"
        check_room(method)
        check_networks(experiment, manifest, processes.count)
        run = dry_run(experiment, method, words.tokenizer)
        yield from check_run(run, processes.count)
        about = "decoding"
        yield from check_speed(experiment, method, processes)
        about = "memory"
        yield from check_sizes(experiment, manifest, stages, run, processes)
    except XmrError as error:
        yield problem(about, str(error))


def check_files(experiment: Experiment) -> Iterator[Finding]:
    """Check the files that every node must have."""
    yield from check_weights(experiment.method)
    yield from check_word_file(experiment.data.words)
    for folder in (experiment.data.shards, *map(Path, experiment.data.extra_shards)):
        yield check_shards(folder)


def check_room(method: Method) -> None:
    """Raise XmrError where a backward pass would not fit beside the method."""
    wanted, there = weight_bytes(method), available_memory()
    if wanted > 0.8 * there:
        raise XmrError(
            f"not done: the gradients take {in_words(wanted)}, and {in_words(there)} of memory are available"
        )


def check_run(run: DryRun, processes: int) -> Iterator[Finding]:
    """Findings on what the networks made of two samples, and on their loss."""
    shapes = ", ".join(f"towers.{name} {' x '.join(map(str, shape))}" for name, shape in run.shapes.items())
    yield Finding("dry run", f"two samples give {shapes}, and embeddings of {run.width} numbers")
    for stage in run.stages:
        lost = stage.without_gradient
        if lost:
            text = f"{stage.stage.name}: the loss does not reach {len(lost)} parameters, such as {lost[0]}"
            if processes > 1:
                yield problem("dry run", f"{text}; several processes would wait for their gradients")
            else:
                yield note("dry run", f"{text}; several processes would wait for their gradients")
    if run.stages:
        losses = ", ".join(f"{stage.stage.name} {stage.total:.3g}" for stage in run.stages)
        yield Finding("dry run", f"forward and backward pass of two samples; loss: {losses}")


def check_sizes(
    experiment: Experiment, manifest: Manifest, stages: Sequence[StagePlan], run: DryRun, processes: Processes
) -> Iterator[Finding]:
    """Memory of devices, machine and disk."""
    weights = weight_bytes(run.method)
    plans = {plan.stage.name: plan for plan in stages}
    needs = [need(experiment, weights, item, plans[item.stage.name].largest, processes.count) for item in run.stages]
    if needs:
        yield from check_memory(needs, processes)
    kept = len(open_split(experiment.data.shards, "train", experiment.data.extra_shards))
    kept += manifest.splits["val"].samples if "val" in manifest.splits else 0
    yield from check_cached_features(run, kept, processes)
    workers = default_workers(processes.local) if experiment.data.workers is None else experiment.data.workers
    yield check_loader(run, max(plan.largest for plan in stages), workers, processes)
    yield check_checkpoints(experiment, weights, run)
