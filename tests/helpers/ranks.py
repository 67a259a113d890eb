"""Processes that compute the loss and gradients of one batch together."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn

from xmr_e2e.data.batch import Batch
from xmr_e2e.data.inputs import Tokens
from xmr_e2e.methods.alscor import Alscor
from xmr_e2e.methods.base import Method
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import BiLstmCnn
from xmr_e2e.training.gradcache import backward
from xmr_e2e.training.micro_batches import MicroBatches

METHOD = Alscor(image=ImageTower("squeezenet1_1", "none"), text=BiLstmCnn(hidden=8, kernels=16), dim=4)


def method(*, dropout: bool = False, multi_label: bool = False) -> Method:
    torch.manual_seed(0)
    built = METHOD.build(DatasetInfo(4, multi_label, 48, torch.randn(30, 8)))
    # A larger start than the paper's: gradients that can be compared.
    for projection in built.projections.values():
        nn.init.normal_(projection.weight, std=0.3)
    for module in built.modules():
        if isinstance(module, nn.Dropout) and not dropout:
            module.p = 0.0
    return built.double().train()  # fp64, so that only true differences show


def batch(rows: slice = slice(None)) -> Batch:
    """14 samples, or some of them."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(3, 10, (14,), generator=generator)
    ids = torch.randint(2, 30, (14, 10), generator=generator) * (torch.arange(10) < lengths[:, None])
    return Batch(
        inputs={
            "image": torch.randn(14, 3, 48, 48, generator=generator, dtype=torch.float64)[rows],
            "text": Tokens(ids[rows], lengths[rows]),
        },
        labels=torch.eye(4)[torch.arange(14) % 4][rows],
        positions=torch.arange(14)[rows],
        keys=tuple(map(str, range(14)))[rows],
    )


def losses_and_gradients(
    accelerator: Accelerator, model: Any, part: Batch, micro_batches: int | MicroBatches
) -> dict[str, Tensor]:
    terms = backward(
        accelerator,
        model,
        part,
        micro_batches=micro_batches,
        context=StepContext(progress=0.3),
        seed=(0, 1, 2),
    )
    gradients = {name: p.grad for name, p in accelerator.unwrap_model(model).named_parameters()}
    return {**{f"loss {name}": value for name, value in terms.items()}, **gradients}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        close = torch.allclose(found[name], value, rtol=0, atol=1e-9 * float(value.abs().max()))
        assert close, f"{name} differs by {(found[name] - value).abs().max()}"


def run_rank(rank: int, world: int, port: int, micro_batches: int | MicroBatches, out: str) -> None:
    """One of several real processes over gloo."""
    torch.set_num_threads(1)
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in ranks.items()})  # which the accelerator looks at
    dist.init_process_group("gloo")
    bounds = [0, 5, 14] if world == 2 else [0, 2, 5, 9, 14]  # of different size on each rank
    model = nn.parallel.DistributedDataParallel(method())
    accelerator = Accelerator(cpu=True)
    assert accelerator.use_distributed
    found = losses_and_gradients(accelerator, model, batch(slice(bounds[rank], bounds[rank + 1])), micro_batches)
    torch.save(found, f"{out}/{rank}.pt")
    dist.destroy_process_group()
