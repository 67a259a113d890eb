"""Recipes as the tests take them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

from accelerate.state import AcceleratorState

from tests import ROOT

DOCTOR = "--method.image.weights none --data.image-size 64 --data.load-size 64 --data.words.dim 8 --data.workers 0"


@contextmanager
def fresh_accelerator() -> Iterator[None]:
    """Accelerate's state outlives a training, and refuses the precision of the next."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("[!_]*.py"))


def recipe(name: str) -> Any:
    return importlib.import_module(f"recipes.{name}")


def options_of(config: Any, prefix: str) -> Iterator[str]:
    for field in fields(config):
        name = f"{prefix}.{field.name.replace('_', '-')}"
        value = getattr(config, field.name)
        yield name
        if isinstance(value, bool):
            yield f"{prefix}.no-{field.name.replace('_', '-')}"
        if is_dataclass(value):
            yield from options_of(value, name)
