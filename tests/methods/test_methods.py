"""Every method on a miniature: what trains, what stands still, and whether frozen towers are what they were."""

from __future__ import annotations

import inspect
import json
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import xmr_e2e
from tests.helpers.miniatures import shrunk
from xmr_e2e.configuration import document_type
from xmr_e2e.data.batch import Batch
from xmr_e2e.data.config import Data
from xmr_e2e.data.inputs import CachedFeatures, Tokens
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.acmr import Acmr
from xmr_e2e.methods.alscor import Alscor
from xmr_e2e.methods.base import Method, MethodConfig
from xmr_e2e.methods.cca import Cca
from xmr_e2e.methods.contrastive import Contrastive
from xmr_e2e.methods.corr_ae import CorrAe
from xmr_e2e.methods.dcca import Dcca
from xmr_e2e.methods.dccae import Dccae
from xmr_e2e.methods.deep_sm import DeepSm
from xmr_e2e.methods.discovery import all_methods, method_name
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
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.regions import GridRegions
from xmr_e2e.towers.text import BiGruWords, TextCnn
from xmr_e2e.towers.vector import VectorTower
from xmr_e2e.training.launch import run_experiment
from xmr_e2e.training.processes import make_accelerator
from xmr_e2e.training.signals import SIGNALS

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
for kind in all_methods():
    # With the defaults of its options, those that no line above makes small.
    name = method_name(document_type(kind))
    if name not in METHODS:
        METHODS[name] = partial(lambda kind, **options: shrunk(kind(image=IMAGE, text=TEXT, **options)), kind)
CLOSED_FORM = ("cca", "jrl", "kcca", "mcca", "probe", "scm")
"""methods whose last stage is one, and with frozen towers the only one"""
WORDS = "towers.text.words.weight"
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


def gradients(method: Method, whole: Batch) -> dict[str, Tensor]:
    """The sum over stages of each parameter's absolute gradient."""
    total: dict[str, Tensor] = {}
    for stage, part in stage_batches(method, whole):
        method.zero_grad()
        method(part, StepContext(stage=stage, epoch=2, progress=0.5, seed=3))["total"].backward()
        for name, parameter in method.named_parameters():
            if parameter.grad is not None:
                total[name] = total.get(name, torch.zeros(())) + parameter.grad.abs().sum()
    return total


def test_each_method_of_the_package_is_tested_and_says_of_which_paper_it_is() -> None:
    assert {type(make()) for make in METHODS.values()} == set(all_methods())
    modules = {path.stem for path in Path(inspect.getfile(MethodConfig)).parent.glob("[!_]*.py")}
    assert modules - {method_name(document_type(kind)) for kind in all_methods()} == {
        *("base", "canonical", "classifier", "correlated", "discovery", "finite", "fitted"),
        *("heads", "protocols", "stages", "start"),
    }
    for kind in all_methods():
        assert {"title", "citation"} <= vars(kind).keys()
        assert "title =" in inspect.getsource(kind) and re.search(r", (19|20)\d\d\b", kind.citation), kind
        assert all(each.name.startswith("released:") for each in kind.protocols)
    assert len({kind.title for kind in all_methods()}) == len(all_methods())


@pytest.mark.parametrize("name", [name for name in METHODS if name != "probe"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_gradients_reach_the_first_convolution_and_the_word_vectors(name: str, multi_label: bool) -> None:
    found = gradients(build(name, multi_label=multi_label), batch(multi_label=multi_label))
    assert all(value.isfinite() for value in found.values())
    first = next(key for key in found if key.startswith("towers.image"))  # in order of the layers
    assert found[first] > 0, first
    assert found[WORDS] > 0


PAIRS = [name for name, make in METHODS.items() if make().most_modalities == 2]


def paired(name: str, modalities: tuple[str, str]) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Loss terms by their order and gradients of a method on two modalities' published features."""
    torch.manual_seed(0)
    towers = dict.fromkeys(modalities, VectorTower())
    others = {other: None for other in ("image", "text") if other not in towers}
    config = replace(METHODS[name](), **others, **towers)
    method = config.build(replace(DATASET, widths=dict.fromkeys(modalities, 6))).train()
    rows = torch.randn(2, 12, 6, generator=torch.Generator().manual_seed(2))
    whole = batch().with_inputs(dict(zip(modalities, rows)))
    terms: dict[str, Tensor] = {}
    for stage, part in stage_batches(method, whole):
        found = method(part, StepContext(stage=stage, epoch=2, progress=0.5, seed=3))
        terms |= {f"{stage} {number}": term.detach() for number, term in enumerate(found.values())}
    return terms, [*gradients(method, whole).values()]


@pytest.mark.parametrize("name", [name for name in PAIRS if name != "probe"])
def test_a_method_of_pairs_does_with_any_two_modalities_what_it_does_with_others(name: str) -> None:
    terms, learned = paired(name, ("image", "audio"))
    others, also = paired(name, ("video", "shape3d"))
    assert terms.keys() == others.keys() and all(term.isfinite() for term in terms.values())
    assert all(torch.equal(terms[key], others[key]) for key in terms)
    assert len(learned) == len(also) > 0 and all(map(torch.equal, learned, also))


@pytest.mark.parametrize("name", PAIRS)
def test_a_method_of_pairs_wants_two_modalities(name: str) -> None:
    config = replace(METHODS[name](), audio=VectorTower())
    with pytest.raises(XmrError, match=r"takes two modalities, not 3: leave out one of image, text, audio"):
        config.build(replace(DATASET, widths={"audio": 6}))


@pytest.mark.parametrize("name", METHODS)
def test_frozen_towers_get_no_gradient_and_heads_do(name: str) -> None:
    method = build(name, frozen=True)
    found = gradients(method, batch())
    assert not [key for key in found if any(key.startswith(f"towers.{modality}") for modality in method.frozen)]
    assert method.frozen
    if name not in CLOSED_FORM:
        assert sum(found.values()) > 0


@pytest.mark.parametrize("name", METHODS)
def test_extracted_features_stand_for_their_inputs(name: str) -> None:
    method = build(name, frozen=True)
    inputs = batch().inputs
    with torch.no_grad():
        method.eval()
        for modality in method.frozen:
            cached_features = CachedFeatures(method.features(modality, inputs[modality]))
            assert torch.equal(method.embed(modality, cached_features), method.embed(modality, inputs[modality]))


@pytest.mark.parametrize("name", [name for name in METHODS if name not in CLOSED_FORM])
def test_the_same_seed_gives_the_same_losses(name: str) -> None:
    method = build(name)
    for module in method.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    stage, part = stage_batches(method, batch())[-1]
    values = []
    for seed in (3, 3, 4):
        torch.manual_seed(9)  # masks are drawn with the towers'
        values.append(method(part, StepContext(stage=stage, seed=seed))["total"].item())
    assert values[0] == values[1]
    if name in ("dscmr", "sdcmr", "drcl", "drcl without label", "semantic_sharing", "dcca", "acmr"):
        draws = ("sdcmr", "drcl", "drcl without label")  # noise, or a permutation
        assert (values[0] != values[2]) == (name in draws)


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


def train(config: MethodConfig, shards: Path, runs: Path, *, epochs: int = 1) -> Path:
    """A run in this process; returns its folder."""
    experiment = Experiment(
        name="tiny",
        data=Data(shards, image_size=32, load_size=32, words=WordVectors(dim=6), workers=0),
        method=config,
        optimizer=Optimizer(lr=3e-3),
        train=Train(epochs=epochs, batch_size=20, runs=runs, report=False),
    )
    assert run_experiment(experiment, make_accelerator(experiment.train)) == 0
    (run,) = (runs / "tiny").iterdir()
    return run


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_to_a_model_that_loads(name: str, frozen: bool, tiny_shards: Path, tmp_path: Path) -> None:
    handlers = [signal.getsignal(number) for number in SIGNALS]
    run = train(METHODS[name](frozen=frozen), tiny_shards, tmp_path)
    assert [signal.getsignal(number) for number in SIGNALS] == handlers  # as whoever trains in his process had them
    metrics = json.loads((run / "evaluation" / "test.json").read_bytes())["model"]["figures"]
    assert {"mAP@all", "mAP@50", "NDCG@500"} <= metrics["image_to_text"]["scores"].keys()
    rows = xmr_e2e.load(run).embed_split("test", "image")
    assert len(rows) == 12
    stages = dict.fromkeys(json.loads(line)["stage"] for line in (run / "metrics.jsonl").read_text().splitlines())
    torch.manual_seed(0)
    assert list(stages) == [stage.name for stage in METHODS[name](frozen=frozen).build(DATASET).training_stages]


def test_the_best_prior_of_drcl_is_the_one_of_the_highest_score() -> None:
    method = build("drcl")
    stages = {stage.name: stage for stage in method.stages}
    assert list(stages) == ["prior-image", "prior-text", "consistency-image", "consistency-text"]
    for name in ("prior-image", "prior-text"):
        method.begin_stage(stages[name])
        part = dict(stage_batches(method, batch()))[name]
        method(part, StepContext(stage=name))
        method.end_epoch(stages[name])
    with torch.no_grad():
        for modality, value in (("image", 1.0), ("text", 2.0)):
            method.priors[modality].fill_(value)  # type: ignore[union-attr, operator]
        z = {name: method.embed(name, batch().inputs[name]) for name in ("image", "text")}
    assert method.score.min() > 0 and z
    method.score.copy_(torch.tensor([0.2, 0.7]))
    method.begin_stage(stages["consistency-image"])
    assert (method.prior == 2.0).all()


def test_a_tower_without_regions_is_refused_by_semantic_sharing() -> None:
    with pytest.raises(XmrError, match=r"--method\.image: ImageTower gives one row per sample"):
        SemanticSharing(image=IMAGE, text=BiGruWords()).build(DATASET)


def test_masked_words_and_regions_do_not_reach_the_encoder() -> None:
    """The word under a mask may be any other: the states are the same."""
    method = build("semantic_sharing").eval()
    inputs = batch().inputs["text"]
    masked = torch.zeros(inputs.ids.shape, dtype=torch.bool)
    masked[:, 0] = True
    other = Tokens(inputs.ids.clone(), inputs.lengths)
    other.ids[:, 0] = (inputs.ids[:, 0] + 5) % 18 + 2
    one, two = (method.towers["text"](tokens, masked).features for tokens in (inputs, other))
    assert torch.equal(one, two)
    assert not torch.equal(one, method.towers["text"](inputs).features)


def test_places_reach_the_scores_of_semantic_sharing() -> None:
    method = build("semantic_sharing").eval()
    sequence = method.features("image", batch().inputs["image"])
    moved = sequence._replace(positions=sequence.positions / 2)
    assert not torch.allclose(
        method.embed("image", CachedFeatures(moved)), method.embed("image", CachedFeatures(sequence))
    )
