"""Known leaks: pretrained weights that have seen the labels of the split on which they are measured."""

from __future__ import annotations

import re
from pathlib import Path

from xmr_e2e.methods.base import MethodConfig
from xmr_e2e.shards.manifest import Manifest
from xmr_e2e.shards.schema import REGIONS_MEMBER
from xmr_e2e.towers.base import TowerConfig
from xmr_e2e.towers.regions import FasterRcnn, StoredRegions

_COCO_FILE = "258fb6c6"
"""the beginning of the sha256 of torchvision's COCO_V1 file, which is part of its name as well"""
_COCO_NOTE = re.compile(rf"fasterrcnn_resnet50_fpn\b.*\bweights (coco\b|{_COCO_FILE})")
_COCO = "Faster R-CNN trained on COCO"
_SEEN = {
    # COCO train2017 is train2014 and val2014 less 5,000 pictures; Karpathy's val and test are drawn from val2014.
    (_COCO, "mscoco"): (
        "it was trained on COCO train2017, in which about 88 % of this dataset's val and test pictures are, with the "
        "annotations from which the labels here are made"
    ),
}
"""(weights, dataset) -> how the ones have seen the labels of the other"""


def known_leaks(method: MethodConfig, manifest: Manifest) -> tuple[str, ...]:
    """Known leaks that make the figures of a method on a dataset too high, a sentence each.

    What is not known here is not therefore clean: the weights of a file may have seen anything.
    """
    found = []
    for modality, tower in method.towers.items():
        weights = _origin(tower, manifest)
        if how := _SEEN.get((weights, manifest.dataset)):
            found.append(
                f"The {modality} tower has {weights}: {how}. Figures on val and test are too high, and no measurement "
                "of retrieval of unseen pictures."
            )
    return tuple(found)


def _origin(tower: TowerConfig, manifest: Manifest) -> str:
    """The origin of a tower's weights, or of those that its stored features come from; "" where that is not known."""
    is_coco = False
    if isinstance(tower, FasterRcnn):
        is_coco = tower.weights == "coco" or _COCO_FILE in Path(tower.weights).name
    elif isinstance(tower, StoredRegions):
        is_coco = _COCO_NOTE.search(manifest.extended.get(REGIONS_MEMBER, "")) is not None
    return _COCO if is_coco else ""
