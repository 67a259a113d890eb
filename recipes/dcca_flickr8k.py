"""DCCA, a baseline, on Flickr8k (Andrew et al., 2013): a slim residual network and sentence CNN.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/dcca_flickr8k.py
    python recipes/dcca_flickr8k.py --method.frozen

The small setting of recipes/_flickr8k_small.py, on labels that are weak. It sees no labels, only pairs; its batches
must be large. It soon learns its few pairs by heart: hence dropout in the sentence CNN, and variates weighed by their
correlations, both chosen on the validation split (docs/results).
"""

from dataclasses import replace

from xmr_e2e import Experiment, main
from xmr_e2e.methods import Dcca
from xmr_e2e.recipes._flickr8k_small import SLIM, small
from xmr_e2e.towers import TextCnn


def experiment() -> Experiment:
    """The small setting with this method."""
    method = Dcca(image=SLIM, text=TextCnn(dropout=0.5), hidden=512, layers=2, dim=10, ridge=0.1, power=2.0)
    base = small("dcca_flickr8k", method)
    return replace(base, train=replace(base.train, epochs=16, batch_size=300))


if __name__ == "__main__":
    main(experiment)
