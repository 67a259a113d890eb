"""Methods in one setting on Wikipedia, beside Tables 2 (DSCMR, ALSCOR), II (SDCMR) and III (DRCL).

    python -m preprocessing.wikipedia RAW data/shards/wikipedia
    xmr study run wikipedia_baselines
    xmr study show wikipedia_baselines --out wikipedia_baselines.html

Heads on VGG-19 and a sentence CNN that stay as they are, Adam at 1e-4, 500 epochs, five seeds; what differs per method
is its recipe's. ALSCOR's table is of another figure: xmr study show wikipedia_baselines --metric mAP@50.
"""

from xmr_e2e.recipes.alscor_wikipedia import experiment as alscor
from xmr_e2e.recipes.drcl_wikipedia import experiment as drcl
from xmr_e2e.recipes.dscmr_wikipedia import experiment as dscmr
from xmr_e2e.recipes.sdcmr_wikipedia import experiment as sdcmr
from xmr_e2e.recipes.studies._baselines import TRAINED, compare_methods, setting_on
from xmr_e2e.studies import Study, main


def study() -> Study:
    """A row for each method."""
    return compare_methods("wikipedia_baselines", setting_on(dscmr()), trained=[*TRAINED, sdcmr(), drcl(), alscor()])


if __name__ == "__main__":
    main(study)
