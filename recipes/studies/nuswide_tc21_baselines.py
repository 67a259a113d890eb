"""Methods in one setting on NUS-WIDE's 21 concepts, beside Table 1 (Semantic Sharing).

    python -m preprocessing.nuswide RAW data/shards/nuswide_tc21 --subset tc21 --tags 1k
    xmr study run nuswide_tc21_baselines
    xmr study show nuswide_tc21_baselines --out nuswide_tc21_baselines.html

Heads on VGG-19 and a sentence CNN that stay as they are, Adam at 1e-4, 500 epochs, five seeds; what differs per method
is its recipe's. Semantic Sharing has its own towers, regions and words, of which the regions stay as they are.
"""

from xmr_e2e.recipes.semantic_sharing_nuswide import experiment as semantic_sharing
from xmr_e2e.recipes.studies._baselines import beside_semantic_sharing
from xmr_e2e.studies import Study, main


def study() -> Study:
    """A row for each method."""
    return beside_semantic_sharing("nuswide_tc21_baselines", semantic_sharing())


if __name__ == "__main__":
    main(study)
