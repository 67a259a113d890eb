"""Studies whose rows are methods: one setting, and of each method what its own recipe says of it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from xmr_e2e import Experiment
from xmr_e2e.recipes.acmr_flickr8k import experiment as acmr
from xmr_e2e.recipes.cca_flickr8k import experiment as cca
from xmr_e2e.recipes.contrastive_flickr8k import experiment as contrastive
from xmr_e2e.recipes.corr_ae_flickr8k import experiment as corr_ae
from xmr_e2e.recipes.dcca_flickr8k import experiment as dcca
from xmr_e2e.recipes.dccae_flickr8k import experiment as dccae
from xmr_e2e.recipes.deep_sm_flickr8k import experiment as deep_sm
from xmr_e2e.recipes.dscmr_wikipedia import experiment as dscmr
from xmr_e2e.recipes.jrl_flickr8k import experiment as jrl
from xmr_e2e.recipes.kcca_flickr8k import experiment as kcca
from xmr_e2e.recipes.mars_wikipedia import experiment as mars
from xmr_e2e.recipes.mcca_flickr8k import experiment as mcca
from xmr_e2e.recipes.mrl_flickr8k import experiment as mrl
from xmr_e2e.recipes.probe_flickr8k import experiment as probe
from xmr_e2e.recipes.scm_flickr8k import experiment as scm
from xmr_e2e.recipes.sdml_wikipedia import experiment as sdml
from xmr_e2e.recipes.studies._settings import frozen
from xmr_e2e.studies import Study, Variant

SEEDS = (0, 1, 2, 3, 4)
SHARING_METRIC = "NDCG@500"
BASELINES = (
    *(probe(), cca(), mcca(), kcca(), scm(), jrl()),
    *(dcca(), dccae(), deep_sm(), corr_ae(), acmr(), mrl(), contrastive()),
)
"""recipes that say nothing of the training on the papers' sets: theirs is the setting's, but for the size of batches"""
TRAINED = (sdml(), mars())
"""recipes that have the released code's hyper-parameters"""


def setting_on(recipe: Experiment, metric: str = "mAP@all") -> Experiment:
    """DSCMR's recipe, frozen, on the dataset of another recipe: VGG-19, sentence CNN, Adam at 1e-4, 500 epochs.

    metric: the validation figure by which all rows choose their epochs.
    """
    base = frozen(dscmr())
    data = replace(base.data, shards=recipe.data.shards, texts=recipe.data.texts)
    return replace(base, data=data, train=replace(base.train, select=metric))


def compare_methods(
    name: str,
    setting: Experiment,
    *,
    trained: Sequence[Experiment] = (),
    baselines: Sequence[Experiment] = BASELINES,
    more: Sequence[Variant] = (),
    metric: str = "mAP@all",
    seeds: tuple[int, ...] = SEEDS,
) -> Study:
    """A row for each method, on the setting's data and towers, under the method's title.

    Args:
        name: of the runs' folder.
        setting: with the method of the first row, beside which the others stand.
        trained: recipes whose training (optimizer, schedule, epochs, batches) is kept.
        baselines: recipes whose training is the setting's, but for the size of batches.
        more: rows that are made otherwise.
    """
    return Study(
        title="Methods in one setting",
        recipes=(replace(setting, name=name),),
        variants=(
            *(_row(each, setting, {"train.batch_size": each.train.batch_size}) for each in baselines),
            *(_row(each, setting, training_of(each, setting)) for each in trained),
            *more,
        ),
        seeds=seeds,
        metric=metric,
        reference=setting.method.title,
        published="methods",
    )


def beside_semantic_sharing(name: str, recipe: Experiment) -> Study:
    """The rows of Semantic Sharing's Table 1 on its recipe's dataset, by the paper's metric."""
    setting = setting_on(recipe, SHARING_METRIC)
    more = [with_own_towers(recipe, setting)]
    return compare_methods(name, setting, trained=TRAINED, more=more, metric=SHARING_METRIC)


def with_own_towers(recipe: Experiment, setting: Experiment) -> Variant:
    """A recipe with its own towers and sizes of pictures, too, frozen: for a method that cannot have the setting's."""
    sizes = {f"data.{name}": getattr(recipe.data, name) for name in ("image_size", "load_size")}
    return Variant(recipe.method.title, {"method": frozen(recipe).method, **training_of(recipe, setting), **sizes})


def training_of(recipe: Experiment, setting: Experiment) -> dict[str, Any]:
    """The training of a recipe, which chooses epochs as the setting does."""
    train = replace(recipe.train, select=setting.train.select)
    return {"optimizer": recipe.optimizer, "schedule": recipe.schedule, "train": train}


def _row(recipe: Experiment, setting: Experiment, training: Mapping[str, Any]) -> Variant:
    towers: dict[str, Any] = {**setting.method.towers}
    method = replace(recipe.method, frozen=True, **towers)
    return Variant(method.title, {"method": method, **training})
