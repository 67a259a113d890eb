"""KCCA, a baseline, on Flickr8k (Hardoon et al., 2004): EfficientNet-Lite0 and the mean of word vectors.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/kcca_flickr8k.py
    python recipes/kcca_flickr8k.py --method.kernel linear
    python recipes/kcca_flickr8k.py --method.landmarks 6000

A thousand training samples are landmarks; with as many as there are training samples KCCA is exact. Towers that stand
still, as in recipes/probe_flickr8k.py, on labels that are weak.
"""

from xmr_e2e import Experiment, main
from xmr_e2e.methods import Kcca
from xmr_e2e.recipes._flickr8k_small import FEATURES, on_features


def experiment() -> Experiment:
    """The small setting with this method, on features of towers that stand still."""
    return on_features("kcca_flickr8k", Kcca(**FEATURES, frozen=True))


if __name__ == "__main__":
    main(experiment)
