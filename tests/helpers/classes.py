"""Classes of the package, among all that a process of tests has seen."""

from __future__ import annotations

import sys
from typing import Any


def is_of_the_package(cls: type[Any]) -> bool:
    """True for a class that a module of the package has now.

    Other test files, run before by the same process, have towers and methods of their own, some of them in modules that
    stood in the package for the length of a test."""
    module = sys.modules.get(cls.__module__)
    return cls.__module__.startswith("xmr_e2e.") and getattr(module, cls.__name__, None) is cls
