"""Methods in one setting on NUS-WIDE-10k, beside Tables 4 (DSCMR) and III (DRCL).

    python -m preprocessing.nuswide RAW data/shards/nuswide_10k --subset 10k
    xmr study run nuswide_10k_baselines
    xmr study show nuswide_10k_baselines --out nuswide_10k_baselines.html

Heads on VGG-19 and a sentence CNN that stay as they are, Adam at 1e-4, 500 epochs, five seeds; what differs per method
is its recipe's.
"""

from xmr_e2e.recipes.drcl_nuswide import experiment as drcl
from xmr_e2e.recipes.dscmr_nuswide10k import experiment as dscmr
from xmr_e2e.recipes.studies._baselines import TRAINED, compare_methods, setting_on
from xmr_e2e.studies import Study, main


def study() -> Study:
    """A row for each method."""
    return compare_methods("nuswide_10k_baselines", setting_on(dscmr()), trained=[*TRAINED, drcl()])


if __name__ == "__main__":
    main(study)
