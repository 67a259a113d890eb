"""SDML, a baseline, on XMedia's five modalities: three of them as features (Hu et al., 2019).

    python -m preprocessing.xmedia RAW data/shards/xmedia
    python recipes/sdml_xmedia_features.py
    python recipes/sdml_xmedia_features.py --method.frozen
    python recipes/sdml_xmedia_features.py --method.prior-weights runs/drcl_xmedia_features/first

The setting of recipes/sdml_wikipedia.py. Pictures and texts are raw; audio, video and 3D are published features.
"""

from dataclasses import replace
from pathlib import Path

from xmr_e2e import Experiment, main
from xmr_e2e.recipes._five_media import FEATURES
from xmr_e2e.recipes.sdml_wikipedia import experiment as wikipedia


def experiment() -> Experiment:
    """The configuration on Wikipedia, and what differs from it."""
    base = wikipedia()
    data = replace(base.data, shards=Path("data/shards/xmedia"))
    return replace(base, name="sdml_xmedia_features", data=data, method=replace(base.method, **FEATURES))


if __name__ == "__main__":
    main(experiment)
