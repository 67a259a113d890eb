"""SCM, a baseline, on Flickr8k (Rasiwasia et al., 2010): EfficientNet-Lite0 and the mean of word vectors.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/scm_flickr8k.py
    python recipes/scm_flickr8k.py --method.similarity cosine

CCA, and a logistic regression on each modality's canonical variates; without CCA it is SM, recipes/probe_flickr8k.py.
Its towers that stand still are these, on labels that are weak. Variates and ridge were chosen on the validation split.
"""

from xmr_e2e import Experiment, main
from xmr_e2e.methods import Scm
from xmr_e2e.recipes._flickr8k_small import FEATURES, on_features


def experiment() -> Experiment:
    """The small setting with this method, on features of towers that stand still."""
    return on_features("scm_flickr8k", Scm(**FEATURES, frozen=True, dim=40, ridge=0.1))


if __name__ == "__main__":
    main(experiment)
