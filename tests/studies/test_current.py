"""Configurations that need no reading, beside the reading itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.made_runs import METHODS
from xmr_e2e.configuration import document_type, from_document, to_document
from xmr_e2e.data.config import Data
from xmr_e2e.methods.base import MethodConfig
from xmr_e2e.methods.discovery import all_methods, method_name, method_title
from xmr_e2e.runs.experiment import Experiment, Optimizer
from xmr_e2e.studies.current import fields_in_source, is_current
from xmr_e2e.towers.base import TowerConfig


def made_from(kind: type) -> Iterator[type]:
    yield kind
    for each in kind.__subclasses__():
        yield from made_from(each)


def written(method: MethodConfig = METHODS["dscmr"]) -> dict[str, Any]:
    experiment = Experiment("mine", Data(Path("shards")), method, Optimizer(lr_overrides={"image": 0.1}))
    document: dict[str, Any] = json.loads(json.dumps(to_document(experiment)))
    return document


def configurations(value: Any) -> Iterator[type]:
    """The classes of a configuration and of those within it."""
    if is_dataclass(value):
        yield type(value)
        for field in fields(value):
            yield from configurations(getattr(value, field.name))


def test_the_source_says_the_fields_of_each_configuration() -> None:
    all_methods()  # imports them, and the towers that they have
    within = configurations(Experiment("mine", Data(Path("shards")), METHODS["drcl"], Optimizer()))
    kinds = {*made_from(MethodConfig), *made_from(TowerConfig), *within}
    own = [kind for kind in kinds if kind.__module__.startswith("xmr_e2e.")]
    assert len(own) > 40
    for kind in own:
        assert set(fields_in_source(document_type(kind)) or ()) == {field.name for field in fields(kind)}, kind


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_what_this_version_writes_comes_back_as_it_is(method: MethodConfig) -> None:
    document = written(method)
    assert is_current(document)
    assert to_document(from_document(Experiment, document, "config.json")) == document


def test_what_another_version_or_program_wrote_is_to_be_read() -> None:
    def without(part: str, name: str) -> dict[str, Any]:
        document = written()
        del document[part][name]
        return document

    def changed(part: str, **values: Any) -> dict[str, Any]:
        return {**written(), part: {**written()[part], **values}}

    assert is_current(changed("optimizer", kind="sgd"))
    for document in (
        without("train", "seed"),
        without("method", "image"),
        changed("data", also={}),
        changed("optimizer", kind="adam"),
        changed("optimizer", type="xmr_e2e.engine.experiment:Optimiser"),
        changed("method", type="my_method:MyMethod"),
        changed("method", type="xmr_e2e.methods.nothing:Dscmr"),
        changed("method", type="xmr_e2e.methods.dscmr:Nothing"),
        changed("method", type=["xmr_e2e.methods.dscmr:Dscmr"]),
        changed("method", type="xmr_e2e...setup:Dscmr"),
    ):
        assert not is_current(document)


def test_titles_are_those_of_the_classes() -> None:
    assert {method_name(document_type(each)): each.title for each in all_methods()} == {
        name: method_title(name) for name in (method_name(document_type(each)) for each in all_methods())
    }
    assert [method_title(name) for name in ("base", "no_such", "../dscmr", "elsewhere:Mine")] == [
        "base",
        "no_such",
        "../dscmr",
        "Mine",
    ]
