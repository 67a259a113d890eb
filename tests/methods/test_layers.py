"""The layers of the methods' heads and discriminators: in number, order and width as the papers and their code have
them."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from tests.helpers.references import DATASET, WIDTHS
from xmr_e2e.methods.acmr import Acmr
from xmr_e2e.methods.alscor import Alscor
from xmr_e2e.methods.base import MethodConfig
from xmr_e2e.methods.corr_ae import CorrAe
from xmr_e2e.methods.dcca import Dcca
from xmr_e2e.methods.dccae import Dccae
from xmr_e2e.methods.drcl import Drcl
from xmr_e2e.methods.mars import Mars
from xmr_e2e.methods.mrl import Mrl
from xmr_e2e.methods.sdcmr import Sdcmr
from xmr_e2e.methods.sdml import Sdml
from xmr_e2e.towers.vector import VectorTower

TOWERS: dict[str, Any] = {"image": VectorTower(), "text": VectorTower()}
IMAGE, TEXT, CLASSES = WIDTHS["image"], WIDTHS["text"], DATASET.classes


def layers(module: nn.Module) -> list[object]:
    """(inputs, outputs) of a linear layer, with "no bias" where it has none; the name of any other, and whether it has
    parameters."""
    found: list[object] = []
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            width = (layer.in_features, layer.out_features)
            found.append(width if layer.bias is not None else (*width, "no bias"))
        elif not list(layer.children()):
            found.append(type(layer).__name__ + (" that learns" if list(layer.parameters()) else ""))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "module", "expected"),
    [
        (Alscor(**TOWERS, dim=40), "discriminator", [(40, 20), "ReLU", (20, 10), "ReLU", (10, 2)]),
        (Alscor(**TOWERS, dim=40), "classifier", [(40, CLASSES)]),
        (Alscor(**TOWERS, dim=40), "projections.text", [(TEXT, 40, "no bias")]),
        (Acmr(**TOWERS), "discriminator", [(40, 20), "ReLU", (20, 10), "ReLU", (10, 2)]),
        (
            Acmr(**TOWERS),
            "projections.image",
            [(IMAGE, 512), "Tanh", (512, 100), "Tanh", (100, 40), "Tanh"],
        ),
        (Acmr(**TOWERS), "projections.text", [(TEXT, 40), "Tanh", (40, 100), "Tanh", (100, 40), "Tanh"]),
        (
            Dcca(**TOWERS, layers=2),
            "networks.text",
            [
                *("BatchNorm1d", (TEXT, 1024), "Sigmoid", "BatchNorm1d"),
                *((1024, 1024), "Sigmoid", "BatchNorm1d", (1024, 20)),
            ],
        ),
        (
            Dccae(**TOWERS, layers=1, hidden=64),
            "decoders.text",
            ["BatchNorm1d", (20, 64), "Sigmoid", "BatchNorm1d", (64, TEXT)],
        ),
        (Mrl(**TOWERS), "encoders.text", [(TEXT, 4096), "ReLU", (4096, 4096), "ReLU", (4096, 512)]),
        (CorrAe(**TOWERS), "standardize.image", ["BatchNorm1d"]),
        (Alscor(**TOWERS), "standardize.text", ["BatchNorm1d"]),
        (Sdcmr(**TOWERS), "unrelated.text", [(TEXT, 2048), "ReLU", (2048, 1024), "ReLU", (1024, 64)]),
        (Sdcmr(**TOWERS), "entrance.image", [(IMAGE, 2048)]),
        (Sdcmr(**TOWERS), "shared", [(2048, 1024), "ReLU", (1024, 64)]),
        (Sdcmr(**TOWERS), "decoders.image", [(64, 1024), "ReLU", (1024, 2048), "ReLU", (2048, IMAGE)]),
        (Sdcmr(**TOWERS), "semantic", [(32, 16), "ReLU", (16, CLASSES)]),
        (Sdcmr(**TOWERS), "modality", [(32, 16), "ReLU", (16, 2)]),
        (Drcl(**TOWERS), "encoders.text", [(TEXT, 4096), "ReLU", (4096, 4096), "ReLU", (4096, 2048, "no bias")]),
        (Mars(**TOWERS), "encoders.image", [(IMAGE, 2048), "ReLU", (2048, 1024), "ReLU"]),
        (Mars(**TOWERS), "exclusive.text", [(1024, 128, "no bias")]),
        (Mars(**TOWERS), "label_network", [(CLASSES, 1024), "ReLU", (1024, 1024), "ReLU", (1024, 128)]),
        (Sdml(**TOWERS), "encoders.text", [(TEXT, 1024), "ReLU", (1024, 1024), "ReLU", (1024, 512)]),
        (Sdml(**TOWERS), "decoders.image", [(512, 1024), "ReLU", (1024, 1024), "ReLU", (1024, IMAGE)]),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_layers_are_as_published(config: MethodConfig, module: str, expected: list[object]) -> None:
    assert layers(config.build(DATASET).get_submodule(module)) == expected
