"""ALSCOR on Flickr8k: AlexNet from random weights and word2vec-BiLSTM-CNN, in minutes on two cores.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    python recipes/alscor_flickr8k.py
    python recipes/alscor_flickr8k.py --method.image.weights imagenet --data.image-size 128

The small setting of recipes/_flickr8k_small.py, on labels that are weak, but for AlexNet: larger pictures, and more
epochs. AdamW instead of the paper's SGD, which hardly moves an AlexNet from random weights in so few steps.
"""

from dataclasses import replace

from xmr_e2e import Experiment, main
from xmr_e2e.methods import Alscor
from xmr_e2e.recipes._flickr8k_small import small
from xmr_e2e.towers import BiLstmCnn, ImageTower


def experiment() -> Experiment:
    """The small setting with this method."""
    image = ImageTower(weights="none", dropout=0.5)
    method = Alscor(image=image, text=BiLstmCnn(), dim=40, correlation=0.02, adversary=0.3, ridge=0.1)
    base = small("alscor_flickr8k", method)
    return replace(
        base,
        data=replace(base.data, image_size=112, load_size=128, max_tokens=300),
        optimizer=replace(base.optimizer, lr_overrides={"towers.image": 2e-4}),
        train=replace(base.train, epochs=14),
    )


if __name__ == "__main__":
    main(experiment)
