"""The first page of a recipe's help: the options that are changed most. `--help-all` has every option."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any

import tyro
from rich.padding import Padding

from xmr_e2e.console import Console
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.training.tower_options import list_kinds, names_of_kinds

SHORT, LONG = ("-h", "--help"), "--help-all"
CONFIG = (
    "options from a YAML file, as `xmr config RUN` writes it, in place of the recipe's; those of the command line go "
    "before them"
)
FIRST = (
    "data.shards",
    "method.image.kind",
    "method.image.name",
    "method.image.weights",
    "method.text.kind",
    "train.epochs",
    "train.batch_size",
    "optimizer.lr",
    "train.seed",
    "train.name",
    "train.resume",
)
"""What a person changes first, in the order of a training; with --config, twelve."""


def is_asked(words: Sequence[str]) -> bool:
    """True for a command line that asks for the first page."""
    return bool(set(SHORT) & set(words)) and LONG not in words


def show_first_page(description: str, experiment: Experiment) -> None:
    """Print the description and the first options with their values."""
    output = Console(highlight=False)
    output.print(description.strip(), soft_wrap=True)  # it has commands, which are copied
    output.print("\nThe options that are changed most, as they stand:\n")
    for option, value, meaning in [("config", "FILE", CONFIG), *_rows(experiment)]:
        output.print(f"--{option.replace('_', '-')} {value}".rstrip(), style="bold", overflow="fold")
        output.print(Padding(meaning, (0, 0, 0, 6), expand=False))
    output.print(f"\nAll options: {LONG}, also behind a tower's kind, which has options of its own.")


def long_description(description: str, experiment: Experiment) -> str:
    """The head of the page with every option."""
    return f"{description}\n\n--config FILE: {CONFIG}\n\n{list_kinds(experiment.method)}"


def field_help(kind: type, name: str) -> str:
    """The string below a dataclass's field, on one line; empty where there is none."""
    for cls in kind.__mro__:
        if is_dataclass(cls) and name in vars(cls).get("__annotations__", {}):
            return _strings(cls).get(name, "")
    return ""


def first_clause(text: str) -> str:
    """A text as far as its first semicolon that is not within parentheses."""
    return re.split(r"; (?![^(]*\))", text, maxsplit=1)[0]


def _rows(experiment: Experiment) -> Iterator[tuple[str, str, str]]:
    """The first options that this experiment has, with value and meaning."""
    for option in FIRST:
        *path, name = option.split(".")
        holder = _held(experiment, path)
        if name == "kind" and holder is not None:
            yield option, holder.kind, f"of {', '.join(names_of_kinds(experiment.method, path[-1]))}"
        elif name in {field.name for field in (fields(holder) if is_dataclass(holder) else ())}:
            yield option, _shown(getattr(holder, name)), first_clause(field_help(type(holder), name))


def _held(value: Any, path: Sequence[str]) -> Any:
    """The part of a configuration at a path; None where it has none."""
    for name in path:
        value = getattr(value, name, None)
    return value


def _shown(value: Any) -> str:
    return "" if value is None or value is tyro.MISSING else str(value)


def _strings(cls: type) -> dict[str, str]:
    """Field -> the string below it, of a class's own source."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    body = getattr(tree, "body", [])
    return {
        field.target.id: " ".join(below.value.value.split())
        for field, below in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }
