"""The waits of the host for the device in a step of each method, counted on a device that is simulated."""

from __future__ import annotations

from collections import Counter
from typing import Any
from unittest.mock import patch

import torch
from accelerate import Accelerator

from benchmarks.measure import Figure, Goal, Quantity, metric_of
from benchmarks.recipes import experiment_of, recipes_measured
from benchmarks.simulated_device import DEVICE, put_there, simulated_device
from xmr_e2e.data.batch import Batch
from xmr_e2e.data.inputs import Tokens
from xmr_e2e.data.preparation import Preparation
from xmr_e2e.methods.base import Method
from xmr_e2e.methods.stages import Stage, StepContext
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.training.step import Stepper

CLASSES, WORDS, WORD_DIM, LENGTH = 5, 50, 8, 12
"""of the drawn samples: classes, tokens that there are, width of their vectors, tokens of a text"""


def syncs(*, samples: int = 12) -> Figure:
    """Operators of a step for which the host waits for a GPU, counted on the CPU: of each method's recipe on Flickr8k,
    in the stage that has most of them.

    Args:
        samples: of the drawn batch
    """
    found = {name: waits_of_recipe(name, samples) for name in recipes_measured()}
    counted = {name: waits for name, waits in found.items() if waits}
    figure = metric_of(
        "syncs",
        Goal("at most", 1),
        Quantity(f"waits in a step, of {len(counted)} methods", "waits"),
        Quantity("of", "step"),
        [(float(waits.total()), 1.0) for waits in counted.values()],
    )
    for name, waits in counted.items():
        others = [f"{count} x {kind}" for kind, count in sorted(waits.items()) if kind != "event"]
        if others:
            figure = figure.note(f"{name} beside the one for the step before: {', '.join(others)}")
    return figure


def waits_of_recipe(name: str, samples: int) -> Counter[str]:
    """The waits of a step of the recipe's method, in the stage that has most; none where all is in closed form."""
    experiment = experiment_of(name)
    most: Counter[str] = Counter()
    for number in range(len(_method(experiment).training_stages)):
        method = _method(experiment)
        stage = method.training_stages[number]
        if not stage.closed_form:
            found = waits_of_step(method, experiment, stage, _drawn_batch(experiment, stage, samples))
            most = max(most, found, key=lambda waits: waits.total())
    return most


def waits_of_step(method: Method, experiment: Experiment, stage: Stage, batch: Batch) -> Counter[str]:
    """Operator -> how often the host waits for it in the second step of a stage; "event" is the wait for the outcome of
    the step before.

    Args:
        method: as it was built, on the CPU.
        batch: as the loader gives it.
    """
    method.begin_stage(stage)
    with patch.object(Accelerator, "device", DEVICE), simulated_device() as device:
        put_there(method)
        method.set_trained(stage, {name for name, _ in method.named_parameters()})
        method.train()
        stepper = Stepper(experiment, Accelerator(cpu=True, device_placement=False), method, stage.name)
        part = batch.pin_memory()
        first = stepper.step(part, StepContext(stage.name), (0, 0, 0))
        device.waits.clear()
        stepper.step(part, StepContext(stage.name, seed=1), (0, 1, 0))
        if first.is_refused or not first.terms:  # which waits for the first step
            raise ValueError("the drawn batch moves nothing")
    return +device.waits


def _method(experiment: Experiment) -> Method:
    torch.manual_seed(0)
    size = experiment.data.image_size
    info = DatasetInfo(classes=CLASSES, multi_label=False, image_size=size, words=torch.randn(WORDS, WORD_DIM))
    return experiment.method.build(info)


def _drawn_batch(experiment: Experiment, stage: Stage, samples: int) -> Batch:
    """Noise and random words, as the loader gives pictures and texts."""
    data, generator = experiment.data, torch.Generator().manual_seed(0)
    pixels = (samples, 3, data.load_size, data.load_size)
    inputs: dict[str, Any] = {
        "image": torch.randint(0, 256, pixels, dtype=torch.uint8, generator=generator),
        "text": Tokens(torch.randint(2, WORDS, (samples, LENGTH), generator=generator), torch.full((samples,), LENGTH)),
    }
    return Batch(
        {name: inputs[name] for name in stage.modalities},
        torch.eye(CLASSES)[torch.arange(samples) % CLASSES],
        torch.arange(samples),
        tuple(map(str, range(samples))),
        preparation=Preparation(data.image_size, augment=data.augment),
    )
