"""ALSCOR on NUS-WIDE's 21 concepts: AlexNet and word2vec-BiLSTM-CNN, deep CCA with an adversary (Zhu et al., 2019).

    python -m preprocessing.nuswide RAW data/shards/nuswide_tc21_official --subset tc21-official --tags 1k
    python recipes/alscor_nuswide.py

The setting of recipes/alscor_wikipedia.py. Multi-label: binary cross-entropy in place of softmax. What the paper leaves
open, and where this differs: docs/reproduction.md.

Published, mAP@50: image to text 0.6088, text to image 0.6526.
"""

from dataclasses import replace
from pathlib import Path

from xmr_e2e import Experiment, main
from xmr_e2e.recipes.alscor_wikipedia import experiment as wikipedia


def experiment() -> Experiment:
    """The configuration on Wikipedia, and what differs from it."""
    base = wikipedia()
    return replace(
        base,
        name="alscor_nuswide",
        data=replace(base.data, shards=Path("data/shards/nuswide_tc21_official")),
    )


if __name__ == "__main__":
    main(experiment)
