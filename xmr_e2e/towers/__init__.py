"""Networks of one modality: a configuration for each, which a method is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xmr_e2e.lazy import lazy_attributes

if TYPE_CHECKING:
    from xmr_e2e.towers.base import SequenceTower as SequenceTower
    from xmr_e2e.towers.base import TowerConfig as TowerConfig
    from xmr_e2e.towers.image import ImageTower as ImageTower
    from xmr_e2e.towers.points import PointNet as PointNet
    from xmr_e2e.towers.points import RenderedViews as RenderedViews
    from xmr_e2e.towers.pretrained import PretrainedText as PretrainedText
    from xmr_e2e.towers.pretrained import PretrainedVision as PretrainedVision
    from xmr_e2e.towers.regions import FasterRcnn as FasterRcnn
    from xmr_e2e.towers.regions import GridRegions as GridRegions
    from xmr_e2e.towers.regions import StoredRegions as StoredRegions
    from xmr_e2e.towers.sound import PretrainedSound as PretrainedSound
    from xmr_e2e.towers.sound import SoundTower as SoundTower
    from xmr_e2e.towers.text import BiGru as BiGru
    from xmr_e2e.towers.text import BiGruWords as BiGruWords
    from xmr_e2e.towers.text import BiLstmCnn as BiLstmCnn
    from xmr_e2e.towers.text import MeanWords as MeanWords
    from xmr_e2e.towers.text import TextCnn as TextCnn
    from xmr_e2e.towers.vector import VectorTower as VectorTower
    from xmr_e2e.towers.video import MeanOfFrames as MeanOfFrames
    from xmr_e2e.towers.video import VideoTower as VideoTower
else:  # as in xmr_e2e
    _MODULES = {
        "BiGru": "xmr_e2e.towers.text",
        "BiGruWords": "xmr_e2e.towers.text",
        "BiLstmCnn": "xmr_e2e.towers.text",
        "FasterRcnn": "xmr_e2e.towers.regions",
        "GridRegions": "xmr_e2e.towers.regions",
        "ImageTower": "xmr_e2e.towers.image",
        "MeanOfFrames": "xmr_e2e.towers.video",
        "MeanWords": "xmr_e2e.towers.text",
        "PointNet": "xmr_e2e.towers.points",
        "PretrainedSound": "xmr_e2e.towers.sound",
        "PretrainedText": "xmr_e2e.towers.pretrained",
        "PretrainedVision": "xmr_e2e.towers.pretrained",
        "RenderedViews": "xmr_e2e.towers.points",
        "SequenceTower": "xmr_e2e.towers.base",
        "SoundTower": "xmr_e2e.towers.sound",
        "StoredRegions": "xmr_e2e.towers.regions",
        "TextCnn": "xmr_e2e.towers.text",
        "TowerConfig": "xmr_e2e.towers.base",
        "VectorTower": "xmr_e2e.towers.vector",
        "VideoTower": "xmr_e2e.towers.video",
    }
    __all__ = list(_MODULES)
    __getattr__ = lazy_attributes(__name__, _MODULES)
