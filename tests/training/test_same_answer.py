"""The same losses, gradients and figures from one process, two, four, and from one that takes its batch in pieces.

Real processes over gloo, five optimiser steps of every method, without what chance decides: dropout and masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn

from tests.helpers.forked import free_port, run_ranks
from tests.helpers.once import made_once
from tests.helpers.small_methods import METHODS, batch, stage_batches, without_chance
from xmr_e2e.data.batch import Batch
from xmr_e2e.data.config import Data
from xmr_e2e.data.loader import fit_words
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.methods.base import Method
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.models.embed import embed_split
from xmr_e2e.runs.evaluate import validation_scores
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.training.gradcache import backward

pytestmark = [pytest.mark.slow, pytest.mark.processes]

STEPS = 5
NAMES = [name for name in METHODS if " " not in name or name.startswith("contrastive") or " without " in name]
"""without the variants of a method, but for the losses of contrastive training, and for those that leave out a term: a
parameter that it alone reaches would be waited for"""
MAGNIFYING = (
    "alscor",
    "alscor without adversary",
    "cca",
    "dcca",
    "dccae",
    "dccae without reconstruction",
    "drcl",
    "drcl without label",
    "contrastive",
    "contrastive sigmoid",
)
"""methods with a decomposition or an inverse, whose close singular values magnify fp32's rounding, or with a
temperature, by which cosines are divided: compared in fp64"""
BOUNDS = {1: [0, 12], 2: [0, 7, 12], 4: [0, 1, 5, 8, 12]}
"""of the ranks' parts of the batch, which differ in size"""


def method_and_batch(name: str) -> tuple[Method, Batch]:
    dtype = torch.float64 if name in MAGNIFYING else torch.float32
    whole = batch()
    inputs = {**whole.inputs, "image": whole.inputs["image"].to(dtype)}
    return without_chance(name).to(dtype), whole.with_inputs(inputs)


def trace(name: str, rank: int = 0, world: int = 1, micro_batches: int = 1) -> Iterator[tuple[str, Tensor]]:
    """The losses of each step, and the gradients of the last one, of the method's stages one after the other."""
    accelerator = Accelerator(cpu=True)
    method, whole = method_and_batch(name)
    first, last = BOUNDS[world][rank : rank + 2]
    stages = {stage.name: stage for stage in method.stages}
    for stage, part in stage_batches(method, whole):
        method.zero_grad()
        for key, parameter in method.named_parameters():
            parameter.requires_grad_(stages[stage].is_trained(key))
        moving = [p for p in method.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(moving, lr=1e-4)
        model: nn.Module = nn.parallel.DistributedDataParallel(method) if world > 1 else method
        for step in range(STEPS):
            optimizer.zero_grad()
            context = StepContext(stage=stage, epoch=1, progress=step / STEPS, seed=step)
            own = part._rows(slice(first, last))
            terms = backward(accelerator, model, own, micro_batches=micro_batches, context=context, seed=(step,))
            yield from ((f"{stage}, step {step}: {term}", value) for term, value in terms.items())
            if step < STEPS - 1:
                optimizer.step()
        gradients = ((key, p.grad) for key, p in method.named_parameters() if p.grad is not None)
        yield from ((f"{stage}: gradient of {key}", gradient.clone()) for key, gradient in gradients)


def metrics(shards: Path) -> dict[str, Any]:
    """Of an untrained method on the test split, and how often each sample was embedded."""
    data = Data(shards, image_size=32, load_size=32, words=WordVectors(dim=6), workers=0)
    tokenizer, words = fit_words(data)
    torch.manual_seed(0)
    method = METHODS["dscmr"]().build(DatasetInfo(4, False, 32, torch.from_numpy(words)))
    embedded = embed_split(method, data, tokenizer, "test")
    return {"scores": validation_scores(method, embedded), "positions": embedded.positions["image"].tolist()}


def run_rank(rank: int, world: int, port: int, shards: Path, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    found = {name: dict(trace(name, rank, world)) for name in NAMES}
    torch.save({**found, "figures": metrics(shards)}, f"{out}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request: pytest.FixtureRequest, tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each of two or four processes finds."""
    world = request.param

    def find(out: Path) -> None:
        run_ranks(run_rank, (world, free_port(), tiny_shards, str(out)), world)

    out = made_once(tmp_path_factory, f"same_answer_of_{world}", find)
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(world)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """What one process finds."""

    def find(out: Path) -> None:
        torch.save({name: dict(trace(name)) for name in NAMES}, out / "0.pt")

    found: dict[str, dict[str, Tensor]]
    found = torch.load(made_once(tmp_path_factory, "same_answer_alone", find) / "0.pt", weights_only=True)
    return found


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    largest = max((float(value.norm()) for key, value in expected.items() if "gradient" in key), default=0.0)
    for key, value in expected.items():
        # A gradient that is zero but for rounding, as that of a bias before a normalisation, is compared with the rest.
        scale = max(float(value.norm()), 1e-2 * largest if "gradient" in key else 1e-6)
        difference = float((found[key] - value).norm())
        assert difference <= 1e-5 * scale, f"{key} differs by {difference / scale:.1e}"


@pytest.mark.parametrize("name", NAMES)
def test_several_processes_go_the_way_of_one(ranks: list[Any], alone: dict[str, dict[str, Tensor]], name: str) -> None:
    for rank in ranks:
        assert_same(rank[name], alone[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_process_with_four_pieces_goes_the_way_of_one_with_the_whole_batch(
    alone: dict[str, dict[str, Tensor]], name: str
) -> None:
    assert_same(dict(trace(name, micro_batches=4)), alone[name])


def test_figures_do_not_depend_on_the_number_of_processes_and_each_sample_counts_once(
    ranks: list[Any], tiny_shards: Path
) -> None:
    expected = metrics(tiny_shards)
    for rank in ranks:
        assert rank["figures"]["positions"] == list(range(12))
        assert rank["figures"]["scores"] == pytest.approx(expected["scores"], abs=1e-7)
