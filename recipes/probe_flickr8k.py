"""Linear probe on Flickr8k (a baseline): EfficientNet-Lite0 and the mean of the captions' word vectors.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/probe_flickr8k.py
    python recipes/probe_flickr8k.py --method.image.weights LITE0.pth --data.words.file GLOVE.npy --data.words.dim 50

Nothing is trained but a linear classifier of each side; a method is worth what it gains over this row. On labels that
are weak (recipes/_flickr8k_small.py).
"""

from dataclasses import replace

from xmr_e2e import Experiment, main
from xmr_e2e.methods import Probe
from xmr_e2e.recipes._flickr8k_small import small
from xmr_e2e.towers import ImageTower, MeanWords


def experiment() -> Experiment:
    """The small setting with this method, at the size of pictures that the network was trained on."""
    method = Probe(image=ImageTower("efficientnet_lite0"), text=MeanWords(weighting="idf"))
    plain = small("probe_flickr8k", method)
    return replace(plain, data=replace(plain.data, image_size=224, load_size=256, max_tokens=300))


if __name__ == "__main__":
    main(experiment)
