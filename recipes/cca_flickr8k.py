"""CCA, a baseline, on Flickr8k: on a slim residual network and sentence CNN that learned the labels.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/cca_flickr8k.py
    python recipes/cca_flickr8k.py --method.frozen

The small setting of recipes/_flickr8k_small.py, on labels that are weak. With --method.frozen
--method.frozen-start random the towers learn nothing at all, and only CCA is fitted.
"""

from xmr_e2e import Experiment, main
from xmr_e2e.methods import Cca
from xmr_e2e.recipes._flickr8k_small import SLIM, small
from xmr_e2e.towers import TextCnn


def experiment() -> Experiment:
    """The small setting with this method."""
    return small("cca_flickr8k", Cca(image=SLIM, text=TextCnn()))


if __name__ == "__main__":
    main(experiment)
