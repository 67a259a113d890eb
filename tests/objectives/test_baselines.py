"""Losses of the baselines against loops over samples and pairs, in one process and in two, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from tests.helpers.forked import free_port, run_ranks
from xmr_e2e.distributed import gather
from xmr_e2e.objectives.acmr import acmr_loss, batch_triplet_loss, hardest_negatives, triplet_loss
from xmr_e2e.objectives.correspondence import Variant, correspondence_loss, reconstructions
from xmr_e2e.objectives.mars import mars_loss
from xmr_e2e.objectives.orthogonal import orthogonal_prior
from xmr_e2e.objectives.sdml import sdml_loss

Rows = list[list[float]]
N, D, C = 9, 6, 4

SINGLE = torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 3, 0, 1, 1, 2, 0]), C).double()
# One sample of all classes, one of none, pairs that share two classes.
MULTI = torch.tensor(
    [[int(c) for c in row] for row in "1001 0100 1111 0000 1001 0010 0110 1000 0011".split()], dtype=torch.float64
)
# Nothing is a negative of the sample of all classes any more.
ALL_LABELLED = MULTI.where(MULTI.any(1, keepdim=True), SINGLE)
LABELS = pytest.mark.parametrize("labels", [SINGLE, MULTI], ids=["single_label", "multi_label"])
NEGATIVES = pytest.mark.parametrize("labels", [SINGLE, MULTI, ALL_LABELLED], ids=["single", "multi", "none_negative"])


def draw(width: int, seed: int, *, n: int = N, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(width: int, seed: int) -> Tensor:
    return torch.nn.functional.normalize(draw(width, seed))


def norm(x: list[float]) -> float:
    return math.sqrt(sum(value**2 for value in x))


def distance(x: list[float], y: list[float]) -> float:
    return norm([a - b for a, b in zip(x, y, strict=True)])


def cosine(x: list[float], y: list[float]) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True)) / max(norm(x) * norm(y), 1e-6)


def softmax(x: list[float]) -> list[float]:
    return [math.exp(value) / sum(math.exp(other) for other in x) for value in x]


def times(row: list[float], matrix: Rows) -> list[float]:
    return [sum(row[i] * matrix[i][j] for i in range(len(row))) for j in range(len(matrix[0]))]


def share(x: list[float], y: list[float]) -> bool:
    return any(a and b for a, b in zip(x, y, strict=True))


def assert_equal(found: dict[str, Tensor], expected: dict[str, float]) -> None:
    assert {name: term.item() for name, term in found.items()} == pytest.approx(expected, rel=1e-9, abs=1e-9)


def assert_gradients(loss: Callable[..., Tensor], *inputs: Tensor) -> None:
    assert torch.autograd.gradcheck(loss, tuple(x.clone().requires_grad_() for x in inputs))


def assert_finite_gradients(loss: Tensor, *inputs: Tensor) -> None:
    for gradient in torch.autograd.grad(loss, inputs):
        assert gradient.isfinite().all()


# Correspondence autoencoders

WIDTHS = {"image": 5, "text": 3}


def autoencoded(variant: Variant) -> tuple[dict[tuple[str, str], Tensor], dict[str, Tensor]]:
    inputs = {name: draw(width, width) for name, width in WIDTHS.items()}
    pairs = enumerate(reconstructions(variant, ("image", "text")))
    return {(source, target): draw(WIDTHS[target], 10 + i) for i, (source, target) in pairs}, inputs


def mean_squared_distance(x: Tensor, y: Tensor) -> float:
    return sum(distance(a, b) ** 2 for a, b in zip(x.tolist(), y.tolist(), strict=True)) / len(x)


@pytest.mark.parametrize(
    ("variant", "images_from", "texts_from"),
    [("plain", ["image"], ["text"]), ("cross", ["text"], ["image"]), ("full", ["image", "text"], ["image", "text"])],
)
def test_correspondence_loss_weighs_reconstructions_against_the_distance_of_the_hidden_layers(
    variant: Variant, images_from: list[str], texts_from: list[str]
) -> None:
    hidden, (made, inputs) = (draw(D, 0), draw(D, 1)), autoencoded(variant)
    image = sum(mean_squared_distance(made[source, "image"], inputs["image"]) for source in images_from)
    text = sum(mean_squared_distance(made[source, "text"], inputs["text"]) for source in texts_from)
    correlation = mean_squared_distance(*hidden)
    expected = {"image": image, "text": text, "correlation": correlation}
    expected["total"] = 0.3 * (image + text) + 0.7 * correlation
    assert_equal(correspondence_loss(dict(zip(inputs, hidden)), made, inputs, alpha=0.7, variant=variant), expected)

    def total(image: Tensor, text: Tensor, *rows: Tensor) -> Tensor:
        return correspondence_loss(
            {"image": image, "text": text}, dict(zip(made, rows)), inputs, alpha=0.7, variant=variant
        )["total"]

    assert_gradients(total, *hidden, *made.values())


def test_correspondence_loss_refuses_reconstructions_of_another_variant() -> None:
    made, inputs = autoencoded("plain")
    with pytest.raises(ValueError, match="'cross' reconstructs"):
        correspondence_loss({"image": draw(D, 0), "text": draw(D, 1)}, made, inputs, alpha=0.2, variant="cross")


# ACMR


def negative_of(i: int, features: Rows, labels: Rows) -> int | None:
    others = [j for j in range(len(features)) if j != i and not share(labels[i], labels[j])]
    return max(others, key=lambda j: cosine(features[i], features[j]), default=None)


@NEGATIVES
def test_hardest_negative_is_the_most_alike_sample_that_shares_no_label(labels: Tensor) -> None:
    features = draw(D, 0)
    negatives = hardest_negatives(features, labels)
    expected = [negative_of(i, features.tolist(), labels.tolist()) for i in range(N)]
    found = zip(negatives.indices.tolist(), negatives.exist.tolist(), strict=True)
    assert [index if exists else None for index, exists in found] == expected
    assert (None in expected) == (labels is ALL_LABELLED)


def test_hardest_negative_is_of_another_class_even_where_all_those_point_away() -> None:
    features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.2], [-0.5, -1.0]])
    assert hardest_negatives(features, torch.tensor([0, 0, 1, 1])).indices.tolist() == [3, 3, 1, 0]


def triplets_by_loops(
    kind: str, anchors: Rows, others: Rows, negatives: list[int | None], attract: float, repel: float, margin: float
) -> float:
    each, pull, push = 0.0, 0.0, 0.0
    for i, k in enumerate(negatives):
        near = distance(anchors[i], others[i])
        pull += near**2 / 2
        each += attract * near / len(anchors)
        if k is not None:
            far = distance(anchors[i], others[k])
            push += far**2 / 2
            each += repel * max(0.0, margin - far) / len(anchors)
    return each if kind == "paper" else max(0.0, margin + attract * pull - repel * push)


def label_term(logits: Rows, labels: Rows, multi_label: bool) -> float:
    total = 0.0
    for row, truth in zip(logits, labels, strict=True):
        for value, probability, relevant in zip(row, softmax(row), truth, strict=True):
            if multi_label:
                probability = 1 / (1 + math.exp(-value))
                total -= math.log(probability if relevant else 1 - probability) / len(logits)
            elif relevant:
                total -= math.log(probability) / len(logits)
    return total


@NEGATIVES
@pytest.mark.parametrize(
    ("triplets", "label_weight", "attract", "repel", "margin"),
    [("paper", 2.0, 1.5, 0.4, 3.0), ("released", 100.0, 5.0, 1.0, 0.1)],
)
def test_acmr_loss_equals_its_loops(
    triplets: Literal["paper", "released"],
    label_weight: float,
    attract: float,
    repel: float,
    margin: float,
    labels: Tensor,
) -> None:
    multi_label = labels is not SINGLE
    rows, features = (draw(D, 0), draw(D, 1)), (draw(7, 2), draw(5, 3))
    logits, modality = (draw(C, 4), draw(C, 5)), (draw(2, 6), draw(2, 7))

    def loss(image: Tensor, text: Tensor, u: Tensor, v: Tensor, p: Tensor, q: Tensor) -> dict[str, Tensor]:
        return acmr_loss(
            image, text, u, v, (p, q), labels, *features, multi_label=multi_label, triplets=triplets,
            label_weight=label_weight, attract=attract, repel=repel, margin=margin,
        )  # fmt: skip

    expected = {"label": 0.0, "triplet": 0.0, "adversary": 0.0}
    for m in (0, 1):
        negatives = [negative_of(i, features[m].tolist(), labels.tolist()) for i in range(N)]
        anchors, others = rows[m].tolist(), rows[1 - m].tolist()
        expected["triplet"] += triplets_by_loops(triplets, anchors, others, negatives, attract, repel, margin)
        expected["label"] += label_term(logits[m].tolist(), labels.tolist(), multi_label)
        expected["adversary"] -= sum(math.log(softmax(row)[m]) / N for row in modality[m].tolist())
    expected["total"] = label_weight * expected["label"] + expected["triplet"] + expected["adversary"]
    assert_equal(loss(*rows, *logits, *modality), expected)
    assert_gradients(lambda *inputs: loss(*inputs)["total"], *rows, *logits, *modality)


def test_released_triplets_are_one_hinge_on_the_batch() -> None:
    anchors, others = draw(D, 0, scale=0.1), draw(D, 1, scale=0.1)
    far = 10 * torch.arange(N, dtype=torch.float64)[:, None]
    negatives = hardest_negatives(draw(D, 2), SINGLE)
    # One pair is far apart, but the others' negatives are so much farther that the batch has no loss.
    others[0] += 2
    arguments = (anchors + far, others + far, negatives)
    assert batch_triplet_loss(*arguments, attract=5, repel=1, margin=0.1).item() == 0
    assert triplet_loss(*arguments, attract=5, repel=1, margin=0.1).item() > 1


# SDML


@LABELS
def test_sdml_loss_equals_its_loops_and_skips_rows_without_labels(labels: Tensor) -> None:
    z, made, inputs, prior = unit(D, 0), draw(7, 1), draw(7, 2), orthogonal_prior(D, C, seed=0).double()
    reconstruction = sum(distance(a, b) for a, b in zip(made.tolist(), inputs.tolist(), strict=True)) / N
    errors = []
    for row, truth in zip(z.tolist(), labels.tolist(), strict=True):
        if any(truth):
            errors.append(distance(times(row, prior.tolist()), truth))
    assert len(errors) == (N - 1 if labels is MULTI else N)
    label = sum(errors) / len(errors)
    expected = {"reconstruction": reconstruction, "label": label, "total": 0.3 * reconstruction + 0.7 * label}
    assert_equal(sdml_loss(z, made, inputs, labels, prior, alpha=0.3), expected)
    assert_gradients(lambda z, made: sdml_loss(z, made, inputs, labels, prior)["total"], z, made)


def test_sdml_loss_is_zero_with_finite_gradients_at_its_optimum_and_without_labels() -> None:
    prior, inputs = orthogonal_prior(D, C, seed=0).double(), draw(7, 0)
    z, made = (SINGLE @ torch.linalg.pinv(prior)).requires_grad_(), inputs.clone().requires_grad_()
    for labels in (SINGLE, torch.zeros(N, C)):
        loss = sdml_loss(z, made, inputs, labels, prior)["total"]
        assert loss.item() == pytest.approx(0, abs=1e-12)
        assert_finite_gradients(loss, z, made)


def test_orthogonal_prior_has_orthonormal_columns_that_depend_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    prior = orthogonal_prior(8, 5, seed=3)
    state = torch.random.get_rng_state()
    assert torch.equal(orthogonal_prior(8, 8, seed=3)[:, :5], prior)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.testing.assert_close(prior.T @ prior, torch.eye(5), atol=1e-6, rtol=0)
    assert not torch.allclose(orthogonal_prior(8, 5, seed=4), prior)


def test_orthogonal_prior_is_the_gram_schmidt_basis_of_the_seeds_normal_draw() -> None:
    columns = torch.randn(8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for j in range(8):
        columns[:, j] /= columns[:, j].norm()
        columns[:, j + 1 :] -= torch.outer(columns[:, j], columns[:, j] @ columns[:, j + 1 :])
    torch.testing.assert_close(orthogonal_prior(8, 8, seed=3).double(), columns, atol=1e-6, rtol=0)


def test_orthogonal_prior_refuses_more_classes_than_dimensions() -> None:
    with pytest.raises(ValueError, match="9 orthogonal columns in 8 dimensions"):
        orthogonal_prior(8, 9, seed=0)


# MARS


def pair_by_loops(x: Rows, y: Rows, x_labels: Rows, y_labels: Rows) -> float:
    total = 0.0
    for a, a_labels in zip(x, x_labels, strict=True):
        for b, b_labels in zip(y, y_labels, strict=True):
            theta = 2 * cosine(a, b)
            total += math.log(1 + math.exp(theta)) - (theta if share(a_labels, b_labels) else 0)
    return total / len(x) / len(y)


@LABELS
@pytest.mark.parametrize("first", [True, False])
def test_mars_loss_equals_its_loops(labels: Tensor, first: bool) -> None:
    shared, exclusive, classifier = unit(D, 0), unit(D, 1), orthogonal_prior(D, C, seed=0).double()
    embeddings, embedded_labels = draw(D, 2, n=N - 2), labels[2:].flip(0)
    s, e, w, y = (tensor.tolist() for tensor in (shared, exclusive, classifier, labels))
    m, l = embeddings.tolist(), embedded_labels.tolist()  # noqa: E741

    expected = {"correspondence": pair_by_loops(m, s, l, y), "shared": pair_by_loops(s, s, y, y)}
    if first:
        expected["labels"] = pair_by_loops(m, m, l, l)
    pairs = sum(expected.values())
    labeled = [i for i in range(N) if any(y[i])]
    expected["classification"] = expected["exclusion"] = 0.0
    for i in labeled:
        log_probabilities = [math.log(p) for p in softmax(times(s[i], w))]
        expected["classification"] -= sum(a * b for a, b in zip(y[i], log_probabilities)) / len(labeled)
        expected["exclusion"] += math.log(max(softmax(times(e[i], w)))) / len(labeled)
    expected["total"] = pairs + 0.7 * expected["classification"] + 0.2 * expected["exclusion"]

    def loss(shared: Tensor, exclusive: Tensor, embeddings: Tensor) -> dict[str, Tensor]:
        arguments = (shared, exclusive, labels, embeddings, embedded_labels, classifier)
        return mars_loss(*arguments, first=first, classification=0.7, exclusion=0.2)

    assert_equal(loss(shared, exclusive, embeddings), expected)
    if first:
        assert_gradients(lambda *inputs: loss(*inputs)["total"], shared, exclusive, embeddings)
    else:
        assert_gradients(lambda s, e: loss(s, e, embeddings)["total"], shared, exclusive)


def test_later_modalities_send_no_gradient_to_the_label_network() -> None:
    shared, embeddings = unit(D, 0).requires_grad_(), draw(D, 1).requires_grad_()
    arguments = (unit(D, 2), SINGLE, embeddings, SINGLE, orthogonal_prior(D, C, seed=0))
    mars_loss(shared, *arguments, first=False)["total"].backward()
    assert embeddings.grad is None
    mars_loss(shared, *arguments, first=True)["total"].backward()
    assert embeddings.grad is not None


def test_exclusion_is_least_where_the_exclusive_head_prefers_no_class() -> None:
    classifier = orthogonal_prior(D, C, seed=0).double()
    indifferent = torch.linalg.svd(classifier.T).Vh[-1].expand(N, D)  # orthogonal to all columns
    for exclusive, least in [(indifferent, True), (unit(D, 0), False)]:
        terms = mars_loss(unit(D, 1), exclusive, SINGLE, draw(D, 2), SINGLE, classifier, first=True)
        assert (terms["exclusion"].item() == pytest.approx(-math.log(C), abs=1e-6)) == least


# All of them


TRIPLETS: tuple[Literal["paper", "released"], ...] = ("paper", "released")


def all_losses(rows: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every baseline's terms on one batch of multi-label samples; slices and copies stand for networks."""
    prior = orthogonal_prior(D, C, seed=0)
    image, text, x, y, labels = (rows[name] for name in ("image", "text", "x", "y", "labels"))
    heads = (image[:, :C], text[:, :C], (image[:, :2], text[:, :2]))
    found: dict[str, dict[str, Tensor]] = {}
    for triplets in TRIPLETS:
        found[triplets] = acmr_loss(image, text, *heads, labels, x, y, multi_label=True, triplets=triplets, margin=3.0)
    for variant in get_args(Variant):
        made = {pair: rows[pair[0]] for pair in reconstructions(variant, ("image", "text"))}
        hidden = {"image": image, "text": text}
        found[variant] = correspondence_loss(hidden, made, {"image": x, "text": y}, alpha=0.8, variant=variant)
    found["sdml"] = sdml_loss(image, text, x, labels, prior)
    found["mars"] = mars_loss(image, text, labels, x, labels.flip(0), prior, first=True)
    return {f"{name} {term}": value for name, terms in found.items() for term, value in terms.items()}


def batch() -> dict[str, Tensor]:
    return {"image": draw(D, 0), "text": draw(D, 1), "x": draw(D, 2), "y": draw(D, 3), "labels": MULTI.clone()}


def values_and_gradients(
    rows: dict[str, Tensor], bounds: slice = slice(None), *, autocast: bool = False
) -> dict[str, Tensor]:
    mine = {name: tensor[bounds].clone().requires_grad_(name != "labels") for name, tensor in rows.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        terms = all_losses({name: gather(tensor) for name, tensor in mine.items()})
    torch.stack([value for name, value in terms.items() if name.endswith("total")]).sum().backward()
    gradients = {name: tensor.grad for name, tensor in mine.items() if tensor.grad is not None}
    return {**{name: value.detach() for name, value in terms.items()}, **gradients}


def run_rank(rank: int, port: int, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    bounds = slice(0, 4) if rank == 0 else slice(4, N)
    truths = gather(MULTI[bounds] > 0)
    sent = draw(D, 7)
    gather(draw(D, 0)[bounds].requires_grad_()).backward(sent)
    assert torch.equal(sent, draw(D, 7))  # a gradient that was handed in is not written into
    torch.save({**values_and_gradients(batch(), bounds), "truths": truths}, f"{out}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.processes
@pytest.mark.slow
def test_two_processes_with_parts_of_the_batch_give_the_values_and_gradients_of_one(tmp_path: Path) -> None:
    whole = values_and_gradients(batch())
    assert {"image", "text", "x", "y"} <= whole.keys()
    run_ranks(run_rank, (free_port(), str(tmp_path)), 2)
    for rank, bounds in enumerate([slice(0, 4), slice(4, N)]):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found["truths"].dtype == torch.bool and torch.equal(found["truths"], MULTI > 0)
        for name, expected in whole.items():
            # Each process adds the same loss; data parallel training takes the mean over processes.
            assert_close(name, found[name], expected if expected.dim() == 0 else 2 * expected[bounds], atol=1e-9)


def assert_close(name: str, found: Tensor, expected: Tensor, atol: float) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=atol, msg=lambda message: f"{name}: {message}")


def test_values_and_gradients_under_autocast_are_those_of_full_precision() -> None:
    rows = {name: tensor.float() for name, tensor in batch().items()}
    plain, mixed = values_and_gradients(rows), values_and_gradients(rows, autocast=True)
    half = all_losses({name: tensor.bfloat16() for name, tensor in rows.items()})
    for name, value in plain.items():
        assert value.dtype == torch.float32
        assert_close(name, mixed[name], value, atol=1e-6)
    for name, value in half.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(plain[name].item(), rel=0.02), name


def test_gradients_are_finite_where_distances_and_norms_are_zero() -> None:
    rows = batch()
    rows["text"] = rows["image"].clone()
    rows["text"][:3] = rows["image"][:3] = 0
    rows["x"][:2] = 0
    for name, value in values_and_gradients(rows).items():
        assert value.isfinite().all(), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_of_half_precision_rows_are_those_of_the_same_rows_in_full(dtype: torch.dtype) -> None:
    half = {name: tensor.to(dtype) for name, tensor in batch().items()}
    full = all_losses({name: tensor.float() for name, tensor in half.items()})
    for name, value in all_losses(half).items():
        assert value.dtype == torch.float32
        assert torch.equal(value, full[name]), name
