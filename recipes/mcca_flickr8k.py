"""MCCA, a baseline, on Flickr8k (Rupnik and Shawe-Taylor, 2010): EfficientNet-Lite0 and the mean of word vectors.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/mcca_flickr8k.py
    python recipes/mcca_flickr8k.py --method.power 4

Of two modalities MCCA is CCA; with sounds or videos in the shards (--method.audio.kind, --method.video.kind) it is of
all of them. Towers that stand still, as in recipes/probe_flickr8k.py, on labels that are weak.
"""

from xmr_e2e import Experiment, main
from xmr_e2e.methods import Mcca
from xmr_e2e.recipes._flickr8k_small import FEATURES, on_features


def experiment() -> Experiment:
    """The small setting with this method, on features of towers that stand still."""
    return on_features("mcca_flickr8k", Mcca(**FEATURES, frozen=True))


if __name__ == "__main__":
    main(experiment)
