"""Discovery of methods: those of this package, by looking into it, and those that whoever runs it has imported."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass, replace
from functools import cache
from importlib import import_module
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
    for method in imported_methods():
        if method_name(document_type(method)) == name:
            return method.title
    return name.rpartition(":")[2]


def _is_method(value: Any, kind: type) -> bool:
    return isinstance(value, type) and issubclass(value, kind) and is_dataclass(value) and not inspect.isabstract(value)


def _made_from(kind: type) -> Iterator[type]:
    each: type
    for each in kind.__subclasses__():
        yield each
        yield from _made_from(each)
