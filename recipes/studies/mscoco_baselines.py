"""Methods in one setting on MSCOCO, beside Table 1 (Semantic Sharing).

    python -m preprocessing.mscoco RAW data/shards/mscoco
    xmr study run mscoco_baselines
    xmr study show mscoco_baselines --out mscoco_baselines.html

Heads on VGG-19 and a sentence CNN that stay as they are, Adam at 1e-4, 500 epochs, five seeds; what differs per method
is its recipe's. Semantic Sharing has its own towers, regions and words, of which the regions stay as they are.
"""

from xmr_e2e.recipes.semantic_sharing_mscoco import experiment as semantic_sharing
from xmr_e2e.recipes.studies._baselines import beside_semantic_sharing
from xmr_e2e.studies import Study, main


def study() -> Study:
    """A row for each method."""
    return beside_semantic_sharing("mscoco_baselines", semantic_sharing())


if __name__ == "__main__":
    main(study)
