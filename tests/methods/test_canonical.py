"""CCA and DCCA: objectives and closed forms against symmetric matrix roots, the choice of an epoch, unfitted models."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import xmr_e2e
from tests.helpers.references import (
    LABELS,
    LayerTower,
    Rows,
    array,
    build,
    inputs_of,
    labels_of,
    learners,
    run,
    softmax,
    terms_of,
)
from tests.helpers.references import values as values_of
from xmr_e2e.cli import main
from xmr_e2e.data.config import Data
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import MethodConfig
from xmr_e2e.methods.canonical import CanonicalProjections, scale_of
from xmr_e2e.methods.cca import Cca
from xmr_e2e.methods.dcca import Dcca, DccaModel
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn
from xmr_e2e.training.launch import run_experiment
from xmr_e2e.training.processes import make_accelerator
from xmr_e2e.training.trainer import Trainer

TOWERS: dict[str, Any] = {"image": LayerTower(dim=6), "text": LayerTower(dim=7)}


class Canonical(NamedTuple):
    means: list[Rows]
    projections: list[Rows]
    correlations: Rows

    def project(self, view: int, rows: Rows) -> Rows:
        return np.asarray((rows - self.means[view]) @ self.projections[view])


def canonical(x: Rows, y: Rows, k: int, ridge: float) -> Canonical:
    """Linear CCA by symmetric roots; the ridge is a share of each covariance's mean diagonal."""
    views, covariance, d = [x, y], np.cov(x, y, rowvar=False), x.shape[1]
    roots = []
    for block in (covariance[:d, :d], covariance[d:, d:]):
        values, vectors = np.linalg.eigh(block + ridge * np.trace(block) / len(block) * np.eye(len(block)))
        roots.append(vectors @ np.diag(values**-0.5) @ vectors.T)
    left, correlations, right = np.linalg.svd(roots[0] @ covariance[:d, d:] @ roots[1])
    projections = [roots[0] @ left[:, :k], roots[1] @ right[:k].T]
    return Canonical([view.mean(0) for view in views], projections, correlations[:k])


def pair_of_views(n: int = 60) -> tuple[Rows, Rows]:
    """With common directions, and of very different scales and offsets."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(n, 3)) * [1.0, 0.7, 0.4]
    x = 50 * (latent @ rng.normal(size=(3, 6)) + 0.5 * rng.normal(size=(n, 6))) + 7
    y = 0.02 * (latent @ rng.normal(size=(3, 5)) + 0.5 * rng.normal(size=(n, 5))) - 1
    return x, y


@pytest.mark.parametrize("ridge", [1e-3, 0.2])
def test_the_fitted_projections_equal_those_of_symmetric_roots(ridge: float) -> None:
    x, y = pair_of_views()
    module, expected = CanonicalProjections({"image": 6, "text": 5}, 3).double(), canonical(x, y, 3, ridge)
    correlations = module.fit({"image": torch.from_numpy(x), "text": torch.from_numpy(y)}, ridge=ridge)
    np.testing.assert_allclose(correlations, expected.correlations, rtol=1e-9)
    projected = [array(module(name, torch.from_numpy(rows))) for name, rows in (("image", x), ("text", y))]
    for view, rows in enumerate((x, y)):
        np.testing.assert_allclose(np.abs(projected[view]), np.abs(expected.project(view, rows)), rtol=1e-6, atol=1e-9)
    # A direction's sign is open, but it is the same in both views.
    signs = [np.sign(projected[view][0] / expected.project(view, rows)[0]) for view, rows in enumerate((x, y))]
    assert np.array_equal(*signs)


def test_rows_in_fp32_are_fitted_in_fp64() -> None:
    x, y = (torch.from_numpy(rows).float() for rows in pair_of_views())
    half, full = CanonicalProjections({"image": 6, "text": 5}, 3), CanonicalProjections({"image": 6, "text": 5}, 3)
    found, expected = (
        half.fit({"image": x, "text": y}, ridge=1e-3),
        full.fit({"image": x.double(), "text": y.double()}, ridge=1e-3),
    )
    assert found.dtype == torch.float64 and torch.equal(found, expected)
    for name, value in full.state_dict().items():
        assert torch.equal(half.state_dict()[name], value), name


def test_rows_pass_as_they_are_until_the_projections_are_fitted() -> None:
    module, rows = CanonicalProjections({"image": 6, "text": 5}, 3), torch.randn(4, 6)
    assert torch.equal(module("image", rows), rows)


def test_a_modality_whose_rows_are_all_alike_correlates_with_nothing() -> None:
    """A network that was lost gives the same for all; the training goes on, and its figures say so."""
    x, y = (torch.from_numpy(rows) for rows in pair_of_views())
    alike = torch.full_like(x, 0.1)
    rounded = torch.where(x > x.median(), alike, torch.nextafter(alike, torch.ones(1, dtype=x.dtype)))
    rounded[:, 0] = 0
    for image in (alike, torch.zeros_like(x), rounded):
        module = CanonicalProjections({"image": 6, "text": 5}, 3).double()
        assert module.fit({"image": image, "text": y}, ridge=1e-3).abs().max() < 1e-6
        assert module("image", image).isfinite().all() and module("text", y).isfinite().all()


def test_embeddings_that_cca_cannot_be_fitted_to_are_refused_in_one_line() -> None:
    x, y = (torch.from_numpy(rows) for rows in pair_of_views())
    module = CanonicalProjections({"image": 6, "text": 5}, 3)
    with pytest.raises(XmrError, match="infinite text embeddings"):
        module.fit({"image": x, "text": y.where(y > y.min(), torch.nan)}, ridge=1e-3)
    with pytest.raises(XmrError, match=r"ridge 0 .*singular; raise --method\.ridge"):
        module.fit({"image": torch.zeros_like(x), "text": y}, ridge=0.0)
    assert not module.fitted


@pytest.mark.parametrize(
    ("config", "name"),
    [(Cca(**TOWERS, dim=3, ridge=0.2), "ridge"), (Dcca(**TOWERS, dim=3, linear_ridge=0.2), "linear")],
)
def test_the_closed_form_of_each_method_has_the_ridge_of_its_option(config: MethodConfig, name: str) -> None:
    method = build(config)
    x, y = pair_of_views()
    widths = (3, 3) if name == "linear" else (6, 7)
    views = {"image": x[:, : widths[0]], "text": np.hstack([y, y[:, :2] ** 2])[:, : widths[1]]}
    method.fit(method.stages[-1], {key: torch.from_numpy(rows) for key, rows in views.items()}, torch.zeros(60, 3))
    expected = canonical(views["image"], views["text"], 3, 0.2)
    for view, (key, rows) in enumerate(views.items()):
        found = array(method.canonical(key, torch.from_numpy(rows)))  # type: ignore[operator]
        np.testing.assert_allclose(np.abs(found), np.abs(expected.project(view, rows)), rtol=1e-5, atol=1e-7)


def test_the_towers_of_cca_are_kept_by_their_validation_loss() -> None:
    """No figure of retrieval is there before the closed form."""
    found = [(stage.name, stage.select, stage.closed_form) for stage in build(Cca(**TOWERS, dim=3)).stages]
    assert found == [("labels", "loss", False), ("correlation", "metric", True)]
    assert [stage.name for stage in build(Cca(**TOWERS, dim=3, frozen=True)).stages] == ["correlation"]


def test_more_correlations_than_a_tower_is_wide_are_refused() -> None:
    assert build(Cca(**TOWERS, dim=6)).widths() == {"image": 6, "text": 7}
    with pytest.raises(XmrError, match=r"--method\.dim 7 is more than the towers' widths allow \(6\)"):
        build(Cca(**TOWERS, dim=7))


# ---- what is learned by gradient


@pytest.mark.parametrize("kind", LABELS)
def test_the_towers_of_cca_learn_the_labels_each_by_itself(kind: str) -> None:
    method, inputs = build(Cca(**TOWERS, dim=3), multi_label=kind == "multi-label"), inputs_of("image", "text")
    expected = dict.fromkeys(inputs, 0.0)
    for name, rows in inputs.items():
        logits = run(method.classifiers[name], run(method.towers[name], array(rows)))  # type: ignore[index]
        for scores, truth in zip(logits, LABELS[kind]):
            made = [1 / (1 + math.exp(-score)) for score in scores] if method.multi_label else softmax(scores)
            for p, relevant in zip(made, truth):
                if relevant or method.multi_label:
                    expected[name] -= math.log(p if relevant else 1 - p) / len(logits)
    expected["total"] = expected["image"] + expected["text"]
    context = StepContext(stage="labels")
    assert values_of(terms_of(method, inputs, labels_of(kind), context)) == pytest.approx(expected, rel=1e-9)
    own = {name: {f"classifiers.{name}", f"towers.{name}"} for name in TOWERS}
    assert learners(method, inputs, labels_of(kind), context) == own | {"total": own["image"] | own["text"]}


def outputs(method: DccaModel, inputs: Mapping[str, Tensor]) -> dict[str, Rows]:
    """Of the networks in training: batch normalisation by the batch's own mean and variance."""
    found = {}
    for name, given in inputs.items():
        rows = run(method.towers[name], array(given))
        for layer in method.networks[name]:  # type: ignore[union-attr]
            if isinstance(layer, nn.BatchNorm1d):
                rows = (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5)
            else:
                rows = run(layer, rows)
        found[name] = rows
    return found


@pytest.mark.parametrize(("ridge", "square_ridge"), [(1e-3, 0.0), (0.05, 0.0), (0.05, 0.02)])
def test_dccas_total_is_minus_the_correlation_with_both_ridges(ridge: float, square_ridge: float) -> None:
    config = Dcca(**TOWERS, hidden=8, layers=2, dim=3, ridge=ridge, square_ridge=square_ridge)
    method, inputs = build(config), inputs_of("image", "text")
    assert isinstance(method, DccaModel)
    x, y = outputs(method, inputs).values()
    covariance, roots = np.cov(x, y, rowvar=False), []
    for block in (covariance[:3, :3], covariance[3:, 3:]):
        values, vectors = np.linalg.eigh(block + ridge * np.eye(3))
        roots.append(vectors @ np.diag(values**-0.5) @ vectors.T)
    cross = roots[0] @ covariance[:3, 3:] @ roots[1]
    expected = -sum(math.sqrt(square + square_ridge) for square in np.linalg.eigvalsh(cross.T @ cross))
    found = values_of(terms_of(method, inputs, labels_of("single-label")))
    assert found == {"total": pytest.approx(expected, rel=1e-6)}
    taught = {"networks.image", "networks.text", "towers.image", "towers.text"}
    assert learners(method, inputs, labels_of("single-label")) == {"total": taught}


def test_the_defaults_are_those_of_the_documentation() -> None:
    assert (Cca().dim, Cca().ridge, Cca().power) == (10, 1e-3, 0.0)
    dcca = Dcca()
    assert (dcca.hidden, dcca.layers, dcca.dim) == (1024, 3, 20)
    assert (dcca.ridge, dcca.square_ridge, dcca.linear_ridge, dcca.power) == (1e-3, 0.0, 1e-4, 0.0)


# ---- by what an epoch is kept, and models without their closed form

IMAGE, TEXT = ImageTower("resnet10_slim", weights="none"), TextCnn(kernels=8)


def experiment_of(method: MethodConfig, shards: Path, runs: Path, epochs: int = 1) -> Experiment:
    return Experiment(
        name="tiny",
        data=Data(shards, image_size=32, load_size=32, words=WordVectors(dim=6), workers=0),
        method=method,
        optimizer=Optimizer(lr=3e-3),
        train=Train(epochs=epochs, batch_size=20, runs=runs, report=False),
    )


def average_precision(query: Rows, gallery: Rows, relevant: list[bool]) -> float:
    scores = [float(query @ row / math.hypot(*query) / math.hypot(*row)) for row in gallery]
    order = sorted(range(len(gallery)), key=lambda item: -scores[item])
    hits, total = 0, 0.0
    for rank, item in enumerate(order, 1):
        if relevant[item]:
            hits += 1
            total += hits / rank
    return total / hits


def mean_average_precision(image: Rows, text: Rows, classes: list[int]) -> float:
    """Over both directions."""
    both = [(image, text), (text, image)]
    found = [
        average_precision(query, gallery, [other == own for other in classes])
        for queries, gallery in both
        for query, own in zip(queries, classes)
    ]
    return sum(found) / len(found)


@pytest.mark.slow
def test_dccas_epoch_is_kept_by_the_figure_that_its_closed_form_gives(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states, validate = [], Trainer._validate

    def look(trainer: Trainer) -> dict[str, float]:
        before = {name: value.clone() for name, value in trainer.method.state_dict().items()}
        scores = validate(trainer)
        after = trainer.method.state_dict()
        assert all(torch.equal(value, after[name]) for name, value in before.items())
        states.append((trainer.stage.name, before))
        return scores

    monkeypatch.setattr(Trainer, "_validate", look)
    monkeypatch.setattr("xmr_e2e.runs.evaluate.draw", lambda *_, **__: None)  # the report
    experiment = experiment_of(Dcca(image=IMAGE, text=TEXT, hidden=8, dim=2), tiny_shards, tmp_path, epochs=4)
    assert run_experiment(experiment, make_accelerator(experiment.train)) == 0
    (folder,) = (tmp_path / "tiny").iterdir()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    validated = [line for line in lines if "val" in line]
    assert [line["stage"] for line in validated] == [name for name, _ in states] == ["networks"] * 4 + ["correlation"]

    model = xmr_e2e.load(folder)
    reader = SplitReader(tiny_shards, "val")
    classes = [int(reader.labels(position)[0]) for position in range(len(reader))]
    metrics = []
    for (_, state), line in zip(states[:-1], validated):
        assert not state["canonical.fitted"]
        model.method.load_state_dict(state)
        rows = {(split, name): model.embed_split(split, name).astype(np.float64)
                for split in ("train", "val") for name in ("image", "text")}  # fmt: skip
        fitted = canonical(rows["train", "image"], rows["train", "text"], 2, 1e-4)
        projected = [fitted.project(view, rows["val", name]) for view, name in enumerate(("image", "text"))]
        metrics.append(line["val"]["average mAP@all"])
        assert metrics[-1] == pytest.approx(mean_average_precision(projected[0], projected[1], classes), abs=1e-6)
    assert len(set(metrics)) > 1
    selected = [line for line in validated[:-1] if "selected" in line]
    assert selected[-1]["val"]["average mAP@all"] == max(metrics)
    assert validated[-1]["val"] == pytest.approx(selected[-1]["val"])  # what was kept is what the training ends in


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_rows_that_differ_by_rounding_alone_are_taken_as_alike(size: float) -> None:
    """Of any size: their scale is 1, so that noise is not blown up to correlations."""
    rows = torch.full((50, 3), size, dtype=torch.float64)
    rows += rows * torch.finfo(rows.dtype).eps * torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) / 4
    assert scale_of(rows) == 1
    apart = torch.full((50, 3), size, dtype=torch.float64) * torch.linspace(1, 1 + 1e-6, 50)[:, None]
    assert 0 < scale_of(apart) < 1e-6 * size


def test_variates_weigh_by_a_power_of_their_correlations_where_one_is_asked_for() -> None:
    x, y = (torch.randn(60, 5, generator=torch.Generator().manual_seed(n)).double() for n in (0, 1))
    y = y + x * torch.tensor([2.0, 1.0, 0.5, 0.1, 0.0])
    plain, weighed = (CanonicalProjections({"image": 5, "text": 5}, 3).double() for _ in range(2))
    correlations = plain.fit({"image": x, "text": y}, ridge=1e-3)
    weighed.fit({"image": x, "text": y}, ridge=1e-3, power=2.0)
    assert correlations[0] > correlations[2] > 0
    for name, rows in (("image", x), ("text", y)):
        torch.testing.assert_close(weighed(name, rows), plain(name, rows) * correlations**2)


@pytest.mark.slow
@pytest.mark.parametrize("method", [Cca(image=IMAGE, text=TEXT, dim=4), Dcca(image=IMAGE, text=TEXT, hidden=8, dim=4)])
def test_a_model_without_its_closed_form_is_refused_in_one_line(
    method: MethodConfig,
    tiny_shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(trainer: Trainer) -> None:
        raise XmrError("stopped before the closed form")

    monkeypatch.setattr(Trainer, "_fit_closed_form", stop)
    experiment = experiment_of(method, tiny_shards, tmp_path)
    with pytest.raises(XmrError, match="stopped before"):
        run_experiment(experiment, make_accelerator(experiment.train))
    (folder,) = (tmp_path / "tiny").iterdir()
    with pytest.raises(XmrError, match=r"has not come to its last stage.*--train\.resume"):
        xmr_e2e.load(folder)
    assert main(["eval", str(folder)]) == 2
    assert "has not come to its last stage" in capsys.readouterr().err
