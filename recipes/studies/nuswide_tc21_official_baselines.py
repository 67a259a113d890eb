"""Methods in one setting on NUS-WIDE's 21 concepts and official split, beside Table 2 (ALSCOR).

    python -m preprocessing.nuswide RAW data/shards/nuswide_tc21_official --subset tc21-official --tags 1k
    xmr study run nuswide_tc21_official_baselines
    xmr study show nuswide_tc21_official_baselines --out nuswide_tc21_official_baselines.html

Heads on VGG-19 and a sentence CNN that stay as they are, Adam at 1e-4, 500 epochs, five seeds; what differs per method
is its recipe's. All is by mAP@50, as in the paper.
"""

from xmr_e2e.recipes.alscor_nuswide import experiment as alscor
from xmr_e2e.recipes.studies._baselines import TRAINED, compare_methods, setting_on
from xmr_e2e.studies import Study, main


def study() -> Study:
    """A row for each method."""
    setting = setting_on(alscor(), "mAP@50")
    return compare_methods("nuswide_tc21_official_baselines", setting, trained=[*TRAINED, alscor()], metric="mAP@50")


if __name__ == "__main__":
    main(study)
