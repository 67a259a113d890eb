"""Every method on a miniature: what trains, what stands still, and whether frozen towers are what they were."""

from __future__ import annotations

import inspect
import json
import re
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import xmr_e2e
from tests.helpers.miniatures import shrunk
from tests.helpers.small_methods import (
    DATASET,
    IMAGE,
    METHODS,
    TEXT,
    batch,
    build,
    stage_batches,
)
from xmr_e2e.configuration import document_type
from xmr_e2e.data.batch import Batch
from xmr_e2e.data.config import Data
from xmr_e2e.data.inputs import CachedFeatures, Tokens
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method, MethodConfig
from xmr_e2e.methods.discovery import all_methods, method_name
from xmr_e2e.methods.semantic_sharing import SemanticSharing
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train
from xmr_e2e.towers.text import BiGruWords
from xmr_e2e.towers.vector import VectorTower
from xmr_e2e.training.launch import run_experiment
from xmr_e2e.training.processes import make_accelerator
from xmr_e2e.training.signals import SIGNALS

for kind in all_methods():
    # With the defaults of its options, those that no line above makes small.
    name = method_name(document_type(kind))
    if name not in METHODS:
        METHODS[name] = partial(lambda kind, **options: shrunk(kind(image=IMAGE, text=TEXT, **options)), kind)
CLOSED_FORM = ("cca", "jrl", "kcca", "mcca", "probe", "scm")
"""methods whose last stage is one, and with frozen towers the only one"""
WORDS = "towers.text.words.weight"


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
        *("base", "canonical", "classifier", "correlated", "discovery", "finite", "fitted", "prenorm_encoder"),
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


def test_the_methods_of_two_modalities_are_those_whose_papers_have_two() -> None:
    of_two = {name.partition(" ")[0] for name in PAIRS}
    of_all = {name.partition(" ")[0] for name, make in METHODS.items() if make().most_modalities is None}
    assert of_two == set("acmr alscor cca corr_ae dcca dccae deep_sm dscmr kcca probe scm sdcmr".split())
    assert of_all == set("contrastive drcl jrl mars mcca mrl sdml semantic_sharing".split())


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
