"""Deep-SM, a baseline, on Flickr8k (Wei et al., 2017): a slim residual network and sentence CNN.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/deep_sm_flickr8k.py
    python recipes/deep_sm_flickr8k.py --method.frozen

The small setting of recipes/_flickr8k_small.py, on labels that are weak.
"""

from xmr_e2e import Experiment, main
from xmr_e2e.methods import DeepSm
from xmr_e2e.recipes._flickr8k_small import SLIM, small
from xmr_e2e.towers import TextCnn


def experiment() -> Experiment:
    """The small setting with this method."""
    return small("deep_sm_flickr8k", DeepSm(image=SLIM, text=TextCnn(dropout=0.5)))


if __name__ == "__main__":
    main(experiment)
