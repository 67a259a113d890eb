"""DRCL on five media of your own: small networks from random weights, raw files, in minutes on two cores.

    python -m preprocessing.folder RAW data/shards/five_media
    python recipes/drcl_five_media.py
    python recipes/drcl_five_media.py --method.video.kind none --method.shape3d.kind none

RAW is any folder or table of pictures, texts, sounds, videos and shapes; samples need not be pairs. A drawn set, of
preprocessing.synthetic with --five, shows that all of it works, and nothing more. Networks that have learnt something
are chosen on the command line (docs/backbones.md, docs/towers_media.md), modalities that are not there left out as
above.
"""

from pathlib import Path

from xmr_e2e import Data, Experiment, Optimizer, Schedule, Train, WordVectors, main
from xmr_e2e.data.augment import Augment
from xmr_e2e.data.media import Shapes, Sounds, Videos
from xmr_e2e.methods import Drcl
from xmr_e2e.towers import ImageTower, MeanOfFrames, PointNet, SoundTower, TextCnn


def experiment() -> Experiment:
    """The configuration; every field can be changed on the command line."""
    return Experiment(
        name="drcl_five_media",
        data=Data(
            Path("data/shards/five_media"),
            image_size=64,
            load_size=72,
            max_tokens=80,
            words=WordVectors(dim=50, epochs=100),  # of a few hundred texts
            augment=Augment(min_area=0.6),
            audio=Sounds(seconds=2.0),
            video=Videos(frames=4, size=64),
            shape3d=Shapes(points=512),
        ),
        method=Drcl(
            image=ImageTower("resnet10_slim", weights="none"),
            text=TextCnn(),
            audio=SoundTower("resnet10_slim"),
            video=MeanOfFrames("resnet10_slim", weights="none"),
            shape3d=PointNet(width=256),
            hidden=256,
            dim=64,
        ),
        optimizer=Optimizer(
            "adamw", lr=1e-3, weight_decay=0.05, lr_overrides={"prior-text:": 3e-3, "consistency-text:": 3e-3}
        ),
        schedule=Schedule("cosine", warmup=0.05),
        train=Train(epochs=10, batch_size=16),
    )


if __name__ == "__main__":
    main(experiment)
