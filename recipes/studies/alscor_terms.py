"""ALSCOR without terms of Eq. 33, on its paper's three datasets: our own rows, since the paper has no ablation.

    python -m preprocessing.wikipedia RAW data/shards/wikipedia
    python -m preprocessing.nuswide RAW data/shards/nuswide_tc21_official --subset tc21-official --tags 1k
    python -m preprocessing.pascal_sentence RAW data/shards/pascal_sentence
    xmr study run alscor_terms
    xmr study show alscor_terms --out alscor_terms.html

End to end, from the pixels on.
"""

from xmr_e2e.recipes.alscor_nuswide import experiment as nuswide
from xmr_e2e.recipes.alscor_pascal import experiment as pascal
from xmr_e2e.recipes.alscor_wikipedia import experiment as wikipedia
from xmr_e2e.recipes.studies._alscor import FULL, ROWS
from xmr_e2e.studies import Study, main


def study() -> Study:
    """The recipes without one term each."""
    return Study(
        title="ALSCOR without terms of its loss",
        recipes=(wikipedia(), nuswide(), pascal()),
        variants=ROWS,
        metric="mAP@50",
        reference=FULL,
    )


if __name__ == "__main__":
    main(study)
