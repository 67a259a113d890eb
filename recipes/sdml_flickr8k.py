"""SDML, a baseline, on Flickr8k (Hu et al., 2019): a slim residual network and sentence CNN.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/sdml_flickr8k.py
    python recipes/sdml_flickr8k.py --method.frozen

The small setting of recipes/_flickr8k_small.py, on labels that are weak. Each modality trains in a stage of its own.
"""

from xmr_e2e import Experiment, main
from xmr_e2e.methods import Sdml
from xmr_e2e.recipes._flickr8k_small import SLIM, small
from xmr_e2e.towers import TextCnn


def experiment() -> Experiment:
    """The small setting with this method."""
    return small("sdml_flickr8k", Sdml(image=SLIM, text=TextCnn()))


if __name__ == "__main__":
    main(experiment)
