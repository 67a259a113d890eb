"""ALSCOR's weights, common dimension and convolutions on three datasets; its paper varies none of them.

    python -m preprocessing.wikipedia RAW data/shards/wikipedia
    python -m preprocessing.nuswide RAW data/shards/nuswide_tc21_official --subset tc21-official --tags 1k
    python -m preprocessing.pascal_sentence RAW data/shards/pascal_sentence
    xmr study run alscor_parameters
    xmr study show alscor_parameters --out alscor_parameters.html

End to end, from the pixels on. The values are our own.
"""

from xmr_e2e.recipes.alscor_nuswide import experiment as nuswide
from xmr_e2e.recipes.alscor_pascal import experiment as pascal
from xmr_e2e.recipes.alscor_wikipedia import experiment as wikipedia
from xmr_e2e.recipes.studies._alscor import FULL
from xmr_e2e.studies import Study, Sweep, main

SWEEPS = (
    Sweep("method.correlation", (0.005, 0.05, 0.5), "α", is_logarithmic=True),
    Sweep("method.discrimination", (0.1, 1.0, 10.0), "δ", is_logarithmic=True),
    Sweep("method.adversary", (0.01, 0.1, 1.0), "ε", is_logarithmic=True),
    Sweep("method.dim", (20, 40, 80), "common dimension"),
    Sweep("method.text.kernels", (256, 512, 1024), "kernels"),
    Sweep("method.text.width", (2, 3, 4, 5), "width of kernels"),
)


def study() -> Study:
    """A curve for each parameter, all others as in the recipe."""
    return Study(
        title="ALSCOR's parameters",
        recipes=(wikipedia(), nuswide(), pascal()),
        sweeps=SWEEPS,
        metric="mAP@50",
        reference=FULL,
    )


if __name__ == "__main__":
    main(study)
