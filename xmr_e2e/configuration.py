"""Configurations (frozen dataclasses) to JSON documents and back."""

from __future__ import annotations

import importlib
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from xmr_e2e.errors import XmrError

_TYPE = "type"


def to_document(value: Any) -> Any:
    """A configuration as JSON values; each dataclass says its class under "type"."""
    if is_dataclass(value):
        name = f"{type(value).__module__}:{type(value).__qualname__}"
        return {_TYPE: name, **{field.name: to_document(getattr(value, field.name)) for field in fields(value)}}
    if isinstance(value, Mapping):
        return {key: to_document(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_document(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def flatten(document: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of nested mappings."""
    if isinstance(document, dict):
        for name, value in document.items():
            yield from flatten(value, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, document


def from_document(document: Any, where: str) -> Any:
    """The configuration that `to_document` wrote.

    Raises:
        XmrError: a class that is not one of this package's configurations, or fields that it does not have.
    """
    if not (isinstance(document, dict) and _TYPE in document):
        return document
    cls = _configuration_class(document[_TYPE], where)
    hints = get_type_hints(cls)
    names = {field.name for field in fields(cls)}
    unknown = sorted(set(document) - names - {_TYPE})
    if unknown:
        raise XmrError(f"{where}: {document[_TYPE]} has no field {unknown[0]!r}; it was written by another version")
    return cls(**{name: _restore(document[name], hints[name], where) for name in names & set(document)})


def _configuration_class(name: str, where: str) -> Any:
    module, _, qualified = name.partition(":")
    # Only this package's own classes: a file must not be able to name arbitrary code.
    if module.partition(".")[0] == __name__.partition(".")[0]:
        try:
            cls = getattr(importlib.import_module(module), qualified, None)
        except ImportError:
            cls = None
        if is_dataclass(cls):
            return cls
    raise XmrError(f"{where}: {name!r} is no configuration of this package")


def _restore(value: Any, hint: Any, where: str) -> Any:
    """A JSON value in the type that the field declares: paths and tuples are strings and lists in JSON."""
    if value is None:
        return None
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if isinstance(value, str) and Path in options:
        return Path(value)
    if isinstance(value, list) and any(get_origin(option) is tuple for option in options):
        return tuple(from_document(item, where) for item in value)
    return from_document(value, where)
