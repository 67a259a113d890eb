"""Configurations (frozen dataclasses) to JSON documents and back."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from xmr_e2e.errors import XmrError
from xmr_e2e.received import shortened

Configuration = TypeVar("Configuration")

BEFORE = "before"
"""key of a field's metadata: its value in documents that were written before there was the field, where that is not its
default; or a function that tells it from the other fields' values"""
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
PLUGINS = "xmr_e2e.methods"
"""group of entry points under which an installed package names the modules of its own methods and towers"""
TYPE = "type"
"""key of a document under which a configuration's class is named"""
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*):([A-Za-z_][A-Za-z0-9_]*)", re.ASCII)
_ITEMS = 10_000
"""of a list or mapping, at most"""


def to_document(value: Any) -> Any:
    """A configuration as JSON values; each dataclass says its class under "type"."""
    if is_dataclass(value):
        own = {field.name: to_document(getattr(value, field.name)) for field in fields(value)}
        return {TYPE: document_type(type(value)), **own}
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
    names is the declared one; or, where that is abstract, one that is made from it: in the same package, as each tower
    and method is; in a module that this process has imported already; or in one that an installed package names under
    `PLUGINS`. No other module is imported.

    Args:
        kind: the class that is expected, or what it is made from.
        where: the file, and the key in it, for errors.

    Raises:
        XmrError: another class, fields that it does not have or that are missing, and values that they do not take.
    """
    found: Configuration = _configuration(kind, document, where)
    return found


def current_type(name: Any) -> Any:
    """The class that a document names, as it is called now."""
    return _MOVED.get(name, name) if isinstance(name, str) else name


def current_name(kind: Any, path: str) -> str:
    """The dotted name of an option as it is now, whatever version of a configuration of this kind it is from."""
    name, dot, rest = path.partition(".")
    for field in fields(kind):
        if name in (field.name, field.metadata.get(FORMERLY)):
            hint = field_types(kind)[field.name]
            return field.name + dot + (current_name(hint, rest) if is_dataclass(hint) else rest)
    return path


@cache
def field_types(kind: type) -> Mapping[str, Any]:
    """The declared types of a dataclass's fields. Reading them takes long: each is an expression to be compiled."""
    return get_type_hints(kind)


def document_type(cls: type) -> str:
    """The name of a class in documents: "xmr_e2e.methods.dscmr:Dscmr"."""
    return f"{cls.__module__}:{cls.__qualname__}"


def check_restorable(value: Any) -> None:
    """Raise XmrError for a configuration that another process could not read from its document: with a class of the
    file that is run, which has another name there, or with fields of types that JSON does not tell apart."""
    for cls in dict.fromkeys(_classes(value)):
        name = f"{cls.__qualname__} could not be loaded again: it"
        if cls.__module__ == "__main__":
            raise XmrError(
                f"{name} is defined in the file that is run, which no other process finds under this name. Move it "
                "into a file of its own beside that one, such as my_method.py, and import it from there"
            )
        if _class_of_module(document_type(cls)) is not cls:
            raise XmrError(f"{name} is not what {cls.__module__} has under this name; define it at the module's top")
    document, name = to_document(value), type(value).__qualname__
    try:
        read = to_document(from_document(type(value), json.loads(json.dumps(document)), name))
    except (TypeError, NameError) as error:  # of values that JSON does not have, and of hints that nothing stands for
        raise XmrError(f"{name} could not be loaded again: {error}") from error
    if read != document:
        changed = sorted(key for key, item in flatten(document) if dict(flatten(read)).get(key) != item)
        raise XmrError(f"{name} could not be loaded again as it is: {', '.join(changed)} would be another")


def _classes(value: Any) -> Iterator[type]:
    """Of a configuration and of those within it."""
    if is_dataclass(value):
        yield type(value)
        for field in fields(value):
            yield from _classes(getattr(value, field.name))
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _classes(item)


def _configuration(kind: Any, document: Any, where: str) -> Any:
    if not isinstance(document, dict) or TYPE not in document:
        raise XmrError(f"{where}: should be a configuration, with its class under {TYPE!r}, not {shortened(document)}")
    cls = _class(kind, document[TYPE], where)
    hints = field_types(cls)
    own = {field.name: field for field in fields(cls) if field.init}
    document = {current_name(cls, name): value for name, value in document.items()}
    for name, field in own.items():
        if name in document and isinstance(document[name], str):
            document[name] = field.metadata.get(FORMER_VALUES, {}).get(document[name], document[name])
    unknown = sorted(set(document) - set(own) - {TYPE})
    if unknown:
        raise XmrError(
            f"{where}: {document[TYPE]} has no field {shortened(unknown[0])}; it was written by another version"
        )
    given = {name: _restore(document[name], hints[name], f"{where}: {name}") for name in own if name in document}
    before = {name: field.metadata[BEFORE] for name, field in own.items() if BEFORE in field.metadata}
    earlier = {name: value(given) if callable(value) else value for name, value in before.items()}
    try:
        return cls(**{**earlier, **given})
    except TypeError as error:  # of fields without a default
        raise XmrError(f"{where}: {document[TYPE]}: {error}; it was written by another version") from error
    except XmrError as error:  # of its own checks
        raise XmrError(f"{where}: {error}") from error


def _class(kind: Any, name: Any, where: str) -> Any:
    """The class of this name, where it is the kind or one of those that are made from it."""
    name = current_type(name)
    if name == document_type(kind) and not inspect.isabstract(kind):
        return kind
    found = _NAME.fullmatch(name) if isinstance(name, str) else None
    advice = ""
    if found and inspect.isabstract(kind):
        # By the name alone, before anything is imported: what is made from a class lies in the same package as this,
        # or whoever runs or has installed it has named the module himself.
        if found[1].rpartition(".")[0] == kind.__module__.rpartition(".")[0] or _is_plugin(found[1]):
            with suppress(ImportError):
                importlib.import_module(found[1])
        cls = _class_of_module(found[0])
        # Frozen, as the kind is: a dataclass that is made from a frozen one cannot be otherwise.
        if cls and is_dataclass(cls) and issubclass(cls, kind) and not inspect.isabstract(cls):
            return cls
        if found[1] not in sys.modules and found[1].partition(".")[0] != __name__.partition(".")[0]:
            advice = (
                f". If you have the module {shortened(found[1], quoted=False)} and trust it as a program, import it "
                f"first: xmr --import {shortened(found[1], quoted=False)} …, or --import with its file; in Python, by "
                "an import"
            )
    raise XmrError(
        f"{where}: {shortened(name)} is no configuration of this package, or none of {kind.__name__}{advice}"
    )


def _class_of_module(name: str) -> type | None:
    """The class of this name in documents, where its module is imported and has it; imports nothing."""
    module, _, own = name.partition(":")
    # From the module's own names: lazy modules import when they are asked for others.
    imported = sys.modules.get(module)
    cls = vars(imported).get(own) if isinstance(imported, types.ModuleType) else None
    return cls if isinstance(cls, type) and document_type(cls) == name else None


def _is_plugin(module: str) -> bool:
    """True for a module that an installed package names as one of methods."""
    if module in sys.modules:
        return False
    return any(point.value.partition(":")[0] == module for point in entry_points(group=PLUGINS))


def _restore(value: Any, hint: Any, where: str) -> Any:
    """A JSON value in the type that a field declares: paths and tuples are strings and lists in JSON."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _restore(value, inner[0], where)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        declared = [option for option in inner if option is not type(None)]
        if len(declared) > 1:
            raise _unknown(where, hint)
        return _restore(value, declared[0], where)
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
    if kind not in _WORDS:
        raise _unknown(where, kind)
    raise _wrong(where, _WORDS[kind], value)


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}


def _unknown(where: str, hint: Any) -> XmrError:
    """Of a type that a method of its own may have, and whose values JSON does not give back."""
    return XmrError(
        f"{where}: a field of the type {hint} cannot be read from a document; there are bool, int, float, str, Path, "
        "Literal, tuples and dicts of them, configurations, and each of these or None"
    )


def _wrong(where: str, expected: str, value: Any) -> XmrError:
    return XmrError(f"{where}: should be {expected}, not {shortened(value)}")
