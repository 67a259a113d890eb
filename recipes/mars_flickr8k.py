"""MARS, a baseline, on Flickr8k (Wang and Peng, 2021): a slim residual network and sentence CNN.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/mars_flickr8k.py
    python recipes/mars_flickr8k.py --method.frozen

The small setting of recipes/_flickr8k_small.py, on labels that are weak. Each modality trains in a stage of its own.
"""

from xmr_e2e import Experiment, main
from xmr_e2e.methods import Mars
from xmr_e2e.recipes._flickr8k_small import SLIM, small
from xmr_e2e.towers import TextCnn


def experiment() -> Experiment:
    """The small setting with this method."""
    return small("mars_flickr8k", Mars(image=SLIM, text=TextCnn()))


if __name__ == "__main__":
    main(experiment)
