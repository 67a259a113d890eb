"""The page of the papers' ablations: each row's options are fields of its recipes, and make a method."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import pytest
import torch

from tests.helpers.miniatures import build_narrow, shrunk
from tests.helpers.pages import prose_and_code, spans, spans_of
from tests.helpers.recipes import RECIPES, recipe
from xmr_e2e.bounds import check_bounds
from xmr_e2e.studies.files import find_studies, load_study
from xmr_e2e.studies.published import published_ablations
from xmr_e2e.towers.base import DatasetInfo

pytestmark = pytest.mark.slow

SETTING = re.compile(r"([a-z]\w*(?:\.\w+)*) = (\S+)")
WITHOUT = "–"
"""in place of the study of a row"""
OF_THE_COMMAND_LINE = ("method.image.kind", "method.image.name")
"""of another tower than the recipe's"""


class Row(NamedTuple):
    """The options that a row of the page asks for."""

    name: str
    recipes: list[str]
    """those that it names, or takes over from the row above"""
    settings: list[tuple[str, str]]
    studies: list[str]
    """those that it names, or takes over from the row above"""
    fields: list[str]
    """of its method, that it names without a value"""


def rows() -> Iterator[Row]:
    """The rows of all tables; one that has several values of a field is several."""
    recipes: list[str] = []
    studies: list[str] = []
    for line in prose_and_code("docs/studies.md")[0]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 5 and cells[0] not in ("paper", "---"):
            named = [span for span in spans(cells[3]) if span in RECIPES]
            recipes = named or recipes
            own = recipes if named or cells[3] == "the same" else []
            studies = spans(cells[1]) or studies
            own_studies = [] if cells[1] == WITHOUT else studies
            pairs = [match.groups() for span in spans(cells[4]) if (match := SETTING.fullmatch(span))]
            fields = [span for span in spans(cells[4]) if re.fullmatch(r"method(\.\w+)+", span)]
            settings = [(path, value) for path, value in pairs if path not in OF_THE_COMMAND_LINE]
            if len(settings) > len(dict(settings)):
                yield from (Row(cells[2], own, [setting], own_studies, fields) for setting in settings)
            else:
                yield Row(cells[2], own, settings, own_studies, fields)


ROWS = list(rows())
RUN = [row for row in ROWS if row.settings]
STUDIES = {name: load_study(path) for name, path in find_studies().items()}
assert len(RUN) > 40 and all(row.recipes for row in RUN)


def changed(config: Any, path: str, text: str) -> Any:
    """The configuration with a field set as a command line would."""
    name, _, rest = path.partition(".")
    hints = get_type_hints(type(config))
    assert name in hints, path
    return replace(config, **{name: changed(getattr(config, name), rest, text) if rest else _value(hints[name], text)})


def _value(hint: Any, text: str) -> Any:
    if get_origin(hint) is Literal:
        assert text in get_args(hint), text
        return text
    kinds = get_args(hint) or (hint,)
    if bool in kinds:
        return {"true": True, "false": False}[text]
    return next(kind(text) for kind in (int, float, str) if kind in kinds)


def test_the_page_has_the_rows_of_the_published_ablations() -> None:
    page = " ".join(row.name for row in ROWS)
    for table in published_ablations():
        missing = [row for row in table.rows if not re.search(rf"(?<!\w){re.escape(row)}(?!\w)", page)]
        assert not missing, table.source


@pytest.mark.parametrize("row", RUN, ids=lambda row: f"{row.name} {row.settings[0]}")
def test_the_options_of_a_row_are_fields_of_its_recipes_and_make_a_method(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.models.get_model", build_narrow)
    for name in row.recipes:
        experiment = recipe(name).experiment()
        for path, text in row.settings:
            experiment = changed(experiment, path, text)
        check_bounds(experiment, "--")
    widths = dict.fromkeys(("audio", "video", "shape3d"), 6)
    dataset = DatasetInfo(3, False, 64, torch.randn(20, experiment.data.words.dim), widths)
    assert shrunk(experiment.method).build(dataset).stages


def test_each_row_that_can_be_run_is_in_a_study_and_each_study_on_the_page() -> None:
    without = [row.name for row in RUN if not row.studies]
    assert without == ["the objective over 1,000 epochs"]  # one run, whose curve is in its report
    small = {name for name in STUDIES if name.endswith("_small")}
    assert {name for row in ROWS for name in row.studies} == STUDIES.keys() - small
    assert small <= set(spans_of("docs/studies.md"))


@pytest.mark.parametrize("row", [row for row in RUN if row.studies], ids=lambda row: f"{row.name} {row.settings[0]}")
def test_the_studies_of_a_row_have_its_options(row: Row) -> None:
    for study in (STUDIES[name] for name in row.studies):
        for base in study.recipes:
            wanted = base
            for path, text in row.settings:
                wanted = changed(wanted, path, text)
            own = [each.experiment for each in study.rows if each.recipe == base.name]
            assert wanted.method in [each.method for each in own]
            assert wanted.train.seed in (*study.seeds, base.train.seed)


@pytest.mark.parametrize("name", [name for name, study in STUDIES.items() if study.sweeps and "_small" not in name])
def test_the_rows_of_a_study_of_curves_name_its_fields(name: str) -> None:
    fields = {field for row in ROWS if name in row.studies for field in row.fields}
    assert fields == {sweep.field for sweep in STUDIES[name].sweeps}
