"""Miniatures that several tests share, what tests need, and on what they run."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.devices import GPUS, hide_gpus
from tests.helpers.drawn import COLORS, draw_image
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards

SAMPLES = {"train": 40, "val": 12, "test": 12}
NEEDS = {"slurm": "slurm", "browser": "browser", "learnt_run": "slow"}
"""fixtures, and markers of the tests that take them"""
LONG = ("slow", "processes", "slurm", "browser")
"""markers of tests that take more than a second"""

_hidden = pytest.MonkeyPatch()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a Slurm, a browser or a trained run, by what they ask for; and put the files that have
    slow tests first, so that none of these is begun last and keeps a core waiting."""
    for item in items:
        for fixture in NEEDS.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(NEEDS[fixture])
    slow = {item.path for item in items if any(map(item.get_closest_marker, LONG))}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Leave what was imported out of garbage collections: a training ends each stage with a full one, which takes a
    third of a second among a million objects of torch."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def hidden_gpus() -> None:
    """Hide the GPUs. Not while this file is imported: processes of pytest-xdist inherit what the first one hides, and
    would have none for the tests that need one."""
    if GPUS:
        hide_gpus(_hidden)


@pytest.fixture(autouse=True)
def device(request: pytest.FixtureRequest) -> Iterator[None]:
    """The GPUs for a test that is marked `gpu`, which is skipped where there are none."""
    if not request.node.get_closest_marker("gpu"):
        yield
        return
    if not GPUS:
        pytest.skip("needs a GPU")
    _hidden.undo()
    yield
    hide_gpus(_hidden)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Signals act after a test as before it: a process that is forked has the handlers of whoever forks it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture
def make_image() -> Callable[..., Path]:
    """`draw_image`."""
    return draw_image


@pytest.fixture(scope="session")
def tiny_samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[RawSample, ...]:
    """40 train, 12 val and 12 test samples of 4 classes that differ in colour and in words; 2 or 3 texts each."""
    folder = tmp_path_factory.mktemp("tiny_raw")
    samples = []
    for split, count in SAMPLES.items():
        for number in range(count):
            name = list(COLORS)[number % len(COLORS)]
            image = draw_image(folder / f"{split}_{number}.jpg", color=COLORS[name], seed=number, quality=92)
            texts = (f"a picture of {name} number {number}", f"here is one more {name}", f"{name}, again")
            samples.append(RawSample(image.name, split, image, texts[: 2 + number % 2], (name,)))
    return tuple(samples)


@pytest.fixture(scope="session")
def tiny_shards(tiny_samples: tuple[RawSample, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny samples as shards of 8. Shared: a test that changes files copies the folder first."""
    out = tmp_path_factory.mktemp("tiny") / "shards"
    options = BuildOptions(shard_samples=8, workers=1)
    build_shards(out, dataset="tiny", classes=list(COLORS), samples=tiny_samples, options=options)
    return out
