"""SDCMR on XMediaNet: VGG-19 and sentence CNN, end to end (Wang et al., 2024).

    python -m preprocessing.xmedianet RAW data/shards/xmedianet
    python recipes/sdcmr_xmedianet.py
    python recipes/sdcmr_xmedianet.py --method.frozen

The setting of recipes/sdcmr_wikipedia.py. The paper has no validation split (32,000/8,000).

Published, mAP@all: image to text 0.653, text to image 0.661.
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
        name="sdcmr_xmedianet",
        data=replace(base.data, shards=Path("data/shards/xmedianet")),
    )


if __name__ == "__main__":
    main(experiment)
