"""`xmr --import`: modules of the user's own, with methods or towers, that a command needs before it loads a model."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from xmr_e2e.errors import XmrError

OPTION = "--import"


def take_imports(words: Sequence[str]) -> list[str]:
    """Import what a command line names before the command; returns the words behind it.

    Raises:
        XmrError: a module that cannot be imported; or the option stands elsewhere.
    """
    left = list(words)
    while left and left[0].partition("=")[0] == OPTION:
        first, equals, name = left.pop(0).partition("=")
        if not equals:
            if not left:
                raise XmrError(f"{first}: name a module, or the file of one")
            name = left.pop(0)
        import_named(name)
    if any(word.partition("=")[0] == OPTION for word in left):
        raise XmrError(f"{OPTION} stands before the command: xmr {OPTION} my_method.py {left[0]} …")
    return left


def import_named(name: str) -> ModuleType:
    """Run a module of the user's own: one that Python finds ("my_package.my_method"), or a file ("my_method.py"),
    with the name that it has beside the files around it: that of its packages, each a folder with an __init__.py.

    Raises:
        XmrError: there is none, it fails, or another module has its name.
    """
    path = Path(name)
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise XmrError(f"{OPTION} {name}: there is no such file")
    module = _module_of(path.resolve()) if is_file else name
    try:
        found = importlib.import_module(module)
    except Exception as error:
        raise XmrError(f"{OPTION} {name}: {type(error).__name__}: {error}") from error
    if is_file and Path(found.__file__ or "").resolve() != path.resolve():
        raise XmrError(f"{OPTION} {name}: another module is called {module}, too: {found.__file__}; rename yours")
    return found


def _module_of(path: Path) -> str:
    """The name of a file's module; the folder in which it, or its outermost package, lies is searched from now on."""
    parts, folder = [path.stem], path.parent
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    # Last: files of that folder take no other module's place.
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return ".".join(parts).removesuffix(".__init__")
