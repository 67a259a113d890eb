"""Five runs of SDCMR on four datasets (Figure 5b).

    python -m preprocessing.wikipedia RAW data/shards/wikipedia
    python -m preprocessing.pascal_sentence RAW data/shards/pascal_sentence
    python -m preprocessing.nuswide RAW data/shards/nuswide_10_class --subset 10-class
    python -m preprocessing.xmedianet RAW data/shards/xmedianet
    xmr study run sdcmr_figure5b
    xmr study show sdcmr_figure5b --out sdcmr_figure5b.html

Heads on features that stay as they are, as in the paper. The runs of seeds 0 to 2 are those of Table III.
"""

from xmr_e2e.recipes.sdcmr_nuswide import experiment as nuswide
from xmr_e2e.recipes.sdcmr_pascal import experiment as pascal
from xmr_e2e.recipes.sdcmr_wikipedia import experiment as wikipedia
from xmr_e2e.recipes.sdcmr_xmedianet import experiment as xmedianet
from xmr_e2e.recipes.studies._sdcmr import FULL
from xmr_e2e.recipes.studies._settings import frozen
from xmr_e2e.studies import Study, main


def study() -> Study:
    """A row for each dataset."""
    recipes = tuple(frozen(each()) for each in (wikipedia, pascal, nuswide, xmedianet))
    return Study("Five runs of SDCMR", recipes, seeds=(0, 1, 2, 3, 4), reference=FULL)


if __name__ == "__main__":
    main(study)
