"""Semantic Sharing on Flickr8k (Yang et al., IJCAI 2021): grid regions and word2vec-BiGRU.

    python -m preprocessing.flickr RAW data/shards/flickr8k_concepts --labels TABLE
    python recipes/semantic_sharing_flickr8k.py
    python recipes/semantic_sharing_flickr8k.py --method.frozen

Flickr8k has no classes: the table (image, split, label) is the user's, such as preprocessing.caption_labels makes from
words of the captions. Such labels are weak: a text can give its label away, a picture cannot. A slim image network
from random weights, so that two cores train it in minutes. The labels here are several per picture (--words without
--single). The regions are the cells of the network's last map: a detector wants pretrained weights, and larger
pictures. The paper's weight of masked words and objects on Flickr, 0.1, lets them outweigh the labels in so short a
training: here it is the one that it has for MSCOCO.
"""

from __future__ import annotations

from pathlib import Path

from xmr_e2e.data.augment import Augment
from xmr_e2e.data.config import Data
from xmr_e2e.methods.semantic_sharing import SemanticSharing
from xmr_e2e.runs.experiment import Experiment, Optimizer, Schedule, Train
from xmr_e2e.towers.regions import GridRegions
from xmr_e2e.towers.text import BiGruWords
from xmr_e2e.training.launch import main


def experiment() -> Experiment:
    """The configuration; every field can be changed on the command line."""
    return Experiment(
        name="semantic_sharing_flickr8k",
        data=Data(
            Path("data/shards/flickr8k_concepts"),
            image_size=96,
            load_size=112,
            max_tokens=80,
            augment=Augment(min_area=0.5, color=0.2),
        ),
        method=SemanticSharing(
            image=GridRegions("resnet10_slim", weights="none"),
            text=BiGruWords(hidden=128),
            dim=128,
            layers=2,
            heads=4,
            feedforward=256,
            context=0.01,
        ),
        optimizer=Optimizer("adamw", lr=1e-3, weight_decay=0.05),
        schedule=Schedule("cosine", warmup=0.05),
        train=Train(epochs=14, batch_size=50, select="mAP@all"),
    )


if __name__ == "__main__":
    main(experiment)
