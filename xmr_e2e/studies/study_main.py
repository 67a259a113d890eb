"""The command line of a study's file, which trains one of its runs: `main` is all that the file calls."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from xmr_e2e.console import Console, report_errors
from xmr_e2e.errors import XmrError
from xmr_e2e.runs.experiment import Experiment, Train
from xmr_e2e.studies.study import Study, study_of

RUN, RUNS = "--run", "--train.runs"


def main(study: Callable[..., Study]) -> None:
    """Train one run of a study: `python FILE --run RECIPE/VARIANT --train.seed 1`, or `accelerate launch` in the place
    of python, with any further option of the recipe behind it. Without --run, list the rows."""
    key, words = _parted(sys.argv[1:], RUN)
    runs = Path(_parted(words, RUNS)[0] or Train().runs)
    if key is None:
        sys.exit(report_errors(lambda: _list(study_of(study, runs))))
    found: list[Experiment] = []
    if status := report_errors(lambda: found.append(study_of(study, runs).row(key).experiment)):
        sys.exit(status)

    def experiment() -> Experiment:
        return found[0]

    experiment.__module__ = study.__module__  # whose docstring --help shows
    from xmr_e2e.training.launch import main as train

    train(experiment, words)


def _parted(words: Sequence[str], option: str) -> tuple[str | None, list[str]]:
    """The value of an option, None where it is not there, and all other words."""
    words = list(words)
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == option:
            if equals:
                return value, words[:place] + words[place + 1 :]
            return "".join(words[place + 1 : place + 2]), words[:place] + words[place + 2 :]
    return None, words


def _list(study: Study) -> int:
    output = Console(highlight=False, soft_wrap=True)
    output.print(study.title)
    for row in study.rows:
        changes = ", ".join(f"{name} = {value}" for name, value in row.variant.fields.items())
        output.print(f"  {RUN} {row.key}" + (f"    {changes}" if changes else ""))
    if len(sys.argv) > 1 and {"--help", "-h"} & set(sys.argv[1:]):
        return 0
    raise XmrError(f"which of its runs? name a row ({RUN} RECIPE/VARIANT), or run all of them: xmr study run FILE")
