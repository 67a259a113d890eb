"""DRCL's lambda, the share of a sample's own features in the mixture of Eq. 3, on Wikipedia and XMedia.

    python -m preprocessing.wikipedia RAW data/shards/wikipedia
    python -m preprocessing.xmedia RAW data/shards/xmedia
    xmr study run drcl_lambda
    xmr study show drcl_lambda --out drcl_lambda.html

Heads on features that stay as they are, as in the paper, which varies lambda in no table or figure. 1 mixes nothing.
"""

from xmr_e2e.recipes.drcl_wikipedia import experiment as wikipedia
from xmr_e2e.recipes.drcl_xmedia_features import experiment as xmedia
from xmr_e2e.recipes.studies._drcl import FULL
from xmr_e2e.recipes.studies._settings import frozen
from xmr_e2e.studies import Study, Sweep, main


def study() -> Study:
    """A curve for each dataset."""
    sweep = Sweep("method.mix", (0.5, 0.6, 0.7, 0.8, 0.9, 1.0), "λ")
    recipes = frozen(wikipedia()), frozen(xmedia())
    return Study("DRCL's mixture", recipes, sweeps=(sweep,), reference=FULL)


if __name__ == "__main__":
    main(study)
