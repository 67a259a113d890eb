"""Methods in one setting on the ten largest classes of NUS-WIDE, beside Table II (SDCMR).

    python -m preprocessing.nuswide RAW data/shards/nuswide_10_class --subset 10-class
    xmr study run nuswide_10_class_baselines
    xmr study show nuswide_10_class_baselines --out nuswide_10_class_baselines.html

Heads on VGG-19 and a sentence CNN that stay as they are, Adam at 1e-4, 500 epochs, five seeds; what differs per method
is its recipe's.
"""

from xmr_e2e.recipes.sdcmr_nuswide import experiment as sdcmr
from xmr_e2e.recipes.studies._baselines import TRAINED, compare_methods, setting_on
from xmr_e2e.studies import Study, main


def study() -> Study:
    """A row for each method."""
    return compare_methods("nuswide_10_class_baselines", setting_on(sdcmr()), trained=[*TRAINED, sdcmr()])


if __name__ == "__main__":
    main(study)
