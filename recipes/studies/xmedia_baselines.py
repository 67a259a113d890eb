"""Methods in one setting on XMedia's five media, beside Table II (DRCL).

    python -m preprocessing.xmedia RAW data/shards/xmedia
    xmr study run xmedia_baselines
    xmr study show xmedia_baselines --out xmedia_baselines.html

Heads on features that stay as they are, in DRCL's setting, five seeds. Methods of pairs are not among the rows: only
pictures and texts are paired here.
"""

from xmr_e2e.recipes.drcl_xmedia_features import experiment as drcl
from xmr_e2e.recipes.mars_xmedia_features import experiment as mars
from xmr_e2e.recipes.sdml_xmedia_features import experiment as sdml
from xmr_e2e.recipes.studies._baselines import compare_methods
from xmr_e2e.recipes.studies._settings import frozen
from xmr_e2e.studies import Study, main


def study() -> Study:
    """A row for each method."""
    return compare_methods("xmedia_baselines", frozen(drcl()), trained=[sdml(), mars()], baselines=())


if __name__ == "__main__":
    main(study)
