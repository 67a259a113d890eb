"""SDML, a baseline, on Wikipedia: VGG-19 and sentence CNN, end to end (Hu et al., 2019).

    python -m preprocessing.wikipedia RAW data/shards/wikipedia
    python recipes/sdml_wikipedia.py
    python recipes/sdml_wikipedia.py --method.frozen
    python recipes/sdml_wikipedia.py --method.prior-weights runs/drcl_wikipedia/first --method.dim 2048

The released code's hyper-parameters: Adam with betas 0.5 and 0.999, batches of 100, 200 epochs for each modality, 1e-4
for images and 2e-4 for texts; VGG-19 at a tenth of its head's rate. With the prior that a run of DRCL selected, it is a
row of DRCL's Table VI; the common space is then as wide as that run's.
"""

from pathlib import Path

from xmr_e2e import Data, Experiment, Optimizer, Train, WordVectors, main
from xmr_e2e.methods import Sdml
from xmr_e2e.towers import ImageTower, TextCnn


def experiment() -> Experiment:
    """The configuration; every field can be changed on the command line."""
    return Experiment(
        name="sdml_wikipedia",
        data=Data(Path("data/shards/wikipedia"), words=WordVectors(dim=300)),
        method=Sdml(image=ImageTower("vgg19"), text=TextCnn(), reconstruction=0.5),
        optimizer=Optimizer("adamw", lr=2e-4, betas=(0.5, 0.999), lr_overrides={"image:": 1e-4, "image:towers": 1e-5}),
        train=Train(epochs=200, batch_size=100, precision="bf16"),
    )


if __name__ == "__main__":
    main(experiment)
