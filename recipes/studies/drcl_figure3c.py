"""DRCL with the prior of each modality of XMedia (Figure 3c).

    python -m preprocessing.xmedia RAW data/shards/xmedia
    xmr study run drcl_figure3c
    xmr study show drcl_figure3c --out drcl_figure3c.html

Heads on features that stay as they are, as in the paper. The first row has the prior that DRCL itself selects.
"""

from xmr_e2e.recipes.drcl_xmedia_features import experiment as xmedia
from xmr_e2e.recipes.studies._drcl import FULL
from xmr_e2e.recipes.studies._settings import frozen
from xmr_e2e.studies import Study, Variant, main

PRIORS = {"PriorI": "image", "PriorT": "text", "PriorA": "audio", "PriorD3": "shape3d", "PriorV": "video"}


def study() -> Study:
    """A row for each prior."""
    return Study(
        title="DRCL's priors",
        recipes=(frozen(xmedia()),),
        variants=tuple(Variant(name, {"method.prior": modality}) for name, modality in PRIORS.items()),
        reference=FULL,
    )


if __name__ == "__main__":
    main(study)
