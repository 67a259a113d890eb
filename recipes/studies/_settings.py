"""Settings that several studies share."""

from dataclasses import replace

from xmr_e2e import Experiment


def frozen(recipe: Experiment) -> Experiment:
    """A recipe whose heads alone train, on features that stay as they are, as in the papers."""
    return replace(recipe, method=replace(recipe.method, frozen=True))


def shortened(recipe: Experiment, epochs: int) -> Experiment:
    """A recipe for two cores, of which a study has many runs."""
    return replace(recipe, train=replace(recipe.train, epochs=epochs))
