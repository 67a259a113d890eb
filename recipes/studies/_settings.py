"""Settings that several studies share."""

from dataclasses import replace
from pathlib import Path

from xmr_e2e import Data, Experiment, WordVectors
from xmr_e2e.recipes.probe_flickr8k import experiment as probe
from xmr_e2e.towers import GridRegions, ImageTower


def frozen(recipe: Experiment) -> Experiment:
    """A recipe whose heads alone train, on features that stay as they are, as in the papers."""
    return replace(recipe, method=replace(recipe.method, frozen=True))


def shortened(recipe: Experiment, epochs: int) -> Experiment:
    """A recipe for two cores, of which a study has many runs."""
    return replace(recipe, train=replace(recipe.train, epochs=epochs))


def on_pretrained(recipe: Experiment, epochs: int) -> Experiment:
    """A recipe for two cores, on the features of pretrained networks that stay as they are: EfficientNet-Lite0 with
    weights from the file lite0.pth, and the mean of word vectors of 50 numbers, from glove.npy with glove.txt beside
    it."""
    features = probe()
    towers = {**features.method.towers, "image": ImageTower("efficientnet_lite0", weights="lite0.pth")}
    recipe = replace(recipe, data=_pretrained_data(features), method=replace(recipe.method, **towers))
    return frozen(shortened(recipe, epochs))


def on_pretrained_cells(recipe: Experiment, epochs: int) -> Experiment:
    """A recipe for two cores whose regions are the cells of EfficientNet-Lite0's last map, which stays as it is; its
    text tower learns, from the same word vectors."""
    cells = GridRegions("efficientnet_lite0", weights="lite0.pth", trained="nothing")
    data = replace(_pretrained_data(recipe), image_size=224)
    return shortened(replace(recipe, data=data, method=replace(recipe.method, image=cells)), epochs)


def _pretrained_data(recipe: Experiment) -> Data:
    """The data of a recipe, at the size of pictures and with the word vectors of the pretrained networks."""
    return replace(recipe.data, load_size=224, words=WordVectors(file=Path("glove.npy"), dim=50))
