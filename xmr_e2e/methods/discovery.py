"""Discovery of methods: those of this package, by looking into it, and those that whoever runs it has imported."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from xmr_e2e import methods
from xmr_e2e.configuration import document_type

if TYPE_CHECKING:
    from xmr_e2e.methods.base import MethodConfig

_ROOM = methods.__name__


@cache
def all_methods() -> tuple[type[MethodConfig], ...]:
    """The methods of this package, in the order of their modules; a file more is a method more."""
    from xmr_e2e.methods.base import MethodConfig

    modules = [import_module(f"{_ROOM}.{found.name}") for found in pkgutil.iter_modules(methods.__path__)]
    return tuple(
        value
        for module in modules
        for value in vars(module).values()
        if _is_method(value, MethodConfig) and value.__module__ == module.__name__
    )


def imported_methods() -> tuple[type[MethodConfig], ...]:
    """The methods of this package, then those of others that are imported in this process."""
    from xmr_e2e.methods.base import MethodConfig

    own = all_methods()
    others = (each for each in _made_from(MethodConfig) if _is_method(each, MethodConfig) and each not in own)
    return (*own, *others)


def method_name(type_: str) -> str:
    """The name under which figures of a method are gathered: its module's, such as "dscmr", for one of this package;
    else its class as documents name it, "my_package.my_method:MyMethod"."""
    module = type_.partition(":")[0]
    package, _, name = module.rpartition(".")
    return name if package == _ROOM else type_


def methods_without_labels() -> list[str]:
    """The methods of this package that need no labels, by name: as they are, or with frozen towers."""
    found = []
    for method in all_methods():
        name, made = method_name(document_type(method)), cast("Callable[[], MethodConfig]", method)()
        if not made.needs_labels:
            found.append(name)
        elif not replace(made, frozen=True).needs_labels:
            found.append(f"{name} with --method.frozen")
    return found


def method_title(name: str) -> str:
    """The title of the method of this name; of one that is not imported, the name of its class."""
    if ":" not in name:
        return _title_in_source(name) or name
    if f"{_ROOM}.base" in sys.modules:  # without which no other method is imported, either
        for method in imported_methods():
            if method_name(document_type(method)) == name:
                return method.title
    return name.rpartition(":")[2]


@cache
def _title_in_source(name: str) -> str | None:
    """The title in the module of a method of this package. Tables need no more of it; importing it takes seconds."""
    source = Path(methods.__path__[0], f"{name}.py")
    if not name.isidentifier() or not source.is_file():
        return None
    classes = (node for node in ast.parse(source.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef))
    for each in (node for found in classes for node in found.body):
        if isinstance(each, ast.Assign) and [ast.unparse(target) for target in each.targets] == ["title"]:
            title: str = ast.literal_eval(each.value)
            return title
    return None


def _is_method(value: Any, kind: type) -> bool:
    return isinstance(value, type) and issubclass(value, kind) and is_dataclass(value) and not inspect.isabstract(value)


def _made_from(kind: type) -> Iterator[type]:
    each: type
    for each in kind.__subclasses__():
        yield each
        yield from _made_from(each)
