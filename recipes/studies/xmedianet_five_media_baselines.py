"""Methods in one setting on XMediaNet's five media, beside Table II (DRCL).

    python -m preprocessing.xmedianet RAW data/shards/xmedianet
    xmr study run xmedianet_five_media_baselines
    xmr study show xmedianet_five_media_baselines --out xmedianet_five_media_baselines.html

Heads on features that stay as they are, in DRCL's setting, five seeds. Methods of pairs are not among the rows: only
pictures and texts are paired here.
"""

from xmr_e2e.recipes.drcl_xmedianet_features import experiment as drcl
from xmr_e2e.recipes.studies._baselines import TRAINED, compare_methods
from xmr_e2e.recipes.studies._settings import frozen
from xmr_e2e.studies import Study, main


def study() -> Study:
    """A row for each method."""
    return compare_methods("xmedianet_five_media_baselines", frozen(drcl()), trained=TRAINED, baselines=())


if __name__ == "__main__":
    main(study)
