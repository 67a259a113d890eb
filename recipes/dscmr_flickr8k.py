"""DSCMR on Flickr8k (Zhen et al., 2019): a slim residual network and sentence CNN.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/dscmr_flickr8k.py
    python recipes/dscmr_flickr8k.py --method.frozen

The small setting of recipes/_flickr8k_small.py, on labels that are weak.
"""

from xmr_e2e import Experiment, main
from xmr_e2e.methods import Dscmr
from xmr_e2e.recipes._flickr8k_small import SLIM, small
from xmr_e2e.towers import TextCnn


def experiment() -> Experiment:
    """The small setting with this method."""
    return small("dscmr_flickr8k", Dscmr(image=SLIM, text=TextCnn(), hidden=1024, dim=512))


if __name__ == "__main__":
    main(experiment)
