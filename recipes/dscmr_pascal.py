"""DSCMR on Pascal Sentence: VGG-19 and sentence CNN, end to end (Zhen et al., 2019).

    python -m preprocessing.pascal_sentence RAW data/shards/pascal_sentence
    python recipes/dscmr_pascal.py
    python recipes/dscmr_pascal.py --method.frozen

The setting of recipes/dscmr_wikipedia.py. The released weights of the loss are those for this dataset.

Published, mAP@all: image to text 0.710, text to image 0.722.
"""

from dataclasses import replace
from pathlib import Path

from xmr_e2e import Experiment, main
from xmr_e2e.recipes.dscmr_wikipedia import experiment as wikipedia


def experiment() -> Experiment:
    """The configuration on Wikipedia, and what differs from it."""
    base = wikipedia()
    return replace(
        base,
        name="dscmr_pascal",
        data=replace(base.data, shards=Path("data/shards/pascal_sentence")),
    )


if __name__ == "__main__":
    main(experiment)
