"""The configuration of a run beside that of its continuation."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

from xmr_e2e.configuration import current_name, field_types, flatten, from_document, to_document
from xmr_e2e.errors import XmrError

if TYPE_CHECKING:
    from xmr_e2e.runs.experiment import Experiment

# What may differ between a run and its continuation: none of it changes what is computed, but for ZeRO's rounding.
RESUME_IGNORED_FIELDS = (
    "train.resume",
    "train.runs",
    "train.name",
    "train.features",
    "train.report",
    "train.log_with",
    "train.zero",
    "train.max_skipped_steps",
    "train.timeout_minutes",
    "train.checkpoint_minutes",
    "train.checkpoint_steps",
    "train.checkpoints_kept",
    "data.workers",
    "data.shards",
)


def differences(began_with: Mapping[str, Any], experiment: Experiment) -> list[str]:
    """The options in which a continuation differs from its run, with both values; without those that may.

    Args:
        began_with: the run's configuration as a document, of this version or an earlier one.
    """
    old = dict(flatten(_with_later_options(began_with)))
    new = dict(flatten(to_document(experiment)))
    names = sorted((old.keys() | new.keys()) - set(RESUME_IGNORED_FIELDS))
    different = [name for name in names if old.get(name) != new.get(name)]
    return [f"{name}: {old.get(name)!r} in the run, {new.get(name)!r} now" for name in different]


def _with_later_options(document: Mapping[str, Any]) -> dict[str, Any]:
    """A run's configuration in which options that came after the run have their defaults. A part that cannot be read,
    such as a method that is not of this package, stays as it is."""
    from xmr_e2e.runs.experiment import Experiment  # tables need this module's list alone, and do without torch

    with suppress(XmrError):
        whole: dict[str, Any] = to_document(from_document(Experiment, document, "config.json"))
        return whole
    known = {current_name(Experiment, name): value for name, value in document.items()}
    for name, kind in field_types(Experiment).items():
        if isinstance(kind, type) and is_dataclass(kind):
            with suppress(XmrError):
                known[name] = to_document(from_document(kind, known.get(name), name))
    return known
