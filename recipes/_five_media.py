"""The towers of sounds, videos and 3D shapes that recipes of five modalities share."""

from xmr_e2e.towers import PointNet, SoundTower, TowerConfig, VectorTower, VideoTower

RAW: dict[str, TowerConfig] = {
    "audio": SoundTower("resnet18", weights="imagenet"),
    "video": VideoTower("r3d_18"),
    "shape3d": PointNet(),
}
"""end to end, from the files; the papers on five modalities all start from features"""
FEATURES: dict[str, TowerConfig] = {"audio": VectorTower(), "video": VectorTower(), "shape3d": VectorTower()}
"""the publishers' features"""
RAW_RATES = {
    "towers.audio": 1e-5,
    "towers.video": 1e-5,
    "consistency-audio:towers": 1e-5,
    "consistency-video:towers": 1e-5,
}
"""of the pretrained networks among RAW: the pictures' rate in DRCL's recipes"""
