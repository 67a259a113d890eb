"""DCCAE, a baseline, on Flickr8k (Wang et al., 2015): a slim residual network and sentence CNN.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/dccae_flickr8k.py
    python recipes/dccae_flickr8k.py --method.frozen

The setting of recipes/dcca_flickr8k.py, on labels that are weak and that it does not see.
"""

from dataclasses import replace

from xmr_e2e import Experiment, main
from xmr_e2e.methods import Dccae
from xmr_e2e.recipes._flickr8k_small import SLIM
from xmr_e2e.recipes.dcca_flickr8k import experiment as dcca
from xmr_e2e.towers import TextCnn


def experiment() -> Experiment:
    """The configuration of DCCA, and what differs from it."""
    method = Dccae(image=SLIM, text=TextCnn(dropout=0.5), hidden=512, layers=2, dim=10, ridge=0.1, power=2.0)
    return replace(dcca(), name="dccae_flickr8k", method=method)


if __name__ == "__main__":
    main(experiment)
