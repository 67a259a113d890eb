"""Wrong training labels on Flickr8k's photographs: Deep-SM and ALSCOR, with cross-entropy or a robust loss, and MRL.

    python -m preprocessing.flickr RAW data/shards/flickr8k --labels TABLE
    xmr study run label_noise_small
    xmr study show label_noise_small --out label_noise_small.html

Of 0 to 80 % of the training split's labels another class is learnt; validation and test keep theirs. On EfficientNet-
Lite0 (lite0.pth) and word vectors (glove.npy, glove.txt) that stay as they are, in 20 epochs.
"""

from dataclasses import replace

from xmr_e2e import Experiment
from xmr_e2e.recipes.alscor_flickr8k import experiment as alscor
from xmr_e2e.recipes.deep_sm_flickr8k import experiment as deep_sm
from xmr_e2e.recipes.mrl_flickr8k import experiment as mrl
from xmr_e2e.recipes.studies._settings import on_pretrained
from xmr_e2e.studies import Study, Sweep, main
from xmr_e2e.studies.study import with_fields

ROBUST = 0.7
"""q of the generalized cross-entropy"""


def robust(recipe: Experiment) -> Experiment:
    """The recipe with the robust loss."""
    return replace(with_fields(recipe, {"method.q": ROBUST}), name=f"{recipe.name}_robust")


def study() -> Study:
    """A curve over the share of wrong labels for each."""
    recipes = on_pretrained(deep_sm(), 20), on_pretrained(alscor(), 20)
    return Study(
        title="Wrong training labels",
        recipes=(*recipes, *map(robust, recipes), on_pretrained(mrl(), 20)),
        sweeps=(Sweep("data.label_noise", (0.0, 0.2, 0.4, 0.6, 0.8), "wrong labels"),),
        reference="the right labels",
    )


if __name__ == "__main__":
    main(study)
