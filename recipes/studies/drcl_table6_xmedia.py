"""DRCL's prior in DRCL, SDML and MARS on XMedia (Table VI), beside random ones.

    python -m preprocessing.xmedia RAW data/shards/xmedia
    xmr study run drcl_table6_xmedia
    xmr study show drcl_table6_xmedia --out drcl_table6_xmedia.html

Heads on features that stay as they are, as in the paper. SDML (prior) and MARS (prior) take the prior of the first run,
DRCL (prior) with seed 0, under its name in the folder of runs: where several start at a time, run it before the others
(--only "DRCL (prior)").
"""

from pathlib import Path

from xmr_e2e.recipes.drcl_xmedia_features import experiment as drcl
from xmr_e2e.recipes.mars_xmedia_features import experiment as mars
from xmr_e2e.recipes.sdml_xmedia_features import experiment as sdml
from xmr_e2e.recipes.studies._drcl_table6 import table6
from xmr_e2e.studies import Study, main


def study(runs: Path = Path("runs")) -> Study:
    """The rows of the table."""
    return table6(drcl(), sdml(), mars(), dim=512, runs=runs)


if __name__ == "__main__":
    main(study)
