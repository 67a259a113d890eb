"""Semantic Sharing's variants (Table 1) on Flickr8k with several weak labels, small enough for two cores.

    python -m preprocessing.flickr RAW data/shards/flickr8k_concepts --labels TABLE
    xmr study run semantic_sharing_table1_small
    xmr study show semantic_sharing_table1_small --out semantic_sharing_table1_small.html

The regions are the cells of the last map of EfficientNet-Lite0 (lite0.pth), which stays as it is: they are computed
once for all runs. Word vectors (glove.npy, glove.txt) and text tower learn; 6 epochs.
"""

from xmr_e2e.recipes.semantic_sharing_flickr8k import experiment as flickr8k
from xmr_e2e.recipes.studies._semantic_sharing import FULL, ROWS
from xmr_e2e.recipes.studies._settings import on_pretrained_cells
from xmr_e2e.studies import Study, main


def study() -> Study:
    """The rows of the table."""
    return Study(
        title="Semantic Sharing without its parts",
        recipes=(on_pretrained_cells(flickr8k(), 6),),
        variants=ROWS,
        metric="NDCG@500",
        reference=FULL,
    )


if __name__ == "__main__":
    main(study)
