"""Every method in a small size, and batches for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from xmr_e2e.data.batch import Batch
from xmr_e2e.data.inputs import Tokens
from xmr_e2e.methods.acmr import Acmr
from xmr_e2e.methods.alscor import Alscor
from xmr_e2e.methods.base import Method, MethodConfig
from xmr_e2e.methods.cca import Cca
from xmr_e2e.methods.contrastive import Contrastive
from xmr_e2e.methods.corr_ae import CorrAe
from xmr_e2e.methods.dcca import Dcca
from xmr_e2e.methods.dccae import Dccae
from xmr_e2e.methods.deep_sm import DeepSm
from xmr_e2e.methods.drcl import Drcl
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.methods.jrl import Jrl
from xmr_e2e.methods.kcca import Kcca
from xmr_e2e.methods.mars import Mars
from xmr_e2e.methods.mcca import Mcca
from xmr_e2e.methods.mrl import Mrl
from xmr_e2e.methods.probe import Probe
from xmr_e2e.methods.scm import Scm
from xmr_e2e.methods.sdcmr import Sdcmr
from xmr_e2e.methods.sdml import Sdml
from xmr_e2e.methods.semantic_sharing import SemanticSharing
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.regions import GridRegions
from xmr_e2e.towers.text import BiGruWords, TextCnn

IMAGE, TEXT = ImageTower("resnet10_slim", weights="none"), TextCnn(kernels=8)
SHARED = {
    "image": GridRegions("resnet10_slim", weights="none", cells=2),
    "text": BiGruWords(hidden=8),
    **{"dim": 16, "layers": 2, "heads": 2, "feedforward": 16},
}
METHODS: dict[str, Callable[..., MethodConfig]] = {
    "acmr": lambda **options: Acmr(image=IMAGE, text=TEXT, **options),
    "acmr released": lambda **options: Acmr(
        image=IMAGE, text=TEXT, triplets="released", adversary="released", **options
    ),
    "alscor": lambda **options: Alscor(image=IMAGE, text=TEXT, dim=4, **options),
    "alscor without adversary": lambda **options: Alscor(image=IMAGE, text=TEXT, dim=4, adversary=0, **options),
    "cca": lambda **options: Cca(image=IMAGE, text=TEXT, dim=4, **options),
    "contrastive": lambda **options: Contrastive(image=IMAGE, text=TEXT, dim=8, **options),
    "contrastive sigmoid": lambda **options: Contrastive(
        image=IMAGE, text=TEXT, dim=8, loss="sigmoid", standardize=True, hidden=8, **options
    ),
    "contrastive triplet": lambda **options: Contrastive(image=IMAGE, text=TEXT, dim=8, loss="triplet", **options),
    "corr_ae": lambda **options: CorrAe(image=IMAGE, text=TEXT, dim=8, **options),
    "corr_ae full": lambda **options: CorrAe(image=IMAGE, text=TEXT, dim=8, variant="full", **options),
    "dcca": lambda **options: Dcca(image=IMAGE, text=TEXT, hidden=8, dim=4, **options),
    "dccae": lambda **options: Dccae(image=IMAGE, text=TEXT, hidden=8, dim=4, **options),
    "dccae without reconstruction": lambda **options: Dccae(
        image=IMAGE, text=TEXT, hidden=8, dim=4, reconstruction=0, **options
    ),
    "deep_sm": lambda **options: DeepSm(image=IMAGE, text=TEXT, **options),
    "deep_sm hidden": lambda **options: DeepSm(image=IMAGE, text=TEXT, hidden=8, **options),
    "drcl": lambda **options: Drcl(image=IMAGE, text=TEXT, hidden=16, dim=8, **options),
    "drcl without label": lambda **options: Drcl(
        image=IMAGE, text=TEXT, hidden=16, dim=8, label=0, prior="random", mix_of="features", **options
    ),
    "dscmr": lambda **options: Dscmr(image=IMAGE, text=TEXT, hidden=16, dim=8, **options),
    "dscmr printed": lambda **options: Dscmr(
        image=IMAGE,
        text=TEXT,
        hidden=16,
        dim=8,
        classifier="closed_form",
        activation="relu",
        norm="frobenius",
        **options,
    ),
    "dscmr without label": lambda **options: Dscmr(image=IMAGE, text=TEXT, hidden=16, dim=8, label=0, **options),
    "jrl": lambda **options: Jrl(image=IMAGE, text=TEXT, **options),
    "kcca": lambda **options: Kcca(image=IMAGE, text=TEXT, dim=4, landmarks=20, **options),
    "mars": lambda **options: Mars(image=IMAGE, text=TEXT, dim=8, **options),
    "mrl": lambda **options: Mrl(image=IMAGE, text=TEXT, hidden=16, dim=8, **options),
    "mrl without clustering": lambda **options: Mrl(image=IMAGE, text=TEXT, hidden=16, dim=8, clustering=0, **options),
    "mcca": lambda **options: Mcca(image=IMAGE, text=TEXT, dim=4, **options),
    "probe": lambda frozen=True, **options: Probe(image=IMAGE, text=TEXT, **options),
    "scm": lambda **options: Scm(image=IMAGE, text=TEXT, dim=4, **options),
    "sdcmr": lambda **options: Sdcmr(image=IMAGE, text=TEXT, dim=4, **options),
    "sdcmr literal": lambda **options: Sdcmr(
        image=IMAGE, text=TEXT, dim=4, update="literal", likelihood="gaussian", final_relu=True, **options
    ),
    "sdcmr without adversary": lambda **options: Sdcmr(image=IMAGE, text=TEXT, dim=4, adversary=0, **options),
    "sdcmr without unrelated": lambda **options: Sdcmr(
        image=IMAGE, text=TEXT, dim=4, factors="shared", independence=0, reconstruction=0, **options
    ),
    "sdml": lambda **options: Sdml(image=IMAGE, text=TEXT, dim=8, **options),
    "semantic_sharing": lambda **options: SemanticSharing(**SHARED, **options),
    "semantic_sharing released": lambda **options: SemanticSharing(**SHARED, released=True, **options),
    "semantic_sharing without label": lambda **options: SemanticSharing(
        **SHARED, label=0, context=0, consistency=1, embedding="states", **options
    ),
    "semantic_sharing without regions": lambda **options: SemanticSharing(
        **SHARED, inputs="global", encoder="layer", context=0, shared=False, **options
    ),
}
DATASET = DatasetInfo(
    classes=3, multi_label=False, image_size=32, words=torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
)


def batch(*, multi_label: bool = False) -> Batch:
    """12 samples."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(2, 8, (12,), generator=generator)
    ids = torch.randint(2, 20, (12, 8), generator=generator) * (torch.arange(8) < lengths[:, None])
    labels = torch.eye(3)[torch.arange(12) % 3]
    if multi_label:
        labels = (torch.rand(12, 3, generator=generator) < 0.5).float()
        labels[0] = 0  # a sample without any label breaks nothing
    return Batch(
        inputs={"image": torch.randn(12, 3, 32, 32, generator=generator), "text": Tokens(ids, lengths)},
        labels=labels,
        positions=torch.arange(12) % 10,  # two samples are there twice, as in class-balanced batches
        keys=tuple(map(str, range(12))),
    )


def build(name: str, *, multi_label: bool = False, frozen: bool = False) -> Method:
    torch.manual_seed(0)
    return METHODS[name](frozen=frozen).build(replace(DATASET, multi_label=multi_label)).train()


def stage_batches(method: Method, whole: Batch) -> list[tuple[str, Batch]]:
    """The stages that train by gradient, each with its part of the inputs."""
    return [
        (stage.name, replace(whole, inputs={name: whole.inputs[name] for name in stage.modalities}))
        for stage in method.stages
        if not stage.closed_form
    ]


def without_chance(name: str) -> Method:
    """The method with a tower that has neither batch statistics nor dropout, and without masks (test_same_answer)."""
    torch.manual_seed(0)
    config = METHODS[name]()
    smooth = {"weights": "none", "name": "squeezenet1_1"}
    config = replace(config, image=replace(config.image, **smooth))  # type: ignore[type-var]
    if isinstance(config, SemanticSharing):
        config = replace(config, masked=0.0)
    method = config.build(DATASET).train()
    for module in method.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return method
