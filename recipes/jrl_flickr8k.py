"""JRL, a baseline, on Flickr8k (Zhai et al., 2014): EfficientNet-Lite0 and the mean of word vectors.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/jrl_flickr8k.py
    python recipes/jrl_flickr8k.py --method.graph 0

Linear projections to the labels that agree on a sample and use few features. Towers that stand still, as in
recipes/probe_flickr8k.py, on labels that are weak.
"""

from xmr_e2e import Experiment, main
from xmr_e2e.methods import Jrl
from xmr_e2e.recipes._flickr8k_small import FEATURES, on_features


def experiment() -> Experiment:
    """The small setting with this method, on features of towers that stand still."""
    return on_features("jrl_flickr8k", Jrl(**FEATURES, frozen=True))


if __name__ == "__main__":
    main(experiment)
