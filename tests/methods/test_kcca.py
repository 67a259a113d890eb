"""KCCA against the dual eigenproblem of centered kernel matrices, and against CCA with the linear kernel."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from tests.helpers.references import DATASET, Rows, array
from xmr_e2e.bounds import check_bounds
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.cca import Cca
from xmr_e2e.methods.kcca import Kcca, KccaModel
from xmr_e2e.towers.vector import VectorTower

WIDTHS = {"image": 4, "text": 3}
TOWERS: dict[str, Any] = {"image": VectorTower(), "text": VectorTower(), "frozen": True}
LABELS = torch.eye(3)[torch.arange(40) % 3]


def rows_of(n: int = 40, seed: int = 0) -> dict[str, Tensor]:
    """Pairs that have a circle in common, which no linear direction finds."""
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    twice = torch.stack([(2 * angle).cos(), (2 * angle).sin()], 1)
    noise = [torch.randn(n, d, generator=generator, dtype=torch.float64) for d in (2, 1)]
    return {"image": 5 + torch.cat([circle, 0.1 * noise[0]], 1), "text": torch.cat([twice, 0.1 * noise[1]], 1) - 3}


def build(**options: Any) -> KccaModel:
    method = Kcca(**{**TOWERS, "dim": 3, "landmarks": 50, **options}).build(replace(DATASET, widths=WIDTHS)).double()
    assert isinstance(method, KccaModel)
    return method


def fit(method: KccaModel, rows: dict[str, Tensor]) -> dict[str, Rows]:
    method.fit(method.stages[-1], rows, LABELS)
    return {name: array(method.embed(name, each)) for name, each in rows.items()}


def centered_kernel(rows: Rows, others: Rows, bandwidth: float) -> Rows:
    """Kernel values of rows with the training rows, others, less the means over these in the kernel's space."""

    def kernel(x: Rows, y: Rows) -> Rows:
        return np.array([[math.exp(-(math.dist(a, b) ** 2) / (2 * bandwidth**2)) for b in y] for a in x])

    values, gram = kernel(rows, others), kernel(others, others)
    return np.asarray(values - values.mean(1, keepdims=True) - gram.mean(0) + gram.mean())


@pytest.mark.parametrize(("ridge", "bandwidth"), [(1e-3, 1.0), (0.05, 0.5)])
def test_variates_solve_the_dual_problem_of_hardoon_et_al(ridge: float, bandwidth: float) -> None:
    """(Kx + a I)^-1 Ky (Ky + b I)^-1 Kx u = r^2 u for centered kernel matrices, and v = (Ky + b I)^-1 Kx u / r; the
    penalties a and b are shares of the matrices' traces."""
    rows, more, n = rows_of(), rows_of(12, seed=1), 40
    widths = {
        name: bandwidth * np.sort([math.dist(a, b) for i, a in enumerate(each) for b in each[:i]])[n * (n - 1) // 4 - 1]
        for name, each in ((name, each.tolist()) for name, each in rows.items())
    }
    grams = {name: centered_kernel(array(each), array(each), widths[name]) for name, each in rows.items()}
    solved = {name: np.linalg.inv(k + ridge * np.trace(k) * np.eye(n)) for name, k in grams.items()}
    x, y = grams["image"], grams["text"]
    squares, vectors = scipy.linalg.eig(solved["image"] @ y @ solved["text"] @ x)
    order = np.argsort(-squares.real)[:3]
    u = vectors[:, order].real
    dual = {"image": u, "text": solved["text"] @ x @ u}
    method = build(ridge=ridge, bandwidth=bandwidth)
    fit(method, rows)
    for name, each in more.items():  # that were not fitted
        found = array(method.embed(name, each))
        expected = centered_kernel(array(each), array(rows[name]), widths[name]) @ dual[name]
        for k in range(3):
            scale = (found[:, k] @ expected[:, k]) / (expected[:, k] @ expected[:, k])
            np.testing.assert_allclose(found[:, k], scale * expected[:, k], atol=1e-6 * np.abs(found).max())
    projected = fit(method, rows)
    correlations = [np.corrcoef(projected["image"][:, k], projected["text"][:, k])[0, 1] for k in range(2)]
    assert min(correlations) > 0.9  # of the same sign in both, where CCA finds next to nothing:
    linear = Cca(**TOWERS, dim=3).build(replace(DATASET, widths=WIDTHS)).double()
    linear.fit(linear.stages[-1], rows, LABELS)
    first = [array(linear.embed(name, each))[:, 0] for name, each in rows.items()]
    assert np.corrcoef(*first)[0, 1] < 0.6


def test_with_the_linear_kernel_it_is_cca() -> None:
    """Whose ridge is a share of the mean variance, not of their sum: of the same widths, so that both agree."""
    rows = rows_of()
    rows["text"] = torch.cat([rows["text"], rows["image"][:, :1] ** 2], 1)
    info = replace(DATASET, widths={"image": 4, "text": 4})
    linear = Kcca(**TOWERS, dim=3, landmarks=50, kernel="linear", ridge=0.02).build(info).double()
    cca = Cca(**TOWERS, dim=3, ridge=0.08).build(info).double()
    for method in (linear, cca):
        method.fit(method.stages[-1], rows, LABELS)
    for name, each in rows.items():
        found, expected = linear.embed(name, each), cca.embed(name, each)
        ratio = found / expected
        torch.testing.assert_close(ratio, ratio.mean(0).expand_as(ratio), rtol=1e-6, atol=0.0)


def test_of_a_larger_split_landmarks_are_drawn_with_a_seed() -> None:
    rows = rows_of()
    one, same, other = (build(landmarks=12, landmark_seed=seed) for seed in (3, 3, 4))
    found = [fit(method, rows)["image"] for method in (one, same, other)]
    assert np.array_equal(found[0], found[1]) and not np.allclose(np.abs(found[0]), np.abs(found[2]))
    exact = fit(build(), rows)
    assert one.canonical["image"].landmarks.shape == (12, 4)
    # A few landmarks find the circle, too.
    first = np.corrcoef(found[0][:, 0], fit(one, rows)["text"][:, 0])[0, 1]
    assert first > 0.8 and np.corrcoef(exact["image"][:, 0], exact["text"][:, 0])[0, 1] > 0.9


def test_in_fp32_embeddings_are_those_of_fp64() -> None:
    rows = rows_of()
    full, single = build(), build().float()
    fit(full, rows)
    single.fit(single.stages[-1], {name: each.float() for name, each in rows.items()}, LABELS)
    for name, each in rows.items():
        expected = full.embed(name, each)
        found = single.embed(name, each.float())
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double().abs(), expected.abs(), atol=2e-2, rtol=0.0)


def test_the_landmarks_are_kept_with_the_model() -> None:
    rows = rows_of()
    method, loaded = build(), build()
    expected = fit(method, rows)
    loaded.load_state_dict(method.state_dict())
    for name, each in rows.items():
        assert np.array_equal(array(loaded.embed(name, each)), expected[name])


def test_rows_that_are_all_alike_correlate_with_nothing_and_bad_input_is_refused() -> None:
    rows = rows_of()
    found = fit(build(), rows | {"text": torch.full_like(rows["text"], 0.1)})
    assert np.abs(found["text"]).max() == 0 and np.isfinite(found["image"]).all()
    with pytest.raises(XmrError, match="infinite text embeddings, to which KCCA cannot be fitted"):
        fit(build(), rows | {"text": rows["text"] * math.inf})
    with pytest.raises(XmrError, match=r"--method\.ridge must be at least 1e-06, not 1e-09"):
        check_bounds(Kcca(ridge=1e-9), "--method")


def test_more_variates_than_a_kernel_has_directions_are_zero() -> None:
    found = fit(build(dim=6, kernel="linear"), rows_of())
    assert found["text"].shape == (40, 6) and np.isfinite(found["text"]).all()
    assert np.abs(found["text"][:, 3:]).max() < 1e-6
