"""SDCMR's ablation on Wikipedia and NUS-WIDE (Table III): without each term of its loss.

    python -m preprocessing.wikipedia RAW data/shards/wikipedia
    python -m preprocessing.nuswide RAW data/shards/nuswide_10_class --subset 10-class
    xmr study run sdcmr_table3
    xmr study show sdcmr_table3 --out sdcmr_table3.html

Heads on features that stay as they are, as in the paper. The row without the bound of Eq. 4 is not in it.
"""

from xmr_e2e.recipes.sdcmr_nuswide import experiment as nuswide
from xmr_e2e.recipes.sdcmr_wikipedia import experiment as wikipedia
from xmr_e2e.recipes.studies._sdcmr import FULL, ROWS, WITHOUT_BOUND
from xmr_e2e.recipes.studies._settings import frozen
from xmr_e2e.studies import Study, main


def study() -> Study:
    """The rows of the table, and one more."""
    return Study(
        title="SDCMR without terms of its loss",
        recipes=(frozen(wikipedia()), frozen(nuswide())),
        variants=(*ROWS, WITHOUT_BOUND),
        reference=FULL,
        published="sdcmr, Table III",
    )


if __name__ == "__main__":
    main(study)
