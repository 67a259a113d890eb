"""Semantic Sharing's lambda, the weight of masked words and objects, on MIRFLICKR-25K and NUS-WIDE.

    python -m preprocessing.mirflickr RAW data/shards/mirflickr
    python -m preprocessing.nuswide RAW data/shards/nuswide_tc21 --subset tc21 --tags 1k
    xmr study run semantic_sharing_lambda
    xmr study show semantic_sharing_lambda --out semantic_sharing_lambda.html

The paper varies it in no table or figure.
"""

from xmr_e2e.recipes.semantic_sharing_mirflickr import experiment as mirflickr
from xmr_e2e.recipes.semantic_sharing_nuswide import experiment as nuswide
from xmr_e2e.recipes.studies._semantic_sharing import FULL
from xmr_e2e.studies import Study, Sweep, main


def study() -> Study:
    """A curve for each dataset."""
    return Study(
        title="Semantic Sharing's masked words and objects",
        recipes=(mirflickr(), nuswide()),
        sweeps=(Sweep("method.context", (0.001, 0.01, 0.1, 1.0), "λ", is_logarithmic=True),),
        metric="NDCG@500",
        reference=FULL,
    )


if __name__ == "__main__":
    main(study)
