"""Configurations (frozen dataclasses) to JSON documents and back."""

from __future__ import annotations

import importlib
import inspect
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from xmr_e2e.errors import XmrError
from xmr_e2e.received import shortened

Configuration = TypeVar("Configuration")

BEFORE = "before"
"""key of a field's metadata: its value in documents that were written before there was the field, where that is not its
default"""
FORMERLY = "formerly"
"""key of a field's metadata: its name in documents and on command lines of earlier versions"""
FORMER_VALUES = "former values"
"""key of a field's metadata: values in documents of earlier versions, and what they are called now"""
_MOVED = {
    "xmr_e2e.engine.experiment:Experiment": "xmr_e2e.runs.experiment:Experiment",
    "xmr_e2e.engine.experiment:Optimiser": "xmr_e2e.runs.experiment:Optimizer",
    "xmr_e2e.engine.experiment:Schedule": "xmr_e2e.runs.experiment:Schedule",
    "xmr_e2e.engine.experiment:Train": "xmr_e2e.runs.experiment:Train",
    "xmr_e2e.data.loader:Data": "xmr_e2e.data.config:Data",
    "xmr_e2e.data.tokenisers:Tokenisation": "xmr_e2e.data.tokenizers:Tokenization",
}
"""classes of configurations as documents of earlier versions name them, and where they are now"""
_TYPE = "type"
_NAME = re.compile(r"([a-z_][a-z0-9_.]*):([A-Za-z_][A-Za-z0-9_]*)", re.ASCII)
_ITEMS = 10_000
"""of a list or mapping, at most"""


def to_document(value: Any) -> Any:
    """A configuration as JSON values; each dataclass says its class under "type"."""
    if is_dataclass(value):
        own = {field.name: to_document(getattr(value, field.name)) for field in fields(value)}
        return {_TYPE: _name_of(type(value)), **own}
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


def from_document(kind: type[Configuration], document: Any, where: str) -> Configuration:
    """The configuration that `to_document` wrote, whoever has changed it since.

    A field gets a value of its declared type, whose bounds are for `bounds.check_bounds`. A class that the document
    names is the declared one; or, where that is abstract, one that is made from it in the same package, as each tower
    and method is. No other module is imported.

    Args:
        kind: the class that is expected, or what it is made from.
        where: the file, and the key in it, for errors.

    Raises:
        XmrError: another class, fields that it does not have or that are missing, and values that they do not take.
    """
    found: Configuration = _configuration(kind, document, where)
    return found


def current_name(kind: Any, path: str) -> str:
    """The dotted name of an option as it is now, whatever version of a configuration of this kind it is from."""
    name, dot, rest = path.partition(".")
    for field in fields(kind):
        if name in (field.name, field.metadata.get(FORMERLY)):
            hint = get_type_hints(kind)[field.name]
            return field.name + dot + (current_name(hint, rest) if is_dataclass(hint) else rest)
    return path


def _name_of(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _configuration(kind: Any, document: Any, where: str) -> Any:
    if not isinstance(document, dict) or _TYPE not in document:
        raise XmrError(f"{where}: should be a configuration, with its class under {_TYPE!r}, not {shortened(document)}")
    cls = _class(kind, document[_TYPE], where)
    hints = get_type_hints(cls)
    own = {field.name: field for field in fields(cls) if field.init}
    document = {current_name(cls, name): value for name, value in document.items()}
    for name, field in own.items():
        if name in document and isinstance(document[name], str):
            document[name] = field.metadata.get(FORMER_VALUES, {}).get(document[name], document[name])
    unknown = sorted(set(document) - set(own) - {_TYPE})
    if unknown:
        raise XmrError(
            f"{where}: {document[_TYPE]} has no field {shortened(unknown[0])}; it was written by another version"
        )
    earlier = {name: field.metadata[BEFORE] for name, field in own.items() if BEFORE in field.metadata}
    given = {name: _restore(document[name], hints[name], f"{where}: {name}") for name in own if name in document}
    try:
        return cls(**{**earlier, **given})
    except TypeError as error:  # of fields without a default
        raise XmrError(f"{where}: {document[_TYPE]}: {error}; it was written by another version") from error
    except XmrError as error:  # of its own checks
        raise XmrError(f"{where}: {error}") from error


def _class(kind: Any, name: Any, where: str) -> Any:
    """The class of this name, where it is the kind or one of those that are made from it."""
    if isinstance(name, str):
        name = _MOVED.get(name, name)
    if name == _name_of(kind) and not inspect.isabstract(kind):
        return kind
    found = _NAME.fullmatch(name) if isinstance(name, str) else None
    # By the name alone, before anything is imported: what is made from a class lies in the same package as this.
    if found and found[1].rpartition(".")[0] == kind.__module__.rpartition(".")[0] and inspect.isabstract(kind):
        try:
            cls = getattr(importlib.import_module(found[1]), found[2], None)
        except ImportError:
            cls = None
        own = isinstance(cls, type) and is_dataclass(cls) and _name_of(cls) == name
        if own and issubclass(cls, kind) and not inspect.isabstract(cls):  # type: ignore[arg-type]
            return cls
    raise XmrError(f"{where}: {shortened(name)} is no configuration of this package, or none of {kind.__name__}")


def _restore(value: Any, hint: Any, where: str) -> Any:
    """A JSON value in the type that a field declares: paths and tuples are strings and lists in JSON."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _restore(value, inner[0], where)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        (declared,) = (option for option in inner if option is not type(None))
        return _restore(value, declared, where)
    if origin is Literal:
        # 1 == True == 1.0, which are not the same choice.
        if not any(type(value) is type(choice) and value == choice for choice in inner):
            raise _wrong(where, f"one of {', '.join(map(str, inner))}", value)
        return value
    if origin is tuple:
        many = inner[-1] is ...
        if not isinstance(value, list) or len(value) > _ITEMS or not (many or len(value) == len(inner)):
            raise _wrong(where, f"a list of {f'at most {_ITEMS:,}' if many else len(inner)} values", value)
        kinds = [inner[0]] * len(value) if many else inner
        return tuple(_restore(item, own, f"{where}.{place}") for place, (item, own) in enumerate(zip(value, kinds)))
    if origin is dict:
        if not isinstance(value, dict) or len(value) > _ITEMS:
            raise _wrong(where, f"an object of at most {_ITEMS:,} values", value)
        return {key: _restore(item, inner[1], f"{where}.{shortened(key, quoted=False)}") for key, item in value.items()}
    if is_dataclass(hint):
        return _configuration(hint, value, where)
    return _plain(value, hint, where)


def _plain(value: Any, kind: Any, where: str) -> Any:
    if kind is float and type(value) is int and abs(value) <= 2**53:
        return value
    if kind in (bool, int, float, str) and type(value) is kind:
        return value
    if kind is Path and isinstance(value, str) and "\0" not in value:
        return Path(value)
    raise _wrong(where, _WORDS[kind], value)


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}


def _wrong(where: str, expected: str, value: Any) -> XmrError:
    return XmrError(f"{where}: should be {expected}, not {shortened(value)}")
