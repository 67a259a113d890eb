"""ALSCOR on Flickr8k: AlexNet from random weights and word2vec-BiLSTM-CNN, in minutes on two cores.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/alscor_flickr8k.py
    python recipes/alscor_flickr8k.py --method.image.weights imagenet --data.image-size 128

No paper reports ALSCOR on Flickr8k, and Flickr8k has no classes: the table (image, split, label) is the user's. Labels
made from words of the captions, as in docs/results/, are weak: a text can give its label away, a picture cannot.
AdamW instead of the paper's SGD, which hardly moves an AlexNet from random weights in so few steps.
"""

from __future__ import annotations

from pathlib import Path

from xmr_e2e.data.augment import Augment
from xmr_e2e.data.config import Data
from xmr_e2e.methods.alscor import Alscor
from xmr_e2e.runs.experiment import Experiment, Optimizer, Schedule, Train
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import BiLstmCnn
from xmr_e2e.training.launch import main


def experiment() -> Experiment:
    """The configuration; every field can be changed on the command line."""
    return Experiment(
        name="alscor_flickr8k",
        data=Data(
            Path("data/shards/flickr8k"), image_size=112, load_size=128, augment=Augment(min_area=0.5, color=0.2)
        ),
        method=Alscor(
            image=ImageTower(weights="none", dropout=0.5),
            text=BiLstmCnn(),
            dim=40,
            correlation=0.02,
            adversary=0.3,
            ridge=0.1,
        ),
        optimizer=Optimizer("adamw", lr=1e-3, weight_decay=0.05, lr_overrides={"towers.image": 2e-4}),
        schedule=Schedule("cosine", warmup=0.05),
        train=Train(epochs=14, batch_size=100),
    )


if __name__ == "__main__":
    main(experiment)
