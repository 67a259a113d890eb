"""Semantic Sharing's variants on MIRFLICKR-25K, NUS-WIDE and MSCOCO (Table 1).

    python -m preprocessing.mirflickr RAW data/shards/mirflickr
    python -m preprocessing.nuswide RAW data/shards/nuswide_tc21 --subset tc21 --tags 1k
    python -m preprocessing.mscoco RAW data/shards/mscoco
    xmr study run semantic_sharing_table1
    xmr study show semantic_sharing_table1 --out semantic_sharing_table1.html

What each variant is, where the paper does not say so: docs/reproduction.md.
"""

from xmr_e2e.recipes.semantic_sharing_mirflickr import experiment as mirflickr
from xmr_e2e.recipes.semantic_sharing_mscoco import experiment as mscoco
from xmr_e2e.recipes.semantic_sharing_nuswide import experiment as nuswide
from xmr_e2e.recipes.studies._semantic_sharing import FULL, ROWS
from xmr_e2e.studies import Study, main


def study() -> Study:
    """The rows of the table."""
    return Study(
        title="Semantic Sharing without its parts",
        recipes=(mirflickr(), nuswide(), mscoco()),
        variants=ROWS,
        metric="NDCG@500",
        reference=FULL,
        published="semantic_sharing, Table 1",
    )


if __name__ == "__main__":
    main(study)
