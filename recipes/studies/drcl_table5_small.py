"""DRCL's ablation (Table V) on Flickr8k's photographs with weak labels, small enough for two cores.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    xmr study run drcl_table5_small
    xmr study show drcl_table5_small --out drcl_table5_small.html

On EfficientNet-Lite0 (lite0.pth) and word vectors (glove.npy, glove.txt) that stay as they are, extracted once for all
runs, in 10 epochs of each of the four stages: the prior and the terms of the loss.
"""

from xmr_e2e.recipes.drcl_flickr8k import experiment as flickr8k
from xmr_e2e.recipes.studies._drcl import FULL, TERMS
from xmr_e2e.recipes.studies._settings import on_pretrained
from xmr_e2e.studies import Study, main


def study() -> Study:
    """The first rows of the table."""
    recipe = on_pretrained(flickr8k(), 10)
    return Study("DRCL without its parts", (recipe,), TERMS, reference=FULL)


if __name__ == "__main__":
    main(study)
