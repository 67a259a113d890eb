"""Towers of shapes: PointNet does not see the order of points; rendered views are depth images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmr_e2e.configuration import from_document, to_document
from xmr_e2e.data.augment import normalize
from xmr_e2e.errors import XmrError
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.kinds import tower_kinds
from xmr_e2e.towers.points import PointNet, RenderedViews, render_depth
from xmr_e2e.towers.sizes import laying_out
from xmr_e2e.towers.trained import build_tower

DATASET = DatasetInfo(5, False, 224, words=torch.zeros(2, 3))
TOWERS: list[Any] = [PointNet(64), PointNet(64, align=True), RenderedViews(views=3, side=32)]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def build(tower: TowerConfig) -> Any:
    return build_tower(tower, DATASET, "shape3d")


def clouds(n: int, each: int = 200) -> Tensor:
    found = torch.randn(n, each, 3, generator=torch.Generator().manual_seed(0))
    return found / found.norm(dim=2).amax(dim=1)[:, None, None]


# ---- both


@torch.no_grad()
@pytest.mark.parametrize("tower", TOWERS)
def test_points_are_a_set(tower: TowerConfig) -> None:
    built, given = build(tower).eval(), clouds(3)
    shuffled = given[:, torch.randperm(200, generator=torch.Generator().manual_seed(1))]
    found = built(given)
    assert found.shape == (3, built.dim) and found.std(dim=0).max() > 0
    torch.testing.assert_close(built(shuffled), found)
    copies = torch.cat([given, given[:, :50]], dim=1)
    torch.testing.assert_close(built(copies), found)
    torch.testing.assert_close(torch.cat([built(given[:1]), built(given[1:])]), found)  # no other sample has a part


@pytest.mark.parametrize("tower", TOWERS)
def test_a_training_step_reaches_every_parameter_and_the_points(tower: TowerConfig) -> None:
    built, given = build(tower).train(), clouds(4).requires_grad_()
    rows = built(given)
    (rows * torch.randn_like(rows)).sum().backward()
    assert all(parameter.grad is not None for parameter in built.parameters())
    assert given.grad is not None and given.grad.isfinite().all() and (given.grad.abs().amax((1, 2)) > 0).all()


@pytest.mark.parametrize("tower", TOWERS)
def test_a_saved_tower_is_built_again_from_its_weights(tower: TowerConfig) -> None:
    built, given = build(tower).eval(), clouds(2)
    state, saved = built.state_dict(), replace(DATASET, architectures={})
    config: Any = from_document(type(tower), to_document(tower), "document")
    with laying_out(len(state), sum(value.nbytes for value in state.values())):
        planned = config.build(saved, "shape3d")
    assert {key: value.shape for key, value in planned.state_dict().items()} == {k: v.shape for k, v in state.items()}
    again = config.build(saved, "shape3d")
    again.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(given), built(given), rtol=0, atol=0)


def test_shapes_have_these_kinds_of_towers() -> None:
    kinds = tower_kinds(TowerConfig | None, "shape3d")
    assert {"pointnet": PointNet, "views": RenderedViews}.items() <= kinds.items()
    assert "vector" in kinds and "torchvision" not in kinds


@pytest.mark.parametrize(
    ("tower", "first"),
    [(PointNet(), "network.4.0.weight"), (RenderedViews("resnet18"), "network.layer4.1.conv1.weight")],
)
def test_the_last_block_learns(tower: Any, first: str) -> None:
    built = build(replace(tower, trained="last_block"))
    assert next(name for name, parameter in built.named_parameters() if parameter.requires_grad) == first


# ---- PointNet


@torch.no_grad()
def test_pointnet_is_the_same_layers_on_each_point_and_their_maximum() -> None:
    built, (given,) = build(PointNet()).eval(), clouds(1, 20)
    for layer in built.modules():
        if isinstance(layer, nn.BatchNorm1d):
            nn.init.normal_(layer.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 2)  # type: ignore[arg-type]
    rows = []
    for point in given:
        values = point
        for convolution, norm, _ in built.network:
            values = convolution.weight[:, :, 0] @ values + convolution.bias
            values = (values - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
            values = values.clamp(min=0)
        rows.append(values)
    torch.testing.assert_close(built(given[None])[0], torch.stack(rows).amax(dim=0), atol=1e-5, rtol=1e-4)
    widths = [layer.out_channels for layer in built.modules() if isinstance(layer, nn.Conv1d)]
    assert widths == [64, 64, 64, 128, 1024]


@torch.no_grad()
def test_points_are_aligned_by_the_identity_at_first() -> None:
    plain, aligned, given = build(PointNet(64)).eval(), build(PointNet(64, align=True)).eval(), clouds(2)
    plain.network.load_state_dict(aligned.network.state_dict())
    torch.testing.assert_close(aligned(given), plain(given))
    quarter = torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    aligned.alignment.matrix.bias.copy_(quarter.flatten())
    torch.testing.assert_close(aligned(given), plain(given @ quarter))


# ---- rendered views


def brightness(nearness: float) -> float:
    """Of a point at this depth towards the viewer."""
    return 0.1 + 0.9 * (nearness + 1) / 2


def test_a_view_shows_where_points_are_and_how_near() -> None:
    """Eleven pixels for -1.1 to 1.1: each is .2 wide, and the middle of the sixth is 0."""
    points = torch.tensor([[[0.8, -0.5, 0.6], [0.0, 0.9, 0.0], [0.8, 0.3, 0.6], [-1.0, 0.0, -0.6]]])
    (view,) = render_depth(points, 1, 11, 0, "z")[0]
    expected = torch.zeros(11, 11)
    expected[2, 9] = brightness(0.5)  # z upwards, x to the right; y away from the viewer, the nearer one counts
    expected[5, 5] = brightness(-0.9)
    expected[8, 0] = brightness(0)
    torch.testing.assert_close(view, expected)


def test_a_splat_is_a_square_in_which_the_nearest_counts() -> None:
    points = torch.tensor([[[0.0, -0.4, 0.0], [0.2, 0.4, 0.0], [1.0, 0.0, 1.0]]])
    (view,) = render_depth(points, 1, 11, 1, "z")[0]
    expected = torch.zeros(11, 11)
    expected[0:2, 9:11] = brightness(0)  # cut off at the edge
    expected[4:7, 5:8] = brightness(-0.4)
    expected[4:7, 4:7] = brightness(0.4)
    torch.testing.assert_close(view, expected)


def test_views_go_around_the_vertical_axis() -> None:
    """A point in front, at -y, is in the middle; seen from +x at the left; from behind in the middle, far away."""
    point = torch.tensor([[[0.0, -0.8, 0.2]]])
    views = render_depth(point, 4, 11, 0, "z")[0]
    found = [tuple(view.nonzero()[0].tolist()) for view in views]
    assert found == [(4, 5), (4, 1), (4, 5), (4, 9)]
    values = [view.max().item() for view in views]
    assert values == pytest.approx([brightness(0.8), brightness(0), brightness(-0.8), brightness(0)], abs=1e-5)


@pytest.mark.parametrize(("up", "order"), [("y", [1, 2, 0]), ("x", [2, 0, 1])])
def test_other_vertical_axes_are_the_same_with_their_names_changed(up: Any, order: list[int]) -> None:
    """(x, y, z) with z up is (z, x, y) with y up."""
    given = clouds(2)
    torch.testing.assert_close(render_depth(given[:, :, order], 3, 32, 1, up), render_depth(given, 3, 32, 1, "z"))


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_a_shape_is_pooled_over_its_views(pooling: Any) -> None:
    built, given = build(RenderedViews(views=4, side=32, pooling=pooling)).eval(), clouds(2)
    views = render_depth(given, 4, 32, 1, "z")
    rows = torch.stack([built.network(normalize(views[:, [k]].expand(-1, 3, -1, -1))) for k in range(4)])
    torch.testing.assert_close(built(given), rows.amax(0) if pooling == "max" else rows.mean(0))
    turned = given @ torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])  # the same views, in another order
    assert F.cosine_similarity(built(turned), built(given)).min() > 0.999


def test_sides_and_names_that_do_not_fit_are_refused_by_their_option() -> None:
    with pytest.raises(XmrError, match=r"alexnet cannot take images of 32 pixels .*--method.shape3d.side"):
        build(RenderedViews("alexnet", side=32))
    with pytest.raises(XmrError, match=r"--method.shape3d.name resnet5O: .*resnet50"):
        build(RenderedViews("resnet5O"))
