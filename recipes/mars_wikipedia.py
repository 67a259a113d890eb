"""MARS, a baseline, on Wikipedia: VGG-19 and sentence CNN, end to end (Wang and Peng, 2021).

    python -m preprocessing.wikipedia RAW data/shards/wikipedia
    python recipes/mars_wikipedia.py
    python recipes/mars_wikipedia.py --method.frozen
    python recipes/mars_wikipedia.py --method.prior-weights runs/drcl_wikipedia/first --method.dim 2048

The released code's hyper-parameters: Adam with betas 0.5 and 0.999, batches of 64, 50 epochs for each modality, 1e-4
for images and 5e-4 for texts, a common space of 128; VGG-19 at a tenth of its head's rate. With the prior that a run of
DRCL selected, it is a row of DRCL's Table VI; the common space is then as wide as that run's.
"""

from dataclasses import replace

from xmr_e2e import Experiment, main
from xmr_e2e.methods import Mars
from xmr_e2e.recipes.sdml_wikipedia import experiment as sdml


def experiment() -> Experiment:
    """The configuration of SDML, and what differs from it."""
    base = sdml()
    return replace(
        base,
        name="mars_wikipedia",
        method=Mars(image=base.method.towers["image"], text=base.method.towers["text"], dim=128),
        optimizer=replace(base.optimizer, lr=5e-4),
        train=replace(base.train, epochs=50, batch_size=64),
    )


if __name__ == "__main__":
    main(experiment)
