"""DSCMR on NUS-WIDE-10k: VGG-19 and sentence CNN, end to end (Zhen et al., 2019).

    python -m preprocessing.nuswide RAW data/shards/nuswide_10k --subset 10k
    python recipes/dscmr_nuswide10k.py
    python recipes/dscmr_nuswide10k.py --method.frozen

The setting of recipes/dscmr_wikipedia.py. The released weights are Pascal Sentence's; those of other datasets are not
published.

Published, mAP@all: image to text 0.611, text to image 0.615.
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
        name="dscmr_nuswide10k",
        data=replace(base.data, shards=Path("data/shards/nuswide_10k")),
    )


if __name__ == "__main__":
    main(experiment)
