"""SDCMR on Flickr8k (Wang et al., 2024): a slim residual network and sentence CNN.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/sdcmr_flickr8k.py
    python recipes/sdcmr_flickr8k.py --method.frozen

The small setting of recipes/_flickr8k_small.py, on labels that are weak. The weights are the paper's (1, 5, 10, 1).
"""

from xmr_e2e import Experiment, main
from xmr_e2e.methods import Sdcmr
from xmr_e2e.recipes._flickr8k_small import SLIM, small
from xmr_e2e.towers import TextCnn


def experiment() -> Experiment:
    """The small setting with this method."""
    return small("sdcmr_flickr8k", Sdcmr(image=SLIM, text=TextCnn(), invariance=5, adversary=10, independence=1))


if __name__ == "__main__":
    main(experiment)
