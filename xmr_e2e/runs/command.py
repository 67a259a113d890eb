"""`xmr report`: the report of a run anew, or a page that compares runs."""

from __future__ import annotations

from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING

from xmr_e2e.errors import XmrError
from xmr_e2e.escape import shell

if TYPE_CHECKING:
    from xmr_e2e.evaluation.document import Evaluation
    from xmr_e2e.reports.comparison import ComparedRun
    from xmr_e2e.runs.run import Run

MOST = len(ascii_uppercase)
"""runs on a page, on which each is a letter"""


def report_command(
    runs: tuple[Path, ...],
    /,
    *,
    figures: str = "test",
    shards: Path | None = None,
    out: Path | None = None,
) -> None:
    """Of one run: measure it again and make its report anew. Of several: a page that compares them, from the figures
    that `xmr eval` has written.

    Args:
        runs: the run folder, or several
        figures: which of a run's measurements: the name of a file of RUN/evaluation, without .json
        shards: of one run: where the dataset's shards lie now, if not where they lay in training
        out: the page to write: of one run, by default its report; of several, comparison.html. With it, nothing is
            written into the folder of a run
    """
    from xmr_e2e.console import console
    from xmr_e2e.runs.drawing import as_error
    from xmr_e2e.runs.evaluate import evaluate_run
    from xmr_e2e.runs.run import Run

    if not 1 <= len(runs) <= MOST:
        raise XmrError(f"{len(runs)} runs: name one, for its report, or 2 to {MOST} to compare")
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
    if len(runs) == 1:
        about = _document(Run(runs[0]), figures)
        assert about.protocol, "a complete one"
        with_train = about.protocol.gallery == "test+train"
        evaluate_run(
            Run(runs[0]),
            about.split,
            shards=shards,
            protocol=about.protocol.name,
            gallery="test+train" if with_train else "test",
            report=out,
            must_draw=True,
        )
        return
    if shards:
        raise XmrError("--shards is for the report of one run; runs are compared by the figures that they have")
    out = out or Path("comparison.html")
    documents = [_document(Run(folder), figures) for folder in runs]
    try:
        from xmr_e2e.reports.comparison import write_comparison

        write_comparison(out, [_compared(Run(folder), document) for folder, document in zip(runs, documents)])
    except Exception as error:
        raise as_error(out, error) from error
    console.print(f"comparison: {out}", highlight=False, soft_wrap=True)


def _compared(run: Run, document: Evaluation) -> ComparedRun:
    from xmr_e2e.reports.comparison import ComparedRun

    configuration = run.document("config.json")
    return ComparedRun(
        name=str(configuration.get("name", run.folder.name)),
        folder=run.folder,
        document=document,
        records=run.records(),
        environment=run.document("environment.json"),
        configuration=configuration,
    )


def _document(run: Run, figures: str) -> Evaluation:
    """One of the run's measurements.

    Raises:
        XmrError: there is none of this name, or it lacks what this version writes.
    """
    from xmr_e2e.evaluation.document import read_evaluation

    path = run.folder / "evaluation" / f"{figures}.json"
    if not path.exists():
        from xmr_e2e.models.model_folder import refuse_folder_of_runs

        refuse_folder_of_runs(run.folder)
        others = sorted(each.stem for each in path.parent.glob("*.json"))
        first = f"measure the run first: {shell('xmr', 'eval', run.folder)}"
        there = f"there are {', '.join(others)} (--figures)" if others else first
        raise XmrError(f"{path} does not exist; {there}")
    document = read_evaluation(path)
    if not document.is_complete:
        again = shell("xmr", "eval", run.folder)
        raise XmrError(f"{path} was written by an earlier version; measure the run again: {again}")
    return document
