"""Configurations of runs that are as this version writes them, told from the source of their classes.

To read a configuration is to import what a training needs, torch above all, which takes seconds; a table of a few runs
takes a tenth of one.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import xmr_e2e
from xmr_e2e.configuration import TYPE

_FOLDER = Path(xmr_e2e.__file__).parent
_NAME = re.compile(rf"{xmr_e2e.__name__}((?:\.[a-z_][a-z0-9_]*)+):([A-Za-z_][A-Za-z0-9_]*)", re.ASCII)


def is_current(document: Any) -> bool:
    """True for a configuration (JSON values) with just the fields of this version's classes, and with no value of
    theirs that has another name now: `from_document` would give back what it says."""
    if isinstance(document, list):
        return all(map(is_current, document))
    if not isinstance(document, dict):
        return True
    if TYPE in document:
        fields = fields_in_source(str(document[TYPE]))
        if fields is None or document.keys() - {TYPE} != fields.keys():
            return False
        if any(isinstance(document[name], str) and document[name] in former for name, former in fields.items()):
            return False
    return all(map(is_current, document.values()))


@cache
def fields_in_source(type_: str) -> dict[str, frozenset[str]] | None:
    """The fields of a dataclass of this package, and the former values of each; None where there is no such class.

    type_: as documents name it, "xmr_e2e.methods.dscmr:Dscmr".
    """
    named = _NAME.fullmatch(type_)
    tree = _tree(named[1]) if named else None
    if named is None or tree is None:
        return None
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == named[2]:
            return _fields(node, f"{xmr_e2e.__name__}{named[1]}", tree)
    return None


def _fields(node: ast.ClassDef, module: str, tree: ast.Module) -> dict[str, frozenset[str]]:
    """With those that it has from classes of this package."""
    found: dict[str, frozenset[str]] = {}
    for base in node.bases:
        if isinstance(base, ast.Name):
            found |= fields_in_source(_origin(base.id, module, tree)) or {}
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return found
    declared = [each for each in node.body if isinstance(each, ast.AnnAssign)]
    return found | {
        ast.unparse(each.target): _former_values(each.value)
        for each in declared
        if not ast.unparse(each.annotation).startswith("ClassVar")
    }


def _former_values(default: ast.expr | None) -> frozenset[str]:
    """The former values that a field's metadata names."""
    keys = [
        key.value
        for node in ast.walk(default or ast.Constant(None))
        if isinstance(node, ast.Dict)
        for name, values in zip(node.keys, node.values)
        if isinstance(name, ast.Name) and name.id == "FORMER_VALUES" and isinstance(values, ast.Dict)
        for key in values.keys
        if isinstance(key, ast.Constant)
    ]
    return frozenset(map(str, keys))


def _origin(name: str, module: str, tree: ast.Module) -> str:
    """The class of this name in a module, as documents name it."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            return f"{node.module}:{name}"
    return f"{module}:{name}"


@cache
def _tree(module: str) -> ast.Module | None:
    """module: below this package, ".methods.dscmr"."""
    path = _FOLDER.joinpath(*module.split(".")).with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else None
