"""DSCMR on Wikipedia: VGG-19 and sentence CNN, end to end (Zhen et al., 2019).

    python -m preprocessing.wikipedia RAW data/shards/wikipedia
    python recipes/dscmr_wikipedia.py
    python recipes/dscmr_wikipedia.py --method.frozen

The released code's hyper-parameters: Adam at 1e-4 with betas 0.5 and 0.999, batches of 100, 500 epochs, lambda 1e-3,
eta 1e-1. The paper trains heads on features that stay as they are: --method.frozen. Here the gradient goes on to the
pixels and to the word vectors, VGG-19 at a tenth of the rate. The released weights are Pascal Sentence's; those of
other datasets are not published.

Published, mAP@all: image to text 0.521, text to image 0.478.
"""

from pathlib import Path

from xmr_e2e import Data, Experiment, Optimizer, Train, WordVectors, main
from xmr_e2e.methods import Dscmr
from xmr_e2e.towers import ImageTower, TextCnn


def experiment() -> Experiment:
    """The configuration; every field can be changed on the command line."""
    return Experiment(
        name="dscmr_wikipedia",
        data=Data(Path("data/shards/wikipedia"), words=WordVectors(dim=300)),
        method=Dscmr(image=ImageTower("vgg19"), text=TextCnn(), common=1e-3, invariance=1e-1),
        optimizer=Optimizer("adamw", lr=1e-4, betas=(0.5, 0.999), lr_overrides={"towers.image": 1e-5}),
        train=Train(epochs=500, batch_size=100, precision="bf16"),
    )


if __name__ == "__main__":
    main(experiment)
