"""MARS, a baseline, on Flickr8k (Wang and Peng, 2021): a slim residual network and sentence CNN.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/mars_flickr8k.py
    python recipes/mars_flickr8k.py --method.frozen

Flickr8k has no classes: the table (image, split, label) is the user's, such as preprocessing.caption_labels makes from
words of the captions. Such labels are weak: a text can give its label away, a picture cannot. A slim image network
from random weights, so that two cores train it in minutes. Each modality trains in a stage of its own.
"""

from __future__ import annotations

from pathlib import Path

from xmr_e2e.data.augment import Augment
from xmr_e2e.data.config import Data
from xmr_e2e.methods.mars import Mars
from xmr_e2e.runs.experiment import Experiment, Optimizer, Schedule, Train
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn
from xmr_e2e.training.launch import main


def experiment() -> Experiment:
    """The configuration; every field can be changed on the command line."""
    return Experiment(
        name="mars_flickr8k",
        data=Data(
            Path("data/shards/flickr8k"),
            image_size=96,
            load_size=112,
            max_tokens=80,
            augment=Augment(min_area=0.5, color=0.2),
        ),
        method=Mars(image=ImageTower("resnet10_slim", weights="none"), text=TextCnn()),
        optimizer=Optimizer("adamw", lr=1e-3, weight_decay=0.05),
        schedule=Schedule("cosine", warmup=0.05),
        train=Train(epochs=8, batch_size=100),
    )


if __name__ == "__main__":
    main(experiment)
