"""DSCMR's lambda and eta on Pascal Sentence, which the paper varies in no table or figure.

    python -m preprocessing.pascal_sentence RAW data/shards/pascal_sentence
    xmr study run dscmr_weights
    xmr study show dscmr_weights --out dscmr_weights.html

Decades around the released values.
"""

from xmr_e2e.recipes.dscmr_pascal import experiment as pascal
from xmr_e2e.recipes.studies._settings import frozen
from xmr_e2e.studies import Study, Sweep, main


def study() -> Study:
    """Two curves."""
    return Study(
        title="DSCMR's weights",
        recipes=(frozen(pascal()),),
        sweeps=(
            Sweep("method.common", (1e-5, 1e-4, 1e-3, 1e-2, 1e-1), "λ", is_logarithmic=True),
            Sweep("method.invariance", (1e-3, 1e-2, 1e-1, 1.0, 10.0), "η", is_logarithmic=True),
        ),
    )


if __name__ == "__main__":
    main(study)
