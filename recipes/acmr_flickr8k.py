"""ACMR, a baseline, on Flickr8k (Wang et al., 2017): a slim residual network and sentence CNN.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/acmr_flickr8k.py
    python recipes/acmr_flickr8k.py --method.frozen

The small setting of recipes/_flickr8k_small.py, on labels that are weak.
"""

from xmr_e2e import Experiment, main
from xmr_e2e.methods import Acmr
from xmr_e2e.recipes._flickr8k_small import SLIM, small
from xmr_e2e.towers import TextCnn


def experiment() -> Experiment:
    """The small setting with this method."""
    return small("acmr_flickr8k", Acmr(image=SLIM, text=TextCnn(), label=10.0, attract=0.2))


if __name__ == "__main__":
    main(experiment)
