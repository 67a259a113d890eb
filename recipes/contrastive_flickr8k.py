"""Contrastive training on Flickr8k (Radford et al., 2021): InfoNCE, slim residual network, sentence CNN; no labels.

    python -m preprocessing.flickr RAW data/shards/flickr8k_pairs
    python recipes/contrastive_flickr8k.py
    python recipes/contrastive_flickr8k.py --method.loss sigmoid
    python recipes/contrastive_flickr8k.py --method.loss triplet --method.all-negatives 1

The small setting of recipes/_flickr8k_small.py, with one of the captions of each picture in each epoch. Epochs are
chosen by the sum of recalls, and each caption is an item of its own.
"""

from dataclasses import replace
from pathlib import Path

from xmr_e2e import Experiment, main
from xmr_e2e.methods import Contrastive
from xmr_e2e.recipes._flickr8k_small import SLIM, small
from xmr_e2e.towers import TextCnn


def experiment() -> Experiment:
    """The small setting with this method, on data without labels."""
    base = small("contrastive_flickr8k", Contrastive(image=SLIM, text=TextCnn(), dim=512))
    return replace(
        base,
        data=replace(base.data, shards=Path("data/shards/flickr8k_pairs"), texts="one_caption"),
        train=replace(base.train, epochs=20),
    )


if __name__ == "__main__":
    main(experiment)
