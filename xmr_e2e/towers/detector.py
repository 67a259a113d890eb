"""Faster R-CNN as a source of regions: torchvision's ResNet-50-FPN one, trained on COCO or on anything else."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import FasterRCNN, FasterRCNN_ResNet50_FPN_Weights
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d, batched_nms, clip_boxes_to_image

from xmr_e2e.errors import XmrError
from xmr_e2e.shards.schema import COCO_CLASSES
from xmr_e2e.towers.networks import read_state_dict

WIDTH = 1024
"""of the box head's fc7"""
SCORES = "roi_heads.box_predictor.cls_score.weight"
"""the weight, (classes, WIDTH), that says how many classes a detector has"""
_PART = 8  # pictures at a time: the box head looks at up to 1,000 proposals in each of them
_SMALLEST = 1.0  # side in pixels; thinner boxes are the regressor's failures


class Found(NamedTuple):
    """The r regions of n pictures, the best first."""

    pooled: Tensor
    """(n, r, 256, 7, 7): what the box head sees of them"""
    proposals: Tensor
    """(n, r, 4): where it sees that, in pixels of the images that the backbone saw; the boxes are these, refined"""
    boxes: Tensor
    """(n, r, 5): x1, y1, x2, y2 as shares of the picture's width and height, and the box's share of its area"""
    classes: Tensor
    """(n, r) int64: the likeliest object's class id, never background"""


class Detector(nn.Module):
    """A Faster R-CNN that stays as it is: never in training mode, without gradients, in fp32."""

    def __init__(self, network: FasterRCNN) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()

    @property
    def classes(self) -> int:
        """Number of its objects' classes, background included."""
        return int(self.network.roi_heads.box_predictor.cls_score.out_features)

    def train(self, mode: bool = True) -> Self:
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # It moves between devices, but keeps fp32 where DeepSpeed casts the model: boxes need more digits than bf16's.
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)

    @torch.no_grad()
    def find(self, images: Tensor, count: int) -> Found:
        """The `count` best regions of images (n, 3, h, w) as they are, normalised by ImageNet's statistics."""
        with torch.autocast(images.device.type, enabled=False):
            parts = [
                self._find(ImageList(part, [tuple(part.shape[2:])] * len(part)), count)
                for part in images.float().split(_PART)
            ]
        return Found(*map(torch.cat, zip(*parts)))

    @torch.no_grad()
    def find_in_pictures(self, pictures: Sequence[Tensor], count: int) -> Found:
        """The same of pictures (3, h, w), RGB in [0, 1], each brought to 800 pixels as torchvision does."""
        with torch.autocast(pictures[0].device.type, enabled=False):
            # One by one: padded to the size of others, a picture would have other regions.
            parts = [self._find(self.network.transform([picture.float()])[0], count) for picture in pictures]
        return Found(*map(torch.cat, zip(*parts)))

    def describe(self, pooled: Tensor) -> Tensor:
        """fc7 (..., 1024) of pooled regions (..., 256, 7, 7)."""
        return describe(self.network.roi_heads.box_head, pooled)

    def pool(self, maps: Mapping[str, Tensor], proposals: Tensor, size: tuple[int, int]) -> Tensor:
        """A box head's input for proposals (n, r, 4), with gradient to the maps: (n, r, 256, 7, 7), fp32.

        maps: of a backbone, by level, of n images of this size, (h, w). The proposals are in their pixels.
        """
        with torch.autocast(proposals.device.type, enabled=False):
            whole = {level: rows.float() for level, rows in maps.items()}
            pooled: Tensor = self.network.roi_heads.box_roi_pool(whole, list(proposals), [size] * len(proposals))
        return pooled.unflatten(0, proposals.shape[:2])

    def _find(self, images: ImageList, count: int) -> Found:
        network = self.network
        maps = network.backbone(images.tensors)
        proposals, _ = network.rpn(images, maps)
        proposals = [_fill_up(boxes, size, count) for boxes, size in zip(proposals, images.image_sizes)]
        pooled = network.roi_heads.box_roi_pool(maps, proposals, images.image_sizes)
        logits, offsets = network.roi_heads.box_predictor(network.roi_heads.box_head(pooled))
        boxes = network.roi_heads.box_coder.decode(offsets, proposals)
        sizes = [len(part) for part in proposals]
        columns = zip(proposals, pooled.split(sizes), boxes.split(sizes), logits.split(sizes), images.image_sizes)
        return Found(*map(torch.stack, zip(*(self._best(*column, count) for column in columns))))

    def _best(
        self, proposals: Tensor, pooled: Tensor, boxes: Tensor, logits: Tensor, size: tuple[int, int], count: int
    ) -> Found:
        """The regions of one picture of p proposals: boxes (p, classes, 4) and logits (p, classes) for each of them.

        Each proposal stands for its likeliest object. Those that overlap a better one of the same class (non-maximum
        suppression) come after the others, and thin ones at the end.
        """
        scores, classes = F.softmax(logits, dim=1)[:, 1:].max(dim=1)
        classes = classes + 1
        boxes = clip_boxes_to_image(boxes[torch.arange(len(boxes), device=boxes.device), classes], size)
        sides = boxes[:, 2:] - boxes[:, :2]
        scores = torch.where((sides >= _SMALLEST).all(dim=1), scores, 0)
        kept = batched_nms(boxes, scores, classes, self.network.roi_heads.nms_thresh)
        ranks = scores.index_add(0, kept, (scores[kept] > 0).to(scores.dtype))
        best = ranks.sort(descending=True, stable=True).indices[:count]
        return Found(pooled[best], proposals[best], _shares(boxes[best], size), classes[best])


def describe(box_head: nn.Module, pooled: Tensor) -> Tensor:
    """A box head's output (..., d) for pooled regions (..., 256, 7, 7)."""
    rows: Tensor = box_head(pooled.flatten(0, -4))
    return rows.unflatten(0, pooled.shape[:-3])


def _fill_up(proposals: Tensor, size: tuple[int, int], count: int) -> Tensor:
    """Proposals (p, 4), at least `count` of them: small pictures yield fewer, and get themselves as a whole for it."""
    missing = max(0, count - len(proposals))
    whole = proposals.new_tensor([[0, 0, size[1], size[0]]])
    return torch.cat([proposals, whole.expand(missing, 4)])


def _shares(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Corners in pixels, (r, 4), to shares of width and height, with the area's, (r, 5)."""
    corners = boxes / boxes.new_tensor([size[1], size[0], size[1], size[0]])
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    return torch.cat([corners, area[:, None]], dim=1)


def load_detector(weights: str, option: str, classes: int = COCO_CLASSES) -> Detector:
    """torchvision's Faster R-CNN.

    Args:
        weights: coco, none (random), or a file with a state dict of fasterrcnn_resnet50_fpn, of any number of classes.
        option: by which the user names the weights, for errors.
        classes: of random weights, background included.

    Raises:
        XmrError: weights that cannot be had, read or fitted.
    """
    state: Mapping[str, Tensor] = {}
    if weights == "coco":
        state = _download(option)
    elif weights != "none":
        state = read_state_dict(Path(weights), option, "coco")
        classes = _count_classes(state, weights)
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=_FrozenNorm)
    network = FasterRCNN(backbone, num_classes=classes)
    if state:
        try:
            network.load_state_dict(state)  # knows the names of torchvision's older files too
        except RuntimeError as error:
            raise _misfit(weights, f"with {classes} classes: {' '.join(str(error).split())[:300]}") from error
    return Detector(network)


def _count_classes(state: Mapping[str, Tensor], weights: str) -> int:
    """Classes of the detector with this state dict; raises XmrError where it does not say."""
    if SCORES not in state:
        raise _misfit(weights, f"({SCORES} is missing)")
    shape = tuple(state[SCORES].shape)
    if len(shape) != 2 or shape[0] < 2 or shape[1] != WIDTH:
        raise _misfit(weights, f"({SCORES} is {shape}, not (classes, {WIDTH}), background being one of two at least)")
    return shape[0]


def _misfit(weights: str, complaint: str) -> XmrError:
    return XmrError(f"{weights} does not hold the weights of torchvision's fasterrcnn_resnet50_fpn {complaint}")


class _FrozenNorm(FrozenBatchNorm2d):
    """Frozen whatever the weights, so that all detectors have the same parameters. No epsilon: torchvision's weights
    were trained without."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=0.0)


def _download(option: str) -> dict[str, Any]:
    published = FasterRCNN_ResNet50_FPN_Weights.COCO_V1
    try:
        return dict(published.get_state_dict(progress=True, check_hash=True))
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        raise XmrError(
            f"The COCO weights of Faster R-CNN cannot be had from {published.url}: {error}. Either name a file with a "
            f"state dict of torchvision's fasterrcnn_resnet50_fpn ({option} FILE.pth), or do without a detector: "
            "GridRegions takes the cells of a classifier's last feature map as regions"
        ) from error
