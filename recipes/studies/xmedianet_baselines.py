"""Methods in one setting on XMediaNet's pictures and texts, beside Tables 5 (DSCMR), II (SDCMR, DRCL).

    python -m preprocessing.xmedianet RAW data/shards/xmedianet
    xmr study run xmedianet_baselines
    xmr study show xmedianet_baselines --out xmedianet_baselines.html

Heads on VGG-19 and a sentence CNN that stay as they are, Adam at 1e-4, 500 epochs, five seeds; what differs per method
is its recipe's.
"""

from xmr_e2e.recipes.dscmr_xmedianet import experiment as dscmr
from xmr_e2e.recipes.sdcmr_xmedianet import experiment as sdcmr
from xmr_e2e.recipes.studies._baselines import TRAINED, compare_methods, setting_on
from xmr_e2e.studies import Study, main


def study() -> Study:
    """A row for each method."""
    return compare_methods("xmedianet_baselines", setting_on(dscmr()), trained=[*TRAINED, sdcmr()])


if __name__ == "__main__":
    main(study)
