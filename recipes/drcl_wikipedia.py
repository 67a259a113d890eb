"""DRCL on Wikipedia, end to end (IEEE Transactions on Multimedia, 2025).

    python -m preprocessing.wikipedia RAW data/shards/wikipedia
    python recipes/drcl_wikipedia.py
    python recipes/drcl_wikipedia.py --method.frozen

The released code's hyper-parameters: Adam with betas 0.5 and 0.999, batches of 1024, 200 epochs for each modality in
each stage, 5e-4 for the priors, a common space of 2048. For the consistency, 6e-6 for images and 5e-3 for texts. The
paper trains heads on features that stay as they are: --method.frozen. Here the gradient goes on to the pixels and to
the word vectors, in 32 pieces of each batch.

Published, mAP@all: image to text 0.562, text to image 0.537.
"""

from pathlib import Path

from xmr_e2e import Data, Experiment, Optimizer, Train, WordVectors, main
from xmr_e2e.methods import Drcl
from xmr_e2e.towers import ImageTower, TextCnn


def experiment() -> Experiment:
    """The configuration; every field can be changed on the command line."""
    return Experiment(
        name="drcl_wikipedia",
        data=Data(Path("data/shards/wikipedia"), words=WordVectors(dim=300)),
        method=Drcl(image=ImageTower("vgg19"), text=TextCnn(), dim=2048),
        optimizer=Optimizer(
            "adamw",
            lr=5e-4,
            betas=(0.5, 0.999),
            lr_overrides={
                "towers.image": 1e-5,
                "consistency-image:": 6e-6,
                "consistency-text:": 5e-3,
                "consistency-text:towers": 5e-4,
            },
        ),
        train=Train(epochs=200, batch_size=1024, micro_batches=32, precision="bf16", seed=1),
    )


if __name__ == "__main__":
    main(experiment)
