"""DRCL's weights alpha and beta on Wikipedia and XMedia (Figures 3a and 3b): one varies while the other is 0.1.

    python -m preprocessing.wikipedia RAW data/shards/wikipedia
    python -m preprocessing.xmedia RAW data/shards/xmedia
    xmr study run drcl_figure3ab
    xmr study show drcl_figure3ab --out drcl_figure3ab.html

Heads on features that stay as they are, and three seeds each, as in the paper. Datasets and values are not in the text
at hand: these are ours.
"""

from xmr_e2e.recipes.drcl_wikipedia import experiment as wikipedia
from xmr_e2e.recipes.drcl_xmedia_features import experiment as xmedia
from xmr_e2e.recipes.studies._drcl import FULL
from xmr_e2e.recipes.studies._settings import frozen
from xmr_e2e.studies import Study, Sweep, main

VALUES = (0.001, 0.01, 0.1, 1.0, 10.0)


def study() -> Study:
    """Two curves for each dataset."""
    return Study(
        title="DRCL's weights",
        recipes=(frozen(wikipedia()), frozen(xmedia())),
        sweeps=(
            Sweep("method.discrimination", VALUES, "α", is_logarithmic=True),
            Sweep("method.invariance", VALUES, "β", is_logarithmic=True),
        ),
        reference=FULL,
    )


if __name__ == "__main__":
    main(study)
