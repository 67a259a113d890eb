"""SM, a baseline, on Flickr8k: EfficientNet-Lite0 and the mean of the captions' word vectors.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/probe_flickr8k.py
    python recipes/probe_flickr8k.py --method.image.weights LITE0.pth --data.words.file GLOVE.npy --data.words.dim 50

A linear probe: nothing is trained but a linear classifier of each side, and a method is worth what it gains over this
row. On labels that are weak (recipes/_flickr8k_small.py).
"""

from xmr_e2e import Experiment, main
from xmr_e2e.methods import Probe
from xmr_e2e.recipes._flickr8k_small import FEATURES, on_features


def experiment() -> Experiment:
    """The small setting with this method, on features of towers that stand still."""
    return on_features("probe_flickr8k", Probe(**FEATURES))


if __name__ == "__main__":
    main(experiment)
