"""MARS, a baseline, on XMedia's five modalities: three of them as features (Wang and Peng, 2021).

    python -m preprocessing.xmedia RAW data/shards/xmedia
    python recipes/mars_xmedia_features.py
    python recipes/mars_xmedia_features.py --method.frozen
    python recipes/mars_xmedia_features.py --method.prior-weights runs/drcl_xmedia_features/first --method.dim 512

The setting of recipes/mars_wikipedia.py, but for 200 epochs. Pictures and texts are raw; audio, video and 3D are
published features.
"""

from dataclasses import replace
from pathlib import Path

from xmr_e2e import Experiment, main
from xmr_e2e.recipes._five_media import FEATURES
from xmr_e2e.recipes.mars_wikipedia import experiment as wikipedia


def experiment() -> Experiment:
    """The configuration on Wikipedia, and what differs from it."""
    base = wikipedia()
    return replace(
        base,
        name="mars_xmedia_features",
        data=replace(base.data, shards=Path("data/shards/xmedia")),
        method=replace(base.method, **FEATURES),
        train=replace(base.train, epochs=200),
    )


if __name__ == "__main__":
    main(experiment)
