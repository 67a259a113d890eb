"""DRCL on Flickr8k (IEEE Transactions on Multimedia, 2025): a slim residual network and sentence CNN.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/drcl_flickr8k.py
    python recipes/drcl_flickr8k.py --method.frozen

Flickr8k has no classes: the table (image, split, label) is the user's, such as preprocessing.caption_labels makes from
words of the captions. Such labels are weak: a text can give its label away, a picture cannot. A slim image network
from random weights, so that two cores train it in minutes. Each modality trains in two stages, so the epochs are half
as many as for the other methods.
"""

from __future__ import annotations

from pathlib import Path

from xmr_e2e.data.augment import Augment
from xmr_e2e.data.config import Data
from xmr_e2e.methods.drcl import Drcl
from xmr_e2e.runs.experiment import Experiment, Optimizer, Schedule, Train
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn
from xmr_e2e.training.launch import main


def experiment() -> Experiment:
    """The configuration; every field can be changed on the command line."""
    return Experiment(
        name="drcl_flickr8k",
        data=Data(
            Path("data/shards/flickr8k"),
            image_size=96,
            load_size=112,
            max_tokens=80,
            augment=Augment(min_area=0.5, color=0.2),
        ),
        method=Drcl(
            image=ImageTower("resnet10_slim", weights="none"),
            text=TextCnn(),
            hidden=1024,
            dim=512,
            hardness_epochs=5,  # so that the hardness rises to 1 over the stage's epochs, as in the released code's 100
        ),
        optimizer=Optimizer("adamw", lr=1e-3, weight_decay=0.05),
        schedule=Schedule("cosine", warmup=0.05),
        train=Train(epochs=5, batch_size=100),
    )


if __name__ == "__main__":
    main(experiment)
