"""DSCMR's ablation on Pascal Sentence (Table 6): without J1, J2 or J3, and J1 alone.

    python -m preprocessing.pascal_sentence RAW data/shards/pascal_sentence
    xmr study run dscmr_table6
    xmr study show dscmr_table6 --out dscmr_table6.html

Heads on features that stay as they are, as in the paper.
"""

from xmr_e2e.recipes.dscmr_pascal import experiment as pascal
from xmr_e2e.recipes.studies._dscmr import FULL, ROWS
from xmr_e2e.recipes.studies._settings import frozen
from xmr_e2e.studies import Study, main


def study() -> Study:
    """The rows of the table."""
    return Study(
        title="DSCMR without parts of its objective",
        recipes=(frozen(pascal()),),
        variants=ROWS,
        reference=FULL,
        published="dscmr, Table 6",
    )


if __name__ == "__main__":
    main(study)
