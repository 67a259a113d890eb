"""DRCL's Table VI on a dataset: the prior that DRCL selects, in DRCL, SDML and MARS, beside random ones."""

from dataclasses import replace
from pathlib import Path

from xmr_e2e import Experiment
from xmr_e2e.recipes.studies._settings import frozen
from xmr_e2e.studies import Study, Variant
from xmr_e2e.studies.study import with_fields


def table6(drcl: Experiment, sdml: Experiment, mars: Experiment, dim: int, runs: Path) -> Study:
    """The six rows. Those of other methods have method, optimizer and training of their own recipes.

    Args:
        dim: width of DRCL's common space, which is the prior's.
        runs: the folder of run folders, in which the run lies whose prior it is.
    """
    table = Study(
        title="DRCL's prior in other methods",
        recipes=(frozen(drcl),),
        reference="DRCL (prior)",
        published="drcl, Table VI",
    )
    prior = runs / drcl.name / table.rows[0].run_name(table.seeds[0])
    with_prior = {"method.prior_weights": str(prior), "method.dim": dim}
    others = {"SDML": frozen(sdml), "MARS": frozen(mars)}
    variants = [
        Variant("DRCL (random)", {"method.prior": "random"}),
        *(_of(f"{name} (random)", recipe) for name, recipe in others.items()),
        *(_of(f"{name} (prior)", with_fields(recipe, with_prior)) for name, recipe in others.items()),
    ]
    return replace(table, variants=tuple(variants))


def _of(row: str, recipe: Experiment) -> Variant:
    return Variant(row, {"method": recipe.method, "optimizer": recipe.optimizer, "train": recipe.train})
