"""Semantic Sharing's eta, the weight of the consistency between modalities, on two datasets (Figure 1).

    python -m preprocessing.mirflickr RAW data/shards/mirflickr
    python -m preprocessing.nuswide RAW data/shards/nuswide_tc21 --subset tc21 --tags 1k
    xmr study run semantic_sharing_figure1
    xmr study show semantic_sharing_figure1 --out semantic_sharing_figure1.html

Of the variant without regions ("w/o R" of Table 1). Datasets and values are not in the text at hand: these are ours.
"""

from xmr_e2e.recipes.semantic_sharing_mirflickr import experiment as mirflickr
from xmr_e2e.recipes.semantic_sharing_nuswide import experiment as nuswide
from xmr_e2e.recipes.studies._semantic_sharing import WITHOUT_REGIONS
from xmr_e2e.studies import Study, Sweep, main
from xmr_e2e.studies.study import with_fields


def study() -> Study:
    """A curve for each dataset."""
    return Study(
        title="Semantic Sharing with consistency",
        recipes=tuple(with_fields(each(), WITHOUT_REGIONS) for each in (mirflickr, nuswide)),
        sweeps=(Sweep("method.consistency", (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), "η"),),
        metric="NDCG@500",
        reference="w/o R",
    )


if __name__ == "__main__":
    main(study)
