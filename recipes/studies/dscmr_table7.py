"""DSCMR's ablation on NUS-WIDE-10k (Table 7): without J1, J2 or J3, and J1 alone.

    python -m preprocessing.nuswide RAW data/shards/nuswide_10k --subset 10k
    xmr study run dscmr_table7
    xmr study show dscmr_table7 --out dscmr_table7.html

Heads on features that stay as they are, as in the paper.
"""

from xmr_e2e.recipes.dscmr_nuswide10k import experiment as nuswide
from xmr_e2e.recipes.studies._dscmr import FULL, ROWS
from xmr_e2e.recipes.studies._settings import frozen
from xmr_e2e.studies import Study, main


def study() -> Study:
    """The rows of the table."""
    return Study(
        title="DSCMR without parts of its objective",
        recipes=(frozen(nuswide()),),
        variants=ROWS,
        reference=FULL,
        published="dscmr, Table 7",
    )


if __name__ == "__main__":
    main(study)
