"""MRL, a baseline, on Flickr8k (Hu et al., 2021): a slim residual network and sentence CNN.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/mrl_flickr8k.py
    python recipes/mrl_flickr8k.py --method.frozen
    python recipes/mrl_flickr8k.py --data.label-noise 0.4

The small setting of recipes/_flickr8k_small.py, on labels that are weak. The method is made for training labels that
are wrong, which --data.label-noise makes of right ones.
"""

from xmr_e2e import Experiment, main
from xmr_e2e.methods import Mrl
from xmr_e2e.recipes._flickr8k_small import SLIM, small
from xmr_e2e.towers import TextCnn


def experiment() -> Experiment:
    """The small setting with this method."""
    return small("mrl_flickr8k", Mrl(image=SLIM, text=TextCnn(), hidden=1024))


if __name__ == "__main__":
    main(experiment)
