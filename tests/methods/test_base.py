"""The parts of every method: its stages' parameters, its towers, the halves of its step, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.references import DATASET, LayerTower, build, inputs_of, labels_of
from xmr_e2e.data.batch import Batch
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.acmr import Acmr
from xmr_e2e.methods.alscor import Alscor
from xmr_e2e.methods.base import Method, MethodConfig, build_method
from xmr_e2e.methods.cca import Cca
from xmr_e2e.methods.corr_ae import CorrAe
from xmr_e2e.methods.dcca import Dcca
from xmr_e2e.methods.dccae import Dccae
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.methods.finite import NotFinite
from xmr_e2e.methods.mars import Mars
from xmr_e2e.methods.mrl import Mrl
from xmr_e2e.methods.sdcmr import Sdcmr
from xmr_e2e.methods.stages import Stage, StepContext, has_prefix

TOWERS: dict[str, Any] = {"image": LayerTower(dim=6), "text": LayerTower(dim=7)}
CONFIG = Dscmr(**TOWERS, hidden=8, dim=5)


def batch_of(samples: int = 7) -> Batch:
    """Seven rows of each modality, of which so many are samples."""
    labels = labels_of("single-label")[:samples]
    return Batch(inputs_of("image", "text"), labels, torch.arange(samples), tuple(map(str, range(samples))))


# ---- names, stages and configurations


def test_a_part_is_a_whole_name_or_whole_beginnings_of_it() -> None:
    assert has_prefix("towers.image.weight", "towers.image") and has_prefix("towers.image", "towers.image")
    assert has_prefix("towers.image", "")
    assert not has_prefix("towers.image2.weight", "towers.image") and not has_prefix("towers", "towers.image")


def test_a_stage_moves_its_parts_and_all_where_it_names_none() -> None:
    stage = Stage("one", ("image",), prefixes=("towers.image", "heads"))
    names = ["towers.image.weight", "towers.text.weight", "heads.0.bias", "head.bias"]
    assert [stage.is_trained(name) for name in names] == [True, False, True, False]
    assert all(Stage("all", ("image",)).is_trained(name) for name in names)


def test_a_stage_leaves_out_what_no_term_reaches() -> None:
    names = ["towers.image.weight", "classifier.weight", "classifier2.weight"]
    stage = Stage("all", ("image",), without=("classifier",))
    assert [stage.is_trained(name) for name in names] == [True, False, True]
    stage = Stage("one", ("image",), prefixes=("towers", "classifier"), without=("classifier",))
    assert [stage.is_trained(name) for name in names] == [True, False, False]


def test_a_stage_is_by_default_one_of_steps_that_is_kept_by_its_figure() -> None:
    stage = build(CONFIG).stages
    assert stage == (Stage("training", ("image", "text"), (), "metric", closed_form=False),)
    assert StepContext() == StepContext(stage="", epoch=0, progress=0.0, seed=0)  # the beginning of a training


def test_towers_are_those_of_the_modalities_that_have_one_in_their_order() -> None:
    config = Mars(text=LayerTower(dim=7), image=LayerTower(dim=6), audio=None, dim=4)
    assert list(config.towers) == ["image", "text"]
    assert config.input_kinds == {"image": "vector", "text": "vector"}
    assert build(config).modalities == ("image", "text")
    assert build(config).widths() == {"image": 6, "text": 7}


def test_one_tower_is_refused() -> None:
    with pytest.raises(XmrError, match="needs towers for two modalities or more"):
        replace(CONFIG, text=None).build(DATASET)


@dataclass(frozen=True)
class Failing(LayerTower):
    """A tower whose building fails with these words."""

    words: str = ""

    def build(self, dataset: Any, modality: str) -> Any:
        raise RuntimeError(self.words)


@pytest.mark.parametrize("words", ["[enforce fail] can't allocate memory: you tried", "not enough memory: you tried"])
def test_networks_that_do_not_fit_into_memory_are_refused_in_one_line(words: str) -> None:
    with pytest.raises(XmrError, match="do not fit into memory: lower the widths under --method"):
        build_method(replace(CONFIG, text=Failing(words=words)), DATASET)
    with pytest.raises(RuntimeError, match="another"):
        build_method(replace(CONFIG, text=Failing(words="another")), DATASET)


LEARNERS: dict[str, MethodConfig] = {
    "acmr": Acmr(**TOWERS),
    "alscor": Alscor(**TOWERS, dim=4),
    "cca": Cca(**TOWERS, dim=4),
    "cca, frozen": Cca(**TOWERS, dim=4, frozen=True),
    "corr_ae": CorrAe(**TOWERS, dim=4),
    "corr_ae, frozen": CorrAe(**TOWERS, dim=4, frozen=True),
    "dcca": Dcca(**TOWERS, hidden=8, dim=4),
    "dccae": Dccae(**TOWERS, hidden=8, dim=4),
    "mrl": Mrl(**TOWERS, hidden=8, dim=4),
    "mrl, without clustering": Mrl(**TOWERS, hidden=8, dim=4, clustering=0),
    "alscor, without classes": Alscor(**TOWERS, dim=4, discrimination=0),
    "dscmr": CONFIG,
    "dscmr, invariance alone": replace(CONFIG, label=0.0, common=0.0),
    "sdcmr": Sdcmr(**TOWERS, dim=4),
    "sdcmr, without adversary": Sdcmr(**TOWERS, dim=4, adversary=0),
    "mars": Mars(**TOWERS, dim=4),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_labels_are_needed_where_a_stages_loss_depends_on_them(name: str) -> None:
    method, batch = build(LEARNERS[name]), batch_of()
    depends = False
    for stage in method.stages:
        if not stage.closed_form:
            part = batch.with_inputs({modality: batch.inputs[modality] for modality in stage.modalities})
            found = []
            for labels in (batch.labels, batch.labels.roll(1, 0)):
                torch.manual_seed(0)  # of dropout
                terms = method(replace(part, labels=labels), StepContext(stage=stage.name, progress=0.5))
                found.append(terms["total"].item())
            depends |= found[0] != found[1]
    assert LEARNERS[name].needs_labels == depends


# ---- towers that stand still


def test_towers_that_stand_still_stay_in_evaluation_mode() -> None:
    method = build(replace(CONFIG, frozen=True, frozen_start="random"))
    assert not any(p.requires_grad for p in method.towers.parameters())
    assert all(p.requires_grad for name, p in method.named_parameters() if not name.startswith("towers"))
    assert method.training and not any(tower.training for tower in method.towers.values())
    method = build(CONFIG)
    method.towers["image"].weight.requires_grad_(False)  # its bias still moves
    assert method.train().towers["image"].training
    method.towers["image"].requires_grad_(False)
    assert not method.train().towers["image"].training and method.towers["text"].training
    assert not method.eval().towers["text"].training


# ---- the step


def test_a_stand_in_gives_no_rows() -> None:
    method, whole = build(CONFIG), batch_of()
    found, expected = method.represent_batch(batch_of(3)), method.represent(whole.inputs)
    assert found.keys() == expected.keys()
    assert all(torch.equal(rows, expected[name][:3]) for name, rows in found.items())
    assert all(len(rows) == 0 for rows in method.represent_batch(batch_of(0)).values())


@dataclass
class Given:
    """An objective that notes what it is given, and draws."""

    representations: Any = None
    labels: Any = None

    def __call__(self, representations: Any, labels: Tensor, context: StepContext) -> dict[str, Tensor]:
        self.representations, self.labels = representations, labels
        product = representations["image"] @ representations["image"].T  # bf16 where autocast is on
        return {"drawn": torch.rand(()), "total": product.sum()}


def test_objectives_see_full_precision_and_draw_by_the_moments_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    method, given = build(CONFIG), Given()
    monkeypatch.setattr(method, "objective", given)
    rows = {"image": torch.randn(7, 3).bfloat16(), "ids": torch.arange(7), "seen": torch.ones(7, dtype=torch.bool)}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = method.global_objective(rows, labels_of("multi-label"), StepContext(seed=5))
    assert terms["total"].dtype == torch.float32
    assert torch.equal(terms["total"], (rows["image"].float() @ rows["image"].float().T).sum())
    assert given.representations["ids"].dtype == torch.int64 and given.representations["seen"].dtype == torch.bool
    assert torch.equal(given.labels, labels_of("multi-label"))
    assert torch.equal(terms["drawn"], torch.rand((), generator=torch.Generator().manual_seed(5)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_first_representations_that_are_not_finite_are_named_with_their_samples(bad: float) -> None:
    method, embeddings = build(CONFIG), {name: torch.ones(7, 3) for name in ("image", "text", "other")}
    embeddings["text"][[2, 5], 1] = bad
    embeddings["other"][0] = bad
    with pytest.raises(NotFinite, match="NaN or infinite values in the text representations") as caught:
        method.global_objective(embeddings, labels_of("single-label"), StepContext())
    assert caught.value.what == "the text representations"
    assert caught.value.rows is not None and caught.value.rows.tolist() == [row in (2, 5) for row in range(7)]


def test_a_loss_term_that_is_not_finite_is_named_and_no_sample_is_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    method = build(CONFIG)
    terms = {"label": torch.tensor(1.0), "common": torch.tensor(float("nan")), "total": torch.tensor(float("nan"))}
    monkeypatch.setattr(method, "objective", lambda *_: terms)
    with pytest.raises(NotFinite, match="the loss term 'common'") as caught:
        method(batch_of())
    assert caught.value.rows is None


def gradients_of(method: Method) -> dict[str, Tensor | None]:
    return {name: None if p.grad is None else p.grad.clone() for name, p in method.named_parameters()}


def test_the_representations_gradients_sent_through_the_towers_are_those_of_the_loss() -> None:
    method, batch = build(CONFIG), batch_of()
    method(batch)["total"].backward()
    expected = gradients_of(method)
    leaves = {name: rows.detach().requires_grad_() for name, rows in method.represent_batch(batch).items()}
    method.zero_grad()
    method.global_objective(leaves, batch.labels, StepContext())["total"].backward()
    own = gradients_of(method)  # of parameters that the objective itself uses, if there are any
    method.zero_grad()
    sent = {name: rows.grad for name, rows in leaves.items() if rows.grad is not None}
    method(batch, gradients=sent)["total"].backward()
    assert any(value is not None and value.abs().max() > 0 for value in gradients_of(method).values())
    for name, value in gradients_of(method).items():
        whole = sum(each for each in (value, own[name]) if each is not None)
        torch.testing.assert_close(whole, expected[name])


def test_all_parameters_get_zeros_where_they_are_asked_for() -> None:
    method, batch = build(Alscor(**TOWERS, dim=4)), batch_of()
    sent = {name: torch.ones_like(rows) for name, rows in method.represent_batch(batch).items()}
    method(batch, gradients=sent)["total"].backward()
    some = gradients_of(method)
    method.zero_grad()
    method(batch, gradients=sent, all_parameters=True)["total"].backward()
    every = gradients_of(method)
    assert any(value is None for value in some.values())
    for name, value in some.items():
        torch.testing.assert_close(every[name], torch.zeros_like(every[name]) if value is None else value)  # type: ignore[arg-type]
