"""ALSCOR on Pascal Sentence: AlexNet and word2vec-BiLSTM-CNN, deep CCA with an adversary (Zhu et al., 2019).

    python -m preprocessing.pascal_sentence RAW data/shards/pascal_sentence
    python recipes/alscor_pascal.py
    python recipes/alscor_pascal.py --train.epochs 5 --method.image.weights none

The setting of recipes/alscor_wikipedia.py. What the paper leaves open, and where this differs: docs/reproduction.md.

Published, mAP@50: image to text 0.6392, text to image 0.6841.
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
        name="alscor_pascal",
        data=replace(base.data, shards=Path("data/shards/pascal_sentence")),
    )


if __name__ == "__main__":
    main(experiment)
