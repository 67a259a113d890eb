"""SDCMR on Pascal Sentence: VGG-19 and sentence CNN, end to end (Wang et al., 2024).

    python -m preprocessing.pascal_sentence RAW data/shards/pascal_sentence
    python recipes/sdcmr_pascal.py
    python recipes/sdcmr_pascal.py --method.frozen

The setting of recipes/sdcmr_wikipedia.py. The paper has no validation split (800/200); --splits 800/200 builds that,
for --train.select last.

Published, mAP@all: image to text 0.628, text to image 0.608.
"""

from dataclasses import replace
from pathlib import Path

from xmr_e2e import Experiment, main
from xmr_e2e.recipes.sdcmr_wikipedia import experiment as wikipedia


def experiment() -> Experiment:
    """The configuration on Wikipedia, and what differs from it."""
    base = wikipedia()
    return replace(
        base,
        name="sdcmr_pascal",
        data=replace(base.data, shards=Path("data/shards/pascal_sentence")),
    )


if __name__ == "__main__":
    main(experiment)
