"""Corr-AE, a baseline, on Flickr8k (Feng et al., 2014): a slim residual network and sentence CNN.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/corr_ae_flickr8k.py
    python recipes/corr_ae_flickr8k.py --method.frozen

The small setting of recipes/_flickr8k_small.py, on labels that are weak. First the towers learn the labels, then the
autoencoders the pairs.
"""

from xmr_e2e import Experiment, main
from xmr_e2e.methods import CorrAe
from xmr_e2e.recipes._flickr8k_small import SLIM, small
from xmr_e2e.towers import TextCnn


def experiment() -> Experiment:
    """The small setting with this method."""
    return small("corr_ae_flickr8k", CorrAe(image=SLIM, text=TextCnn(), dim=256))


if __name__ == "__main__":
    main(experiment)
