"""Methods in one setting on INRIA Web Queries, beside Table III (DRCL).

    python -m preprocessing.websearch RAW data/shards/websearch
    xmr study run websearch_baselines
    xmr study show websearch_baselines --out websearch_baselines.html

Heads on VGG-19 and a sentence CNN that stay as they are, Adam at 1e-4, 500 epochs, five seeds; what differs per method
is its recipe's.
"""

from xmr_e2e.recipes.drcl_websearch import experiment as drcl
from xmr_e2e.recipes.studies._baselines import TRAINED, compare_methods, setting_on
from xmr_e2e.studies import Study, main


def study() -> Study:
    """A row for each method."""
    return compare_methods("websearch_baselines", setting_on(drcl()), trained=[*TRAINED, drcl()])


if __name__ == "__main__":
    main(study)
