"""Region towers: grids and Faster R-CNN against loops and torchvision itself, gradients, what stays as it is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.ops import MultiScaleRoIAlign

from xmr_e2e.data.augment import IMAGENET_MEAN, IMAGENET_STD
from xmr_e2e.data.inputs import Regions
from xmr_e2e.errors import XmrError
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.detector import SCORES, Detector, load_detector
from xmr_e2e.towers.regions import FasterRcnn, FasterRcnnEncoder, GridRegions, StoredRegions

SIZE = 64


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def dataset(image_size: int = SIZE, widths: dict[str, int] | None = None) -> DatasetInfo:
    return DatasetInfo(5, False, image_size, words=torch.zeros(2, 3), widths=widths or {})


def photos(n: int, size: int = SIZE, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_grid_regions_are_the_maps_means_over_their_cells() -> None:
    tower = GridRegions("squeezenet1_1", "none", cells=2).build(dataset(), "image").eval()
    images = photos(2)
    whole = models.get_model("squeezenet1_1").eval()
    whole.features.load_state_dict(tower.network.features.state_dict())
    features = whole.features(images)
    assert features.shape == (2, 512, 3, 3)
    rows, mask, boxes, targets = tower(images)
    assert rows.shape == (2, 4, tower.dim) == (2, 4, 512)
    assert mask.all() and mask.shape == (2, 4)
    assert targets is None
    cells = [(y, x) for y in range(2) for x in range(2)]
    for number, (y, x) in enumerate(cells):
        # An odd number of rows is shared out as torch does it: the middle one belongs to both halves.
        mean = sum(features[:, :, y + i, x + j] for i in range(2) for j in range(2)) / 4
        torch.testing.assert_close(rows[:, number], mean)
        assert boxes[1, number].tolist() == pytest.approx([x / 2, y / 2, (x + 1) / 2, (y + 1) / 2, 1 / 4])


def test_there_are_36_grid_regions_that_cover_the_picture_once() -> None:
    boxes = GridRegions("resnet18", "none").build(dataset(), "image")(photos(1)).positions[0]
    assert boxes.shape == (36, 5)
    hits = torch.zeros(12, 12)
    for x1, y1, x2, y2, area in boxes.tolist():
        assert area == pytest.approx((x2 - x1) * (y2 - y1))
        hits[round(12 * y1) : round(12 * y2), round(12 * x1) : round(12 * x2)] += 1
    assert hits.eq(1).all()
    assert boxes[1, 0] > boxes[0, 0] and boxes[1, 1] == boxes[0, 1]  # row by row


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "dim"),
    [
        ("alexnet_paper", 67, 256),
        ("resnet10_slim", 64, 256),
        ("efficientnet_lite0", 64, 1280),
        ("resnet18", 64, 512),
        ("densenet121", 64, 1024),
        ("shufflenet_v2_x0_5", 64, 1024),
        ("mobilenet_v3_small", 64, 576),
        ("googlenet", 64, 1024),
        ("swin_t", 64, 768),
        ("vit_b_32", 64, 768),
    ],
)
@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet")
def test_a_training_step_reaches_every_parameter_of_a_grid_tower(name: str, size: int, dim: int) -> None:
    tower = GridRegions(name, "none").build(dataset(size), "image").train()
    rows = tower(photos(2, size)).features
    assert rows.shape == (2, 36, tower.dim) == (2, 36, dim)
    (rows * torch.randn(2, 36, dim)).sum().backward()
    assert [key for key, parameter in tower.named_parameters() if parameter.grad is None] == []
    first_convolution = next(layer for layer in tower.modules() if isinstance(layer, nn.Conv2d))
    assert first_convolution.weight.grad is not None
    assert first_convolution.weight.grad.abs().max() > 0


@pytest.mark.slow
def test_a_vision_transformers_patches_are_its_map() -> None:
    tower = GridRegions("vit_b_32", "none", cells=2).build(dataset(64), "image").eval()
    images = photos(2)
    changed = images.clone()
    changed[:, :, 32:, :32] = 0.0
    patches: dict[str, Tensor] = {}
    tower.network.get_submodule("encoder.ln").register_forward_hook(lambda m, i, o: patches.update(last=o))
    rows = tower(images).features
    torch.testing.assert_close(rows, patches["last"][:, 1:])  # 2 x 2 patches of 32 pixels, and 2 x 2 cells
    assert (tower(changed).features - rows).abs().amax(dim=(0, 2)).argmax() == 2


def test_grid_towers_refuse_what_image_towers_refuse() -> None:
    with pytest.raises(XmrError, match=r"resnet5O.*did you mean.*resnet50"):
        GridRegions("resnet5O").build(dataset(), "image")
    with pytest.raises(XmrError, match=r"alexnet cannot take images of 20 pixels.*--data.image-size"):
        GridRegions("alexnet", "none").build(dataset(20), "image")


@pytest.fixture(scope="module")
def detector() -> Detector:
    """Random weights, such that classes and boxes differ from proposal to proposal."""
    torch.manual_seed(1)
    detector = load_detector("none", "--weights")
    predictor = detector.network.roi_heads.box_predictor
    predictor.cls_score.weight.mul_(0.3)
    predictor.bbox_pred.weight.mul_(0.3)
    return detector


def encoder(detector: Detector, **options: Any) -> FasterRcnnEncoder:
    return FasterRcnnEncoder(detector, FasterRcnn(weights="none", **options))


@contextmanager
def watched(detector: Detector) -> Iterator[dict[str, Any]]:
    """What the detector's parts give meanwhile."""
    seen: dict[str, Any] = {}

    def watch(name: str) -> Any:
        def note(_module: nn.Module, _inputs: object, output: object) -> None:
            seen.setdefault(name.split(".")[-1], output)

        return detector.network.get_submodule(name).register_forward_hook(note)

    handles = [watch(name) for name in ("rpn", "roi_heads.box_head", "roi_heads.box_predictor")]
    yield seen
    for handle in handles:
        handle.remove()


def overlap(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def refined(proposal: list[float], offsets: list[float], size: int) -> list[float]:
    """Girshick et al. (2014), Appendix C, with Faster R-CNN's scales 10 and 5; cut to the picture."""
    width, height = proposal[2] - proposal[0], proposal[3] - proposal[1]
    x = proposal[0] + width / 2 + offsets[0] / 10 * width
    y = proposal[1] + height / 2 + offsets[1] / 10 * height
    longest = math.log(1000 / 16)
    width, height = width * math.exp(min(offsets[2] / 5, longest)), height * math.exp(min(offsets[3] / 5, longest))
    corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    return [min(max(corner, 0.0), float(size)) for corner in corners]


@pytest.mark.slow
@torch.no_grad()
def test_regions_are_the_best_after_suppression_written_with_loops(detector: Detector) -> None:
    with watched(detector) as seen:
        encoder(detector)(photos(1))
    (proposals,), _ = seen["rpn"]
    logits, offsets = seen["box_predictor"]
    objects = []  # score, class, box, fc7
    for number, proposal in enumerate(proposals.tolist()):
        exponentials = [math.exp(value) for value in logits[number].double().tolist()]
        label = max(range(1, 91), key=lambda c: exponentials[c])
        box = refined(proposal, offsets[number, 4 * label : 4 * label + 4].double().tolist(), SIZE)
        if min(box[2] - box[0], box[3] - box[1]) >= 1:  # of the thinner ones there are enough others to go before
            objects.append((exponentials[label] / sum(exponentials), label, box, seen["box_head"][number]))
    objects.sort(key=lambda item: -item[0])
    kept: list[Any] = []
    suppressed: list[Any] = []
    for item in objects:
        rivals = [other for other in kept if other[1] == item[1] and overlap(other[2], item[2]) > 0.5]
        (suppressed if rivals else kept).append(item)
    count = len(kept) + len(suppressed) // 2  # so that some of the suppressed ones have to fill up
    assert len(kept) > 20 and len(suppressed) > 20
    rows, _, boxes, targets = encoder(detector, regions=count)(photos(1))
    for place, (_, label, box, features) in enumerate([*kept, *suppressed][:count]):
        assert targets[0, place] == label
        assert (SIZE * boxes[0, place, :4]).tolist() == pytest.approx(box, abs=1e-3)
        assert boxes[0, place, 4].item() == pytest.approx((box[2] - box[0]) * (box[3] - box[1]) / SIZE**2, abs=1e-5)
        torch.testing.assert_close(rows[0, place], features, rtol=1e-4, atol=1e-4)
    assert len(set(targets[0].tolist())) > 1


@pytest.mark.slow
@torch.no_grad()
def test_the_best_regions_are_torchvisions_detections(detector: Detector) -> None:
    published = fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=SIZE, max_size=SIZE, box_score_thresh=0.0
    )
    published.load_state_dict(detector.network.state_dict(), strict=False)  # less its counts of batches
    rgb = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    found = encoder(detector)((rgb - mean) / std)
    for number, detections in enumerate(published.eval()(list(rgb))):
        assert found.targets[number, 0] == detections["labels"][0]
        torch.testing.assert_close(SIZE * found.positions[number, 0, :4], detections["boxes"][0], rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(("size", "count"), [(64, 36), (33, 50), (9, 36), (64, 1)])
def test_there_are_always_as_many_regions_as_asked_for(detector: Detector, size: int, count: int) -> None:
    found = encoder(detector, regions=count)(photos(2, size))
    assert found.features.shape == (2, count, 1024)
    assert found.mask.shape == (2, count) and found.mask.all()
    assert found.positions.shape == (2, count, 5) and found.positions.min() >= 0 and found.positions.max() <= 1
    assert found.features.isfinite().all()
    assert found.targets is not None and found.targets.min() >= 1 and found.targets.max() <= 90


@pytest.mark.slow
def test_a_pictures_regions_do_not_depend_on_its_company(detector: Detector) -> None:
    tower, images = encoder(detector, regions=5), photos(10, 40)  # more than the detector takes at a time
    together = tower(images)
    for number in (0, 9):
        alone = tower(images[number : number + 1])
        torch.testing.assert_close(alone.positions[0], together.positions[number], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(alone.features[0], together.features[number], rtol=1e-3, atol=1e-3)


def moving(tower: FasterRcnnEncoder) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in tower.named_parameters() if parameter.requires_grad}


@pytest.mark.slow
def test_only_the_box_head_learns_unless_asked_otherwise(detector: Detector) -> None:
    images = photos(2)
    fixed, trained = encoder(detector, trained="none"), encoder(detector)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    assert not fixed.train()(images).features.requires_grad
    start = trained.train()(images)
    torch.testing.assert_close(start.features, fixed(images).features)
    assert list(moving(trained)) == [f"box_head.{fc}.{part}" for fc in ("fc6", "fc7") for part in ("weight", "bias")]
    optimizer = torch.optim.SGD(moving(trained).values(), lr=0.1)
    start.features.square().mean().backward()
    optimizer.step()
    end = trained(images)
    assert not torch.allclose(end.features, start.features)
    assert torch.equal(end.positions, start.positions) and torch.equal(end.targets, start.targets)
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


@pytest.mark.slow
def test_with_the_backbone_trained_gradients_reach_the_first_convolution(detector: Detector) -> None:
    """And the regions stay where they were found: the detector goes on with its own weights."""
    images = photos(2).requires_grad_()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    tower = encoder(detector, trained="backbone", regions=5).train()
    start = tower(images)
    torch.testing.assert_close(start.features, encoder(detector, regions=5)(images).features, rtol=1e-4, atol=1e-4)
    learning = moving(tower)
    assert {name.split(".")[0] for name in learning} == {"box_head", "backbone"}
    convolutions = [f"backbone.{n}" for n, m in tower.backbone.named_modules() if isinstance(m, nn.Conv2d)]
    assert convolutions[0] == "backbone.body.conv1" and {f"{name}.weight" for name in convolutions} <= set(learning)
    (start.features * torch.randn(start.features.shape)).mean().backward()
    assert [name for name, parameter in learning.items() if parameter.grad is None] == []
    # Of the pyramid's levels, only those that have a region of their size.
    still = [name for name, parameter in learning.items() if not parameter.grad.any()]
    assert all(name.startswith("backbone.fpn.") for name in still), still
    assert learning["backbone.body.conv1.weight"].grad.any() and images.grad.any()
    torch.optim.SGD(learning.values(), lr=0.1).step()
    end = tower(images)
    assert not torch.allclose(end.features, start.features)
    assert torch.equal(end.positions, start.positions) and torch.equal(end.targets, start.targets)
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


@pytest.mark.slow
@torch.no_grad()
def test_the_trained_backbone_is_pooled_where_the_proposals_were(detector: Detector) -> None:
    """A changed backbone moves the rows as if the same boxes were pooled from its maps by torchvision."""
    images = photos(2)
    tower = encoder(detector, trained="backbone", regions=4)
    tower.backbone.body.conv1.weight.mul_(1.5)
    found = detector.find(images, 4)
    pool = MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2)
    for number in range(2):
        maps = tower.backbone(images[number : number + 1])
        pooled = pool(maps, [found.proposals[number]], [(SIZE, SIZE)])
        torch.testing.assert_close(tower(images).features[number], tower.box_head(pooled), rtol=1e-4, atol=1e-4)
        box = pool(detector.network.backbone(images[number : number + 1]), [found.proposals[number]], [(SIZE, SIZE)])
        torch.testing.assert_close(box, found.pooled[number], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_trained_backbone_takes_mixed_precision(detector: Detector) -> None:
    expected = encoder(detector, regions=3)(photos(1))
    tower = encoder(detector, trained="backbone", regions=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = tower(photos(1))
    assert torch.equal(found.positions, expected.positions)
    difference = (found.features.float() - expected.features).norm()
    assert difference < 0.1 * expected.features.norm()  # single ones are off by more, in bf16 through ResNet's layers
    found.features.float().square().mean().backward()
    assert moving(tower)["backbone.body.conv1.weight"].grad.any()


@pytest.mark.slow
@pytest.mark.parametrize("trained", ["box_head", "backbone"])
def test_the_detector_stays_in_evaluation_and_in_fp32(detector: Detector, trained: str) -> None:
    tower = encoder(detector, trained=trained).train().to(torch.bfloat16)
    assert not any(module.training for module in tower.detector.modules())
    assert {value.dtype for value in tower.detector.state_dict().values()} == {torch.float32}
    expected = encoder(detector)(photos(1))
    found = tower(photos(1))
    assert found.features.dtype == torch.bfloat16
    assert torch.equal(found.positions, expected.positions)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encoder(detector)(photos(1)).positions, expected.positions)


@pytest.mark.slow
@torch.no_grad()
def test_pictures_of_any_shape_are_brought_to_the_detectors_size(detector: Detector) -> None:
    transform = detector.network.transform
    assert (transform.min_size, transform.max_size) == ((800,), 1333)
    published = fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=48, max_size=96, box_score_thresh=0.0
    )
    published.load_state_dict(detector.network.state_dict(), strict=False)
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.rand(3, height, width, generator=generator) for height, width in ((30, 45), (200, 40))]
    try:
        transform.min_size, transform.max_size = (48,), 96
        found = detector.find_in_pictures(pictures, 7)
    finally:
        transform.min_size, transform.max_size = (800,), 1333
    assert found.boxes.shape == (2, 7, 5)
    for number, picture in enumerate(pictures):
        (detections,) = published.eval()([picture])
        height, width = picture.shape[1:]
        pixels = found.boxes[number, 0, :4] * torch.tensor([width, height, width, height])
        assert found.classes[number, 0] == detections["labels"][0]
        torch.testing.assert_close(pixels, detections["boxes"][0], rtol=1e-3, atol=1e-2)


@pytest.mark.slow
def test_weights_come_from_a_file_of_torchvisions_detector(tmp_path: Path, detector: Detector) -> None:
    state = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    assert any(name.endswith("num_batches_tracked") for name in state)
    old = {name.replace("rpn.head.conv.0.0.", "rpn.head.conv."): value for name, value in state.items()}
    assert "rpn.head.conv.weight" in old  # as in the published file of 2019
    torch.save(old, tmp_path / "detector.pth")
    loaded = load_detector(str(tmp_path / "detector.pth"), "--weights").network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.items())


def test_wrong_weights_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    with pytest.raises(XmrError, match=rf"--method.image.weights {path}: neither coco, nor none, nor a file"):
        FasterRcnn(str(path)).build(dataset(), "image")
    torch.save({"fc.weight": torch.zeros(3)}, path)
    with pytest.raises(XmrError, match=rf"{path} does not hold the weights of torchvision's fasterrcnn_resnet50_fpn"):
        FasterRcnn(str(path)).build(dataset(), "image")


@pytest.mark.parametrize(
    ("scores", "complaint"), [((1, 1024), r"is \(1, 1024\)"), ((5, 7), r"is \(5, 7\)"), ((1024,), r"is \(1024,\)")]
)
def test_a_detectors_classes_are_counted_in_its_file(tmp_path: Path, scores: tuple[int, ...], complaint: str) -> None:
    path = tmp_path / "odd.pth"
    torch.save({SCORES: torch.zeros(scores)}, path)
    with pytest.raises(XmrError, match=rf"odd.pth does not hold .*box_predictor.cls_score.weight {complaint}"):
        load_detector(str(path), "--weights")
    torch.save({SCORES: torch.zeros(7, 1024)}, path)
    with pytest.raises(XmrError, match=r"odd.pth does not hold .* with 7 classes: "):
        load_detector(str(path), "--weights")


def test_a_missing_network_names_the_ways_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(XmrError, match=r"COCO weights.*Name or service.*--method.image.weights FILE.*GridRegions"):
        FasterRcnn().build(dataset(), "image")


def test_stored_regions_are_taken_as_they_are() -> None:
    tower = StoredRegions().build(dataset(widths={"regions": 4}), "image")
    assert tower.dim == 4
    regions = Regions(torch.randn(2, 3, 4), torch.rand(2, 3, 5), torch.tensor([[1, 2, 3], [4, 5, 6]]))
    rows, mask, places, targets = tower(regions)
    assert torch.equal(rows, regions.features) and torch.equal(places, regions.boxes)
    assert targets is not None and torch.equal(targets, regions.classes)
    assert mask.shape == (2, 3) and mask.all()
    with pytest.raises(XmrError, match=r"python -m preprocessing.regions SHARDS"):
        StoredRegions().build(dataset(), "image")
