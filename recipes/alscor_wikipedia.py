"""ALSCOR on Wikipedia: AlexNet and word2vec-BiLSTM-CNN, deep CCA with an adversary (Zhu et al., 2019).

    python -m preprocessing.wikipedia RAW data/shards/wikipedia
    python recipes/alscor_wikipedia.py

The paper's hyper-parameters where it gives them: SGD with momentum 0.8 and weight decay 5e-4, learning rate 0.001 for
AlexNet's convolutions (from ImageNet) and 0.01 for all else, batches of 100, images of 256 cropped to 224, word
vectors of 100 dimensions, 141 LSTM cells per direction, dropout 0.5. Texts are read up to 300 words. What the paper
leaves open, and where this differs: docs/reproduction.md.

Published, mAP@50: image to text 0.5105, text to image 0.6358.
"""

from pathlib import Path

from xmr_e2e import Data, Experiment, Optimizer, Train, WordVectors, main
from xmr_e2e.methods import Alscor
from xmr_e2e.towers import BiLstmCnn, ImageTower


def experiment() -> Experiment:
    """The configuration; every field can be changed on the command line."""
    return Experiment(
        name="alscor_wikipedia",
        data=Data(Path("data/shards/wikipedia"), image_size=224, load_size=256, words=WordVectors(dim=100)),
        method=Alscor(
            image=ImageTower("alexnet", weights="imagenet", fresh_fc=True, dropout=0.5),
            text=BiLstmCnn(hidden=141),
            dim=40,
        ),
        optimizer=Optimizer(
            "sgd", lr=1e-2, momentum=0.8, weight_decay=5e-4, lr_overrides={"towers.image.network.features": 1e-3}
        ),
        train=Train(epochs=60, batch_size=100, select="mAP@50"),
    )


if __name__ == "__main__":
    main(experiment)
