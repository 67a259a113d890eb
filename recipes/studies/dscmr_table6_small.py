"""DSCMR's ablation (Table 6) on Flickr8k's photographs with weak labels, small enough for two cores.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    xmr study run dscmr_table6_small
    xmr study show dscmr_table6_small --out dscmr_table6_small.html

On EfficientNet-Lite0 (lite0.pth) and word vectors (glove.npy, glove.txt) that stay as they are, extracted once for all
runs, in 20 epochs; the weight of the invariance is swept beside the rows of the table.
"""

from xmr_e2e.recipes.dscmr_flickr8k import experiment as flickr8k
from xmr_e2e.recipes.studies._dscmr import FULL, ROWS
from xmr_e2e.recipes.studies._settings import on_pretrained
from xmr_e2e.studies import Study, Sweep, main


def study() -> Study:
    """The rows of the table."""
    return Study(
        title="DSCMR without parts of its objective",
        recipes=(on_pretrained(flickr8k(), 20),),
        variants=ROWS,
        sweeps=(Sweep("method.invariance", (0.01, 0.1, 1.0), is_logarithmic=True),),
        reference=FULL,
    )


if __name__ == "__main__":
    main(study)
