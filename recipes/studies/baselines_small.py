"""Methods in one setting on Flickr8k's photographs with weak labels, small enough for two cores.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    xmr study run baselines_small
    xmr study show baselines_small --out baselines_small.html

Heads on pretrained networks that stay as they are: EfficientNet-Lite0 on pictures of 224 pixels, with weights from the
file lite0.pth, and the mean of word vectors of 50 numbers, from glove.npy with glove.txt beside it. Features are
extracted once for all runs; 40 epochs, three seeds.
"""

from xmr_e2e.recipes.alscor_flickr8k import experiment as alscor
from xmr_e2e.recipes.drcl_flickr8k import experiment as drcl
from xmr_e2e.recipes.dscmr_flickr8k import experiment as dscmr
from xmr_e2e.recipes.mars_flickr8k import experiment as mars
from xmr_e2e.recipes.sdcmr_flickr8k import experiment as sdcmr
from xmr_e2e.recipes.sdml_flickr8k import experiment as sdml
from xmr_e2e.recipes.studies._baselines import BASELINES, compare_methods
from xmr_e2e.recipes.studies._settings import on_pretrained
from xmr_e2e.studies import Study, main


def study() -> Study:
    """A row for each method."""
    return compare_methods(
        "baselines_small",
        on_pretrained(dscmr(), 40),
        baselines=(*BASELINES, sdml(), mars(), sdcmr(), drcl(), alscor()),
        seeds=(0, 1, 2),
    )


if __name__ == "__main__":
    main(study)
