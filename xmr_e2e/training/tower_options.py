"""`--method.MODALITY.kind NAME`: the kind of a tower, chosen before the options that it has are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields, replace
from difflib import get_close_matches
from types import NoneType
from typing import Any, get_args, get_type_hints

import tyro

from xmr_e2e.data.tokenizers import Tokenization
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import MethodConfig
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.shards.schema import MODALITIES
from xmr_e2e.towers.base import TowerConfig
from xmr_e2e.towers.kinds import describe_kind, tower_kinds

NO_TOWER = "none"
"""the kind by which a modality is left out"""


def choose_towers(default: Experiment, words: Sequence[str]) -> tuple[Experiment, list[str]]:
    """The experiment with towers of the kinds that a command line names, and its words without these.

    A tower of another kind than the experiment's begins with its class's own defaults.

    Raises:
        XmrError: a kind that there is not for the modality, or an option is missing that it needs.
    """
    method, left = default.method, list(words)
    for modality in MODALITIES:
        option = f"--method.{modality}.kind"
        named, left = take(left, option, "a kind; --help lists them")
        if named is not None:
            chosen: dict[str, Any] = {modality: _tower(method, modality, named, left)}
            method = replace(method, **chosen)
    return replace(default, method=method), left


def follow_text_tower(experiment: Experiment, words: Sequence[str]) -> Experiment:
    """The experiment whose texts are cut by the text tower's own tokeniser, where the tower is a pretrained one that
    the command line names, and it says nothing of tokens itself. The configuration has it as if it had been said."""
    tower: Any = experiment.method.text
    names_tower = any(is_given(words, f"--method.text.{option}") for option in ("kind", "name", "revision"))
    if tower is None or not (tower.is_pretrained and names_tower) or is_given(words, "--data.tokens"):
        return experiment
    tokens = Tokenization("transformers", name=tower.name, revision=tower.revision)
    return replace(experiment, data=replace(experiment.data, tokens=tokens))


def list_kinds(method: MethodConfig) -> str:
    """The kinds that each of the method's towers may have, in words."""
    lines = ["Kinds of towers (--method.MODALITY.kind NAME; --help-all behind it shows the kind's options):"]
    for modality, hint in _fields(method):
        own = getattr(method, modality)
        if _is_optional(hint):
            lines.append(f"  {modality} {NO_TOWER}: the method does without this modality")
        lines += [
            f"  {modality} {kind}{' (default)' if type(own) is cls else ''}: {describe_kind(cls)}"
            for kind, cls in tower_kinds(hint, modality).items()
        ]
    return "\n".join(lines)


def names_of_kinds(method: MethodConfig, modality: str) -> list[str]:
    """The kinds that a modality's tower may have."""
    hint = dict(_fields(method))[modality]
    return [*([NO_TOWER] if _is_optional(hint) else []), *tower_kinds(hint, modality)]


def is_given(words: Sequence[str], option: str) -> bool:
    """True where a command line has the option, or one below it, with a blank or "=" before its value."""
    names = (word.partition("=")[0].replace("_", "-") for word in words)
    return any(name == option or name.startswith(f"{option}.") for name in names)


def value_of(words: Sequence[str], option: str) -> str | None:
    """The last value that a command line gives to an option of one value; None where it gives none."""
    found = None
    for word, behind in zip(words, [*words[1:], None]):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == option:
            found = value if equals else behind
    return found


def take(words: Sequence[str], option: str, needed: str) -> tuple[str | None, list[str]]:
    """The last value of an option, and the words without it.

    Raises:
        XmrError: it has no value; says what is needed.
    """
    found = value_of(words, option)
    if (found is None and is_given(words, option)) or (found or "").startswith("--"):
        raise XmrError(f"{option} needs {needed}")
    before = ["", *words]
    return found, [word for word, last in zip(words, before) if option not in (word.partition("=")[0], last)]


def _fields(method: MethodConfig) -> Iterator[tuple[str, Any]]:
    """Modality and declared type of each field of a method that holds a tower."""
    hints = get_type_hints(type(method))
    return ((modality, hints[modality]) for modality in MODALITIES if modality in hints)


def _tower(method: MethodConfig, modality: str, kind: str, words: Sequence[str]) -> TowerConfig | None:
    hints = dict(_fields(method))
    if modality not in hints:
        raise XmrError(
            f"--method.{modality}.kind: {type(method).__name__} has no {modality}; it has {', '.join(hints)}"
        )
    known = tower_kinds(hints[modality], modality)
    if kind == NO_TOWER and _is_optional(hints[modality]):
        return None
    if kind not in known:
        close = get_close_matches(kind, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        listed = "; ".join(f"{name}: {describe_kind(cls)}" for name, cls in known.items())
        raise XmrError(f"--method.{modality}.kind {kind}: no such kind; {hint}There are {listed}")
    own = getattr(method, modality)
    return own if type(own) is known[kind] else _begin(known[kind], modality, words)


def _is_optional(hint: Any) -> bool:
    return NoneType in get_args(hint)


def _begin(cls: type[TowerConfig], modality: str, words: Sequence[str]) -> TowerConfig:
    """A tower of the class's defaults; what has none must be among the words, from which it is read later."""
    required = [item.name for item in fields(cls) if item.default is MISSING and item.default_factory is MISSING]
    for name in required:
        option = f"--method.{modality}.{name.replace('_', '-')}"
        if not is_given(words, option) and not any(word.startswith(("-h", "--help")) for word in words):
            raise XmrError(
                f"--method.{modality}.kind {cls.kind} needs {option} too; --help-all behind them says what it is"
            )
    return cls(**dict.fromkeys(required, tyro.MISSING))
