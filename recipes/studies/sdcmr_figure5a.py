"""SDCMR's weights alpha, beta, gamma and eta on Wikipedia, from 0.001 to 1000 (Figure 5a).

    python -m preprocessing.wikipedia RAW data/shards/wikipedia
    xmr study run sdcmr_figure5a
    xmr study show sdcmr_figure5a --out sdcmr_figure5a.html

Heads on features that stay as they are, as in the paper. One weight varies while the others are the recipe's.
"""

from xmr_e2e.recipes.sdcmr_wikipedia import experiment as wikipedia
from xmr_e2e.recipes.studies._sdcmr import FULL
from xmr_e2e.recipes.studies._settings import frozen
from xmr_e2e.studies import Study, Sweep, main

VALUES = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
WEIGHTS = {
    "method.reconstruction": "α",
    "method.invariance": "β",
    "method.adversary": "γ",
    "method.independence": "η",
}


def study() -> Study:
    """A curve for each weight."""
    return Study(
        title="SDCMR's weights",
        recipes=(frozen(wikipedia()),),
        sweeps=tuple(Sweep(field, VALUES, label, is_logarithmic=True) for field, label in WEIGHTS.items()),
        reference=FULL,
    )


if __name__ == "__main__":
    main(study)
