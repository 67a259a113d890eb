"""Bounds of number options, declared beside the field: `lr: NotNegative = 1e-4`.

`--help-all` shows them, and `check_bounds` refuses a configuration with a number outside of them.
"""

from __future__ import annotations

import math
import operator
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from tyro.constructors import PrimitiveConstructorSpec

from xmr_e2e.errors import XmrError

LARGE = 2**20
"""of widths of layers, and of what `--help-all` shows"""


class _Limit(NamedTuple):
    sign: str
    words: str
    value: float | None
    holds: Callable[[Any, Any], bool]


class Bounds(PrimitiveConstructorSpec[Any]):
    """The numbers that an option may be; NaN and infinities are never among them.

    A constructor of tyro's, which reads them as it would by itself, for the sake of what `--help-all` says of them.

    Args:
        least, most: bounds that are possible values themselves.
        above, below: bounds that are none.
    """

    limits: tuple[_Limit, ...]

    def __init__(
        self,
        kind: type[int] | type[float],
        *,
        least: float | None = None,
        above: float | None = None,
        most: float | None = None,
        below: float | None = None,
    ) -> None:
        limits = (
            _Limit(">=", "at least", least, operator.ge),
            _Limit(">", "above", above, operator.gt),
            _Limit("<=", "at most", most, operator.le),
            _Limit("<", "below", below, operator.lt),
        )
        object.__setattr__(self, "limits", tuple(limit for limit in limits if limit.value is not None))
        # Not those that only keep numbers within what libraries' integers hold.
        shown = [f"{limit.sign}{limit.value}" for limit in self.limits if (limit.value or 0) < LARGE]
        super().__init__(
            nargs=1,
            metavar=kind.__name__.upper() + ",".join(shown),
            instance_from_str=lambda words: kind(words[0]),
            is_instance=lambda value: isinstance(value, kind),
            str_from_instance=lambda value: [str(value)],
        )

    def complaint(self, value: float) -> str:
        """The requirement that the number breaks, in words; empty where it is within the bounds."""
        if not (isinstance(value, int) or math.isfinite(value)):
            return "a finite number"
        broken = (limit for limit in self.limits if not limit.holds(value, limit.value))
        return next((f"{limit.words} {limit.value:,}" for limit in broken), "")


MOST = 2**31 - 1
"""of counts: beyond it, libraries' own integers overflow"""
MOST_SEED = 2**32 - 1
"""the largest seed of numpy's oldest generator, which gensim has"""

Count = Annotated[int, Bounds(int, least=1, most=MOST)]
Width = Annotated[int, Bounds(int, least=1, most=LARGE)]
"""of a layer"""
Layers = Annotated[int, Bounds(int, least=1, most=1000)]
Seed = Annotated[int, Bounds(int, least=0, most=MOST_SEED)]
Positive = Annotated[float, Bounds(float, above=0)]
NotNegative = Annotated[float, Bounds(float, least=0)]
Fraction = Annotated[float, Bounds(float, least=0, most=1)]
FractionBelow1 = Annotated[float, Bounds(float, least=0, below=1)]


def check_bounds(config: Any, option: str) -> None:
    """Raise XmrError for the first number of a configuration, and of what it consists of, that is out of bounds.

    Args:
        option: the beginning of its options on the command line: "--optimizer"; "--" of a whole experiment.
    """
    for name, value, bounds in numbers(config, option):
        if bounds and (complaint := bounds.complaint(value)):
            raise XmrError(f"{name} must be {complaint}, not {value:{'d' if isinstance(value, int) else 'g'}}")


@cache
def _field_types(kind: type) -> Mapping[str, Any]:
    """The declared types of a dataclass's fields, with what they are annotated with. Reading them takes long: each is
    an expression to be compiled."""
    return get_type_hints(kind, include_extras=True)


def numbers(config: Any, option: str) -> Iterator[tuple[str, int | float, Bounds | None]]:
    """All numbers of a configuration: option, value, and the bounds that its type declares."""
    kind: Any = type(config)
    hints = _field_types(kind)
    for field in fields(config):
        name = field.name.replace("_", "-")
        path = f"{option}{name}" if option.endswith("--") else f"{option}.{name}"
        yield from _numbers(getattr(config, field.name), hints[field.name], path)


def _numbers(value: Any, hint: Any, option: str) -> Iterator[tuple[str, int | float, Bounds | None]]:
    if is_dataclass(value):
        yield from numbers(value, option)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(item, get_args(hint)[1], f"{option} {key}")
    elif isinstance(value, tuple):
        if not value:
            raise XmrError(f"{option} needs at least one value")
        inner = get_args(hint)
        for item, item_hint in zip(value, [inner[0]] * len(value) if inner[-1] is ... else inner):
            yield from _numbers(item, item_hint, option)
    elif isinstance(value, int | float) and not isinstance(value, bool) and get_origin(hint) is not Literal:
        yield option, value, _bounds(hint)


def _bounds(hint: Any) -> Bounds | None:
    if get_origin(hint) in (Union, types.UnionType):
        return next((bounds for option in get_args(hint) if (bounds := _bounds(option))), None)
    return next((item for item in getattr(hint, "__metadata__", ()) if isinstance(item, Bounds)), None)
