"""Region towers: a picture as a sequence of its parts, from a grid, from a detector, or from the shards."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmr_e2e.bounds import Bounds
from xmr_e2e.data.inputs import Regions
from xmr_e2e.errors import XmrError
from xmr_e2e.received import first_line
from xmr_e2e.shards.schema import COCO_CLASSES
from xmr_e2e.towers.base import DatasetInfo, SequenceTower, TokenFeatures
from xmr_e2e.towers.image import try_image_size
from xmr_e2e.towers.trained import last_block

if TYPE_CHECKING:  # torchvision takes seconds to import, which --help need not take
    from xmr_e2e.towers.detector import Detector

_TRIAL_SIZE = 224  # pixels; all of torchvision's classifiers take pictures of that size


@dataclass(frozen=True)
class GridRegions(SequenceTower):
    """The cells of a classifier's last feature map as regions, all trained end to end; needs no detector."""

    kind = "grid"
    input_kind = "pixels"

    name: str = "resnet50"
    """any classifier by its torchvision name, timm:NAME, or one of this project's, as for the image tower"""
    weights: str = "imagenet"
    """imagenet, none (random), or a file with a state dict, as for the image tower"""
    cells: Annotated[int, Bounds(int, least=1, most=64)] = 6
    """cells of the picture's height, and of its width; the map is averaged to that"""

    def build(self, dataset: DatasetInfo, modality: str) -> GridEncoder:
        """Raises XmrError for an unknown name, weights that cannot be had, read or fitted, and an impossible image
        size."""
        from xmr_e2e.towers.networks import fit_image_size, load_network, statistics

        network, _ = load_network(self.name, self.weights)
        fit_image_size(network, self.name, dataset.image_size)
        node, width = _last_map(network)
        lower = _up_to(network, node, self.name)
        encoder = GridEncoder(lower, width, last_block(network), self.cells, *statistics(self.name))
        try_image_size(encoder, self.name, dataset)
        return encoder


class GridEncoder(nn.Module):
    """Images (n, 3, h, w), RGB, normalised by ImageNet's statistics -> their cells, row by row.

    `network` keeps torchvision's names of its parts: network.features, network.layer4, ...
    """

    dim: int
    boxes: Tensor

    def __init__(self, network: nn.Module, dim: int, last_block: str, cells: int, mean: Tensor, std: Tensor) -> None:
        """Take a network that gives its last map alone.

        Args:
            dim: channels of the map.
            last_block: its name; of a network that ends with the map, it cannot be told.
            mean, std: (3,), the normalisation that the network itself was trained with.
        """
        from xmr_e2e.towers.networks import Renormalize

        super().__init__()
        self.cells = cells
        self.dim = dim
        self.last_block = last_block
        self.network = network
        self.renormalize = Renormalize(mean, std)
        self.register_buffer("boxes", _grid(cells), persistent=False)

    def forward(self, images: Tensor) -> TokenFeatures:
        maps = self.network(self.renormalize(images))["map"]
        if maps.dim() == 3:  # a vision transformer's patches, behind its class token
            side = round((maps.shape[1] - 1) ** 0.5)
            maps = maps[:, 1:].transpose(1, 2).unflatten(2, (side, side))
        rows = F.adaptive_avg_pool2d(maps, self.cells).flatten(2).transpose(1, 2)
        return _whole_sequence(rows, self.boxes.expand(rows.shape[0], -1, -1), None)


@dataclass(frozen=True)
class FasterRcnn(SequenceTower):
    """Regions that Faster R-CNN finds: fc7 of its box head for the best ones (Semantic Sharing, Sec. 3.1).

    torchvision's detector with ResNet-50 and feature pyramid, on images of the size that they have: 600 pixels or more
    are its element. It sees the centred square of a picture, as all towers of pixels do, so objects at the sides of a
    wide photograph are not found; `python -m preprocessing.regions` looks at whole pictures (StoredRegions).
    """

    kind = "faster_rcnn"
    input_kind = "pixels"

    weights: str = "coco"
    """coco (torchvision's, downloaded once), none (random), or a .pth, .pt or .safetensors file with a state dict of
    fasterrcnn_resnet50_fpn, of any number of classes"""
    regions: Annotated[int, Bounds(int, least=1, most=1000)] = 36
    """regions of each picture, the most certain ones"""
    trained: Literal["none", "box_head", "backbone"] = field(default="box_head", kw_only=True)  # type: ignore[assignment]
    """trained part: box_head, what describes a region (fc6, fc7); backbone, ResNet and feature pyramid below it too,
    from the pixels on (at a rate of 1e-5 or less, --optimizer.lr-overrides); none, nothing. What finds the regions and
    names their classes never learns"""

    def build(self, dataset: DatasetInfo, modality: str) -> FasterRcnnEncoder:
        """Raises XmrError for weights that cannot be had, read or fitted."""
        from xmr_e2e.towers.detector import SCORES, load_detector

        # A saved model's detector has as many classes as its weights say.
        saved = dataset.shapes.get(f"towers.{modality}.detector.network.{SCORES}")
        classes = saved[0] if saved else COCO_CLASSES
        return FasterRcnnEncoder(load_detector(self.weights, f"--method.{modality}.weights", classes), self)


class FasterRcnnEncoder(nn.Module):
    """Images (n, 3, h, w), RGB, normalised by ImageNet's statistics -> their regions, the most certain first."""

    dim: int

    def __init__(self, detector: Detector, config: FasterRcnn) -> None:
        from xmr_e2e.towers.detector import WIDTH

        super().__init__()
        self.dim = WIDTH
        self.classes = detector.classes
        self.count = config.regions
        self.detector = detector
        # Copies: the detector goes on finding the regions, and naming their classes, with its own. So these do not
        # change as the tower learns, and what is masked stays what it was.
        self.box_head = self.backbone = None
        if config.trained != "none":
            self.box_head = copy.deepcopy(detector.network.roi_heads.box_head).requires_grad_()
        if config.trained == "backbone":
            self.backbone = copy.deepcopy(detector.network.backbone).requires_grad_()

    def forward(self, images: Tensor) -> TokenFeatures:
        from xmr_e2e.towers.detector import describe

        found = self.detector.find(images, self.count)
        if self.box_head is None:
            return _whole_sequence(self.detector.describe(found.pooled), found.boxes, found.classes)
        dtype = next(self.box_head.parameters()).dtype
        pooled = found.pooled
        if self.backbone is not None:
            # The choice of boxes has no gradient; what stands at the chosen places has one (RoIAlign).
            pooled = self.detector.pool(
                self.backbone(images.to(dtype)), found.proposals, (images.shape[2], images.shape[3])
            )
        return _whole_sequence(describe(self.box_head, pooled.to(dtype)), found.boxes, found.classes)


@dataclass(frozen=True)
class StoredRegions(SequenceTower):
    """The regions that the shards hold (python -m preprocessing.regions puts them there)."""

    kind = "stored"
    input_kind = "regions"
    has_published_weights = True  # the detector's that found them

    def build(self, dataset: DatasetInfo, modality: str) -> StoredRegionsEncoder:
        """Raises XmrError where the shards hold no regions."""
        if "regions" not in dataset.widths:
            raise XmrError(
                "the shards hold no regions: add them with `python -m preprocessing.regions SHARDS`, or choose a "
                f"tower that finds them in the pixels for --method.{modality} (GridRegions, FasterRcnn)"
            )
        return StoredRegionsEncoder(dataset.widths["regions"], dataset.widths.get("objects"))


class StoredRegionsEncoder(nn.Module):
    """Stored regions as they are."""

    dim: int

    def __init__(self, dim: int, classes: int | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.classes = classes
        """of the detector that found them, background included; None where the shards do not say"""

    def forward(self, regions: Regions) -> TokenFeatures:
        return _whole_sequence(regions.features, regions.boxes, regions.classes)


def _whole_sequence(rows: Tensor, boxes: Tensor, classes: Tensor | None) -> TokenFeatures:
    return TokenFeatures(rows, torch.ones(rows.shape[:2], dtype=torch.bool, device=rows.device), boxes, classes)


def _grid(cells: int) -> Tensor:
    """Boxes (cells * cells, 5) of a grid's cells, row by row: corners as shares of the sides, and share of the area."""
    edges = torch.arange(cells) / cells
    y, x = (edges.flatten()[:, None] for edges in torch.meshgrid(edges, edges, indexing="ij"))
    return torch.cat([x, y, x + 1 / cells, y + 1 / cells, torch.full_like(x, 1 / cells**2)], dim=1)


def _up_to(network: nn.Module, node: str, name: str) -> nn.Module:
    """A network up to one of its modules, without what lies above it, such as fully-connected layers.

    Raises:
        XmrError: its way there depends on the values of what it computes.
    """
    from torch.fx.proxy import TraceError
    from torchvision.models.feature_extraction import create_feature_extractor

    from xmr_e2e.towers.networks import untraced

    try:
        return create_feature_extractor(network, {node: "map"}, tracer_kwargs=untraced(name))
    except TraceError as error:
        raise XmrError(
            f"--method.image.name {name}: what lies above its last map cannot be told from it ({first_line(error)}); "
            "take another network for regions"
        ) from error


def _last_map(network: nn.Module) -> tuple[str, int]:
    """The module that gives the last feature map, and the map's channels."""
    from torchvision.models import VisionTransformer

    if isinstance(network, VisionTransformer):
        return "encoder", network.hidden_dim
    found: list[tuple[str, int]] = []

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def note(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.dim() == 4 and min(output.shape[2:]) > 1:
                found.append((name, output.shape[1]))

        return module.register_forward_hook(note)

    # Some poolings give maps too (AlexNet's and VGG's, of 6 x 6 and 7 x 7), but not of the network's own resolution.
    inner = {name: m for name, m in network.named_modules() if name and not isinstance(m, nn.AdaptiveAvgPool2d)}
    handles = [watch(name, module) for name, module in inner.items()]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, _TRIAL_SIZE, _TRIAL_SIZE))
    for handle in handles:
        handle.remove()
    return found[-1]
