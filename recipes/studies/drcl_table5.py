"""DRCL's ablation on XMedia (Tables IV and V): priors, terms of the loss, hardness and feature augmentation.

    python -m preprocessing.xmedia RAW data/shards/xmedia
    xmr study run drcl_table5
    xmr study show drcl_table5 --out drcl_table5.html

Heads on features that stay as they are, as in the paper. #9 is not here: the text at hand has lost what it replaces. #3
and #4 are the rows without Eq. 5 and without Eq. 6; which is which is lost, too, so that nothing published stands
beside them.
"""

from xmr_e2e.recipes.drcl_xmedia_features import experiment as xmedia
from xmr_e2e.recipes.studies._drcl import FULL, HARDNESS, MIXING, TERMS
from xmr_e2e.recipes.studies._settings import frozen
from xmr_e2e.studies import Study, Variant, main

OUTPUTS = Variant("of outputs", {"method.mix_of": "outputs"})
"""not in the paper: mixed before the normalization"""


def study() -> Study:
    """The rows of the table, and one more."""
    return Study(
        title="DRCL without its parts",
        recipes=(frozen(xmedia()),),
        variants=(*TERMS, *HARDNESS, *MIXING, OUTPUTS),
        reference=FULL,
        published="drcl, Table V",
    )


if __name__ == "__main__":
    main(study)
