"""Configurations as YAML files: a run's, written out, and options that a recipe takes from one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import yaml

from xmr_e2e.configuration import (
    TYPE,
    current_name,
    current_type,
    document_type,
    field_types,
    from_document,
    to_document,
)
from xmr_e2e.errors import XmrError, describe_os_error
from xmr_e2e.received import read_bytes, shortened
from xmr_e2e.runs.experiment import Experiment

MOST_BYTES = 2**20


def to_yaml(experiment: Experiment) -> str:
    """A configuration as YAML by which a recipe starts the same training again, as a run of its own.

    Classes are named where another could stand in their place: methods and towers.
    """
    document = to_options(experiment)
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120)  # beyond ASCII, PyYAML loses signs


def to_options(experiment: Experiment) -> dict[str, Any]:
    """The options of `to_yaml` as nested mappings."""
    again = replace(experiment, train=replace(experiment.train, name=None, resume=None))
    options: dict[str, Any] = _without_known_types(again)
    return options


def read_yaml(path: Path, default: Experiment) -> Experiment:
    """The experiment with what a YAML file (or JSON, which is YAML) says in the place of its own values.

    Keys are options, such as `optimizer: {lr: 1e-4}` for --optimizer.lr. What the file says nothing of stays as it is;
    a method or tower of another class begins with that class's defaults.

    Raises:
        XmrError: it cannot be read, or has options that there are not or values that they do not take.
    """
    try:
        given = yaml.load(read_bytes(path, most=MOST_BYTES), Loader=_Loader)
    except OSError as error:
        raise XmrError(describe_os_error(error)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise XmrError(f"{path}: no YAML that can be read: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise XmrError(f"{path}: should have options, such as `optimizer: {{lr: 1e-4}}`, not {shortened(given)}")
    return from_document(Experiment, _merged(default, given, str(path)), str(path))


def _merged(own: Any, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The document of a configuration with other values."""
    if current_type(given.get(TYPE, document_type(type(own)))) != document_type(type(own)):
        return dict(given)
    document: dict[str, Any] = to_document(own)
    known = {each.name for each in fields(own)}
    for written, value in given.items():
        key = current_name(type(own), written.replace("-", "_")) if isinstance(written, str) else written
        if key not in known and key != TYPE:
            close = get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(sorted(known))}"
            raise XmrError(f"{where}: {shortened(written)} is no option{hint}")
        held = getattr(own, key, None)
        is_section = is_dataclass(held) and isinstance(value, dict)
        document[key] = _merged(held, value, f"{where}: {key}") if is_section else value
    return document


def _without_known_types(value: Any, declared: Any = Experiment) -> Any:
    """A configuration as a document in which the class is left out where the field's declared type says it."""
    if not is_dataclass(value):
        return to_document(value)
    cls: type = type(value)
    hints = field_types(cls)
    own = {each.name: _without_known_types(getattr(value, each.name), hints[each.name]) for each in fields(value)}
    is_known = cls in (declared, *get_args(declared))
    return own if is_known else {TYPE: document_type(cls), **own}


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers and truth values, by which `lr: 1e-4` is a number and `kind: no` is a word; each key once, and
    no aliases, of which few make many."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases (*name), which are not read")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.YAMLError(f"{twice[0]!r} is there twice {node.start_mark}")
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Words that `_Loader` would take for something else, in quotes; no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_RULES = (
    ("tag:yaml.org,2002:bool", re.compile(r"true|false"), "tf"),
    ("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]+"), "-+0123456789"),
    ("tag:yaml.org,2002:float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), "-+.0123456789"),
    ("tag:yaml.org,2002:null", re.compile(r"null|~|"), ("n", "~", "")),
)
"""YAML 1.2's core schema: tag, what it looks like, and how it can begin"""
for _kind in (_Loader, _Dumper):
    _kind.yaml_implicit_resolvers = {}
    for _tag, _form, _first in _RULES:
        _kind.add_implicit_resolver(_tag, re.compile(rf"^(?:{_form.pattern})$"), list(_first))
