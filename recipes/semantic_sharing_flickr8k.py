"""Semantic Sharing on Flickr8k (Yang et al., IJCAI 2021): grid regions and word2vec-BiGRU.

    python -m preprocessing.flickr RAW data/shards/flickr8k_concepts --labels TABLE
    python recipes/semantic_sharing_flickr8k.py
    python recipes/semantic_sharing_flickr8k.py --method.frozen

The small setting of recipes/_flickr8k_small.py, but for labels that are several per picture (--words without
--single). The regions are the cells of the network's last map: a detector wants pretrained weights, and larger
pictures. The paper's weight of masked words and objects on Flickr, 0.1, lets them outweigh the labels in so short a
training: here it is the one that it has for MSCOCO.
"""

from dataclasses import replace
from pathlib import Path

from xmr_e2e import Experiment, main
from xmr_e2e.methods import SemanticSharing
from xmr_e2e.recipes._flickr8k_small import small
from xmr_e2e.towers import BiGruWords, GridRegions


def experiment() -> Experiment:
    """The small setting with this method."""
    method = SemanticSharing(
        image=GridRegions("resnet10_slim", weights="none"),
        text=BiGruWords(hidden=128),
        dim=128,
        layers=2,
        heads=4,
        feedforward=256,
        context=0.01,
    )
    base = small("semantic_sharing_flickr8k", method)
    return replace(
        base,
        data=replace(base.data, shards=Path("data/shards/flickr8k_concepts")),
        train=replace(base.train, epochs=14, batch_size=50, select="mAP@all"),
    )


if __name__ == "__main__":
    main(experiment)
