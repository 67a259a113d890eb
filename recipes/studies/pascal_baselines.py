"""Methods in one setting on Pascal Sentence, beside Tables 3 (DSCMR), II (SDCMR) and 2 (ALSCOR).

    python -m preprocessing.pascal_sentence RAW data/shards/pascal_sentence
    xmr study run pascal_baselines
    xmr study show pascal_baselines --out pascal_baselines.html

Heads on VGG-19 and a sentence CNN that stay as they are, Adam at 1e-4, 500 epochs, five seeds; what differs per method
is its recipe's. ALSCOR's table is of another figure: xmr study show pascal_baselines --metric mAP@50.
"""

from xmr_e2e.recipes.alscor_pascal import experiment as alscor
from xmr_e2e.recipes.dscmr_pascal import experiment as dscmr
from xmr_e2e.recipes.sdcmr_pascal import experiment as sdcmr
from xmr_e2e.recipes.studies._baselines import TRAINED, compare_methods, setting_on
from xmr_e2e.studies import Study, main


def study() -> Study:
    """A row for each method."""
    return compare_methods("pascal_baselines", setting_on(dscmr()), trained=[*TRAINED, sdcmr(), alscor()])


if __name__ == "__main__":
    main(study)
