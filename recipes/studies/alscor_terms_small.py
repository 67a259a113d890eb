"""ALSCOR without terms of Eq. 33 on Flickr8k's photographs with weak labels, small enough for two cores.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    xmr study run alscor_terms_small
    xmr study show alscor_terms_small --out alscor_terms_small.html

On EfficientNet-Lite0 (lite0.pth) and word vectors (glove.npy, glove.txt) that stay as they are, extracted once for all
runs, in 20 epochs. The rows are our own: the paper has no ablation.
"""

from xmr_e2e.recipes.alscor_flickr8k import experiment as flickr8k
from xmr_e2e.recipes.studies._alscor import FULL, ROWS
from xmr_e2e.recipes.studies._settings import on_pretrained
from xmr_e2e.studies import Study, main


def study() -> Study:
    """The recipe without one term each."""
    recipe = on_pretrained(flickr8k(), 20)
    return Study("ALSCOR without terms of its loss", (recipe,), ROWS, metric="mAP@50", reference=FULL)


if __name__ == "__main__":
    main(study)
