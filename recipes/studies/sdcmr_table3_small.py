"""SDCMR's ablation (Table III) on Flickr8k's photographs with weak labels, small enough for two cores.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    xmr study run sdcmr_table3_small
    xmr study show sdcmr_table3_small --out sdcmr_table3_small.html

On EfficientNet-Lite0 (lite0.pth) and word vectors (glove.npy, glove.txt) that stay as they are, extracted once for all
runs, in 20 epochs.
"""

from xmr_e2e.recipes.sdcmr_flickr8k import experiment as flickr8k
from xmr_e2e.recipes.studies._sdcmr import FULL, ROWS
from xmr_e2e.recipes.studies._settings import on_pretrained
from xmr_e2e.studies import Study, main


def study() -> Study:
    """The rows of the table."""
    recipe = on_pretrained(flickr8k(), 20)
    return Study("SDCMR without terms of its loss", (recipe,), ROWS, reference=FULL)


if __name__ == "__main__":
    main(study)
