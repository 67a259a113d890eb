"""ACMR, a baseline, on Flickr8k (Wang et al., 2017): a slim residual network and sentence CNN.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/acmr_flickr8k.py
    python recipes/acmr_flickr8k.py --method.frozen

Flickr8k has no classes: the table (image, split, label) is the user's, such as preprocessing.caption_labels makes from
words of the captions. Such labels are weak: a text can give its label away, a picture cannot. A slim image network
from random weights, so that two cores train it in minutes.
"""

from __future__ import annotations

from pathlib import Path

from xmr_e2e.data.augment import Augment
from xmr_e2e.data.config import Data
from xmr_e2e.methods.acmr import Acmr
from xmr_e2e.runs.experiment import Experiment, Optimizer, Schedule, Train
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn
from xmr_e2e.training.launch import main


def experiment() -> Experiment:
    """The configuration; every field can be changed on the command line."""
    return Experiment(
        name="acmr_flickr8k",
        data=Data(
            Path("data/shards/flickr8k"),
            image_size=96,
            load_size=112,
            max_tokens=80,
            augment=Augment(min_area=0.5, color=0.2),
        ),
        method=Acmr(image=ImageTower("resnet10_slim", weights="none"), text=TextCnn(), label=10.0, attract=0.2),
        optimizer=Optimizer("adamw", lr=1e-3, weight_decay=0.05),
        schedule=Schedule("cosine", warmup=0.05),
        train=Train(epochs=8, batch_size=100),
    )


if __name__ == "__main__":
    main(experiment)
