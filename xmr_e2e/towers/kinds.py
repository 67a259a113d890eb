"""The kinds of towers that a method's field may have, by the names that they have on the command line."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from xmr_e2e.data.inputs import InputKind
from xmr_e2e.towers.base import SequenceTower, TowerConfig

_MODULES = ("image", "text", "vector", "regions", "pretrained", "sound", "video", "points")
"""of this package, those that have towers"""
_INPUTS: dict[str, tuple[InputKind, ...]] = {
    "image": ("pixels", "regions", "vector"),
    "text": ("tokens", "vector"),
    "audio": ("waveform", "vector"),
    "video": ("frames", "vector"),
    "shape3d": ("points", "vector"),
}
"""modality -> what towers can read of it"""


def tower_kinds(hint: Any, modality: str) -> dict[str, type[TowerConfig]]:
    """Kind -> tower, of all that a field of this type may hold for a modality: those of this package, and those of
    modules that are imported already. A field for `TowerConfig` takes one row of a sample, and no `SequenceTower`."""
    for name in _MODULES:
        importlib.import_module(f"{__package__}.{name}")
    inputs = _INPUTS[modality]
    wanted = [option for option in (get_args(hint) or (hint,)) if inspect.isclass(option)]
    found: dict[str, type[TowerConfig]] = {}
    for cls in _concrete():
        if cls.input_kind in inputs and any(_fits(cls, option) for option in wanted):
            found.setdefault(cls.kind, cls)
    return found


def describe_kind(cls: type[TowerConfig]) -> str:
    """The first clause of a tower's docstring, such as "word vectors and a bidirectional GRU"."""
    text = " ".join((inspect.getdoc(cls) or cls.__name__).split())
    clause = re.split(r"[.;:](?:\s|$)| \(", text, maxsplit=1)[0]
    return clause if clause[1:2].isupper() else clause[:1].lower() + clause[1:]


def _concrete() -> Iterator[type[TowerConfig]]:
    """Towers that can be built, those of this package first."""
    classes = dict.fromkeys(_below(TowerConfig.__subclasses__()))
    package = __package__ or ""
    for one in sorted(classes, key=lambda each: not each.__module__.startswith(package)):
        if not inspect.isabstract(one):
            yield one


def _below(classes: Iterable[type[TowerConfig]]) -> Iterator[type[TowerConfig]]:
    """The classes and all that are made from them."""
    for cls in classes:
        yield cls
        yield from _below(cls.__subclasses__())


def _fits(cls: type[TowerConfig], hint: type) -> bool:
    return issubclass(cls, hint) and (issubclass(hint, SequenceTower) or not issubclass(cls, SequenceTower))
