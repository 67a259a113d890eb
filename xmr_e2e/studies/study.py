"""A study: recipes, what is varied of them, and seeds. Each of its runs is a training like any other."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from inspect import signature
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from xmr_e2e.configuration import check_restorable, to_document
from xmr_e2e.errors import XmrError
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.studies.runs import options_of, wanted_options

Part = TypeVar("Part")
REFERENCE = "recipe"
"""name of the row of a recipe as it stands"""


@dataclass(frozen=True)
class Variant:
    """A row of a study's table: a recipe with other values of some fields."""

    name: str
    """as the table has it, such as "w/o J1\""""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """dotted field of the configuration -> its value, such as {"method.label": 0.0} or {"method.image":
    ImageTower("vgg19")}"""


@dataclass(frozen=True)
class Sweep:
    """A curve of a study: a field with several values, all else as in the recipe."""

    field: str
    """dotted, such as "method.eta\""""
    values: tuple[float, ...]
    label: str = ""
    """as the axis has it; by default the field"""
    is_logarithmic: bool = False

    @property
    def title(self) -> str:
        return self.label or self.field

    def variants(self) -> Iterator[Variant]:
        for value in self.values:
            yield Variant(f"{self.title} = {value:g}", {self.field: value})


@dataclass(frozen=True)
class Study:
    """Recipes, variants and seeds, of which each combination is a run."""

    title: str
    recipes: tuple[Experiment, ...]
    """one for each dataset, as the functions of recipes/ return them; their names are told apart"""
    variants: tuple[Variant, ...] = ()
    sweeps: tuple[Sweep, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    metric: str = "mAP@all"
    reference: str = REFERENCE
    """name of the row of the recipe as it stands, such as "DSCMR\""""
    published: str = ""
    """the published ablation beside it, such as "dscmr, Table 6"; or "methods", where the rows are methods under their
    titles: what all papers print of these"""
    name: str = ""
    """by default that of its file"""

    def __post_init__(self) -> None:
        if not self.recipes or not self.seeds:
            raise XmrError(f"study {self.title!r}: it has no {'seeds' if self.recipes else 'recipes'}")
        _require_distinct([recipe.name for recipe in self.recipes], f"study {self.title!r}: recipe")
        _require_distinct([_slug(each.name) for each in self.all_variants], f"study {self.title!r}: variant")
        _require_distinct(list(self.seeds), f"study {self.title!r}: seed")

    @cached_property
    def all_variants(self) -> tuple[Variant, ...]:
        """The recipe as it stands, the variants, and the sweeps' points."""
        points = [variant for sweep in self.sweeps for variant in sweep.variants()]
        return Variant(self.reference), *self.variants, *points

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The rows of all recipes, recipe after recipe.

        Raises:
            XmrError: a variant names a field that a recipe does not have, or a value that it does not take.
        """
        return tuple(_row(self, recipe, each) for recipe, each in product(self.recipes, self.all_variants))

    def row(self, key: str) -> Row:
        """A row by its key, "RECIPE/VARIANT" as `Row.key` has it."""
        found = {row.key: row for row in self.rows}
        if key not in found:
            raise XmrError(f"--run {key}: the study has no such row; there are {', '.join(found)}")
        return found[key]


@dataclass(frozen=True)
class Row:
    """A recipe in one variant, to be run with each seed."""

    recipe: str
    variant: Variant
    experiment: Experiment
    """with the recipe's own seed"""

    @property
    def key(self) -> str:
        return f"{self.recipe}/{_slug(self.variant.name)}"

    @cached_property
    def options(self) -> dict[str, Any]:
        """The configuration flat, without what does not change the result, and without the seed."""
        return wanted_options(self.experiment)

    @cached_property
    def fingerprint(self) -> str:
        """A few letters that stand for the options, wherever the shards are."""
        text = json.dumps(options_of(to_document(self.experiment)), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def run_name(self, seed: int) -> str:
        """The name of the folder of a new run: a changed study has other ones."""
        return f"{_slug(self.variant.name)}-{self.fingerprint}-seed-{seed}"


def study_of(function: Callable[..., Study], runs: Path) -> Study:
    """The study that a function returns; one with the parameter `runs`, of which rows begin with what another row's run
    has learnt, is told the folder of run folders, in one way however it was typed: rows are found by their options."""
    if "runs" not in signature(function).parameters:
        return function()
    here, whole = Path.cwd(), runs.resolve()
    return function(runs=whole.relative_to(here) if whole.is_relative_to(here) else whole)


def _row(study: Study, recipe: Experiment, variant: Variant) -> Row:
    where = f"study {study.title!r}, variant {variant.name!r} of {recipe.name}"
    try:
        changed = with_fields(recipe, variant.fields)
        check_restorable(changed)
    except XmrError as error:
        raise XmrError(f"{where}: {error}") from error
    return Row(recipe.name, variant, replace(changed, name=recipe.name))


def with_fields(configuration: Part, values: Mapping[str, Any]) -> Part:
    """A configuration in which dotted fields have other values.

    Raises:
        XmrError: there is no such field, or it does not take the value.
    """
    return _replaced(configuration, {tuple(name.split(".")): value for name, value in values.items()}, "")


def _replaced(part: Any, values: Mapping[tuple[str, ...], Any], where: str) -> Any:
    """At once for all fields of a part, some of which are only possible together."""
    if () in values:
        if len(values) > 1:
            raise XmrError(f"{where} is given as a whole, and a field of it beside: give the one or the other")
        return values[()]
    if not values:
        return part
    known = [each.name for each in fields(part)] if is_dataclass(part) else []
    by_field: dict[str, dict[tuple[str, ...], Any]] = {}
    for (head, *rest), value in values.items():
        if head not in known:
            near = get_close_matches(head, known, n=3) or known
            there = f"; there are {', '.join(near)}" if near else ""
            raise XmrError(f"no field {f'{where}.{head}'.removeprefix('.')}{there}")
        by_field.setdefault(head, {})[tuple(rest)] = value
    names = {name: f"{where}.{name}".removeprefix(".") for name in by_field}
    return replace(part, **{name: _replaced(getattr(part, name), own, names[name]) for name, own in by_field.items()})


def _slug(name: str) -> str:
    """A name as part of a folder's."""
    return re.sub(r"[^\w.=+-]+", "-", name.replace("/", "").replace(" = ", "=")).strip("-").lower() or "variant"


def _require_distinct(names: Sequence[Any], what: str) -> None:
    repeated = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if repeated is not None:
        raise XmrError(f"{what} {repeated} is there twice")
