"""`xmr eval`, `xmr report`, `xmr export`, `xmr push` and `xmr config`."""

from __future__ import annotations

import sys
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Literal

import tyro

from xmr_e2e.console import Console
from xmr_e2e.errors import XmrError
from xmr_e2e.escape import shell
from xmr_e2e.extras import require_extra

if TYPE_CHECKING:
    from xmr_e2e.evaluation.result import EvaluationResult
    from xmr_e2e.reports.comparison import ComparedRun, SharedQueries
    from xmr_e2e.runs.run import Run

MOST = len(ascii_uppercase)
"""runs on a page, on which each is a letter"""
MOST_QUERIES = 50
"""of a direction, on a page that has each with the results of all runs"""


def report_command(
    runs: tuple[Path, ...],
    /,
    *,
    figures: str = "test",
    shards: Path | None = None,
    out: Path | None = None,
    queries: int = 0,
) -> None:
    """Of one run: measure it again and make its report again. Of several: a page that compares them, from the figures
    that `xmr eval` has written; with --queries, what each of them ranks first for the same queries, too.

    Args:
        runs: the run folder, or several
        figures: which of a run's measurements: the name of a file of RUN/evaluation, without .json
        shards: of one run, or with --queries: where the dataset's shards lie now, if not where they lay in training
        out: the page to write: of one run, by default its report; of several, comparison.html. With it, nothing is
            written into the folder of a run
        queries: of several runs: so many queries of each direction, for which each run's model embeds the split again
    """
    from xmr_e2e.console import console
    from xmr_e2e.runs.drawing import as_error
    from xmr_e2e.runs.evaluate import evaluate_run
    from xmr_e2e.runs.run import Run

    if not 1 <= len(runs) <= MOST:
        raise XmrError(f"{len(runs)} runs: name one, for its report, or 2 to {MOST} to compare")
    if not 0 <= queries <= MOST_QUERIES:
        raise XmrError(f"--queries must be between 0 and {MOST_QUERIES}, not {queries}")
    if queries and len(runs) == 1:
        raise XmrError("--queries is for several runs; the report of one has examples by itself")
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
    if len(runs) == 1:
        about = _result(Run(runs[0]), figures)
        used = about.require_protocol()
        with_train = used.gallery == "test+train"
        evaluate_run(
            Run(runs[0]),
            about.split,
            shards=shards,
            protocol=used.name,
            gallery="test+train" if with_train else "test",
            report=out,
            must_draw=True,
        )
        return
    if shards and not queries:
        raise XmrError("--shards is for the report of one run, and for --queries; runs are compared by their figures")
    out = out or Path("comparison.html")
    results = [_result(Run(folder), figures) for folder in runs]
    try:
        from xmr_e2e.reports.comparison import write_comparison

        sections: list[SharedQueries] = []
        if queries:
            from xmr_e2e.runs.shared_queries import shared_queries

            sections = shared_queries([*map(Run, runs)], results, queries, shards=shards)
        compared = [_compared(Run(folder), result) for folder, result in zip(runs, results)]
        write_comparison(out, compared, sections)
    except Exception as error:
        raise as_error(out, error) from error
    console.print(f"comparison: {out}", highlight=False, soft_wrap=True)


def _compared(run: Run, result: EvaluationResult) -> ComparedRun:
    from xmr_e2e.reports.comparison import ComparedRun

    configuration = run.document("config.json")
    return ComparedRun(
        name=str(configuration.get("name", run.folder.name)),
        folder=run.folder,
        result=result,
        records=run.records(),
        environment=run.document("environment.json"),
        configuration=configuration,
    )


def _result(run: Run, figures: str) -> EvaluationResult:
    """One of the run's measurements.

    Raises:
        XmrError: there is none of this name, or it lacks what this version writes.
    """
    from xmr_e2e.evaluation.result import read_result

    path = run.folder / "evaluation" / f"{figures}.json"
    if not path.exists():
        from xmr_e2e.models.model_folder import refuse_folder_of_runs

        refuse_folder_of_runs(run.folder)
        others = sorted(each.stem for each in path.parent.glob("*.json"))
        first = f"measure the run first: {shell('xmr', 'eval', run.folder)}"
        there = f"there are {', '.join(others)} (--figures)" if others else first
        raise XmrError(f"{path} does not exist; {there}")
    result = read_result(path)
    if not result.is_complete:
        again = shell("xmr", "eval", run.folder)
        raise XmrError(f"{path} was written by an earlier version; measure the run again: {again}")
    return result


def eval_command(
    run: Path,
    /,
    *,
    split: Literal["train", "val", "test"] = "test",
    protocol: str | None = None,
    gallery: Literal["test", "test+train"] = "test",
    shards: Path | None = None,
    out: Path | None = None,
) -> None:
    """Measure a run's model on a split: a table, evaluation/SPLIT.json and a report, random rankings beside each
    figure. By another protocol or with another gallery: evaluation/SPLIT-PROTOCOL[-with-train].json; on other shards
    than those of the training: evaluation/DATASET-SPLIT.json; each with a report of that name.

    Args:
        run: the run folder; an exported model; or one of the Hugging Face hub, USER/MODEL, with --shards and --out
        split: the split to measure
        protocol: clean, captions, coco5k, coco1k, or a released script's, such as released:dscmr (docs/evaluation.md
            has all); by default that of the training
        gallery: what is ranked: the test split, or it and the training split behind it
        shards: where the dataset's shards lie now, if not where they lay in training; or another dataset's
        out: the page to write the report to; with it, nothing is written into the folder of the run
    """
    from xmr_e2e.allocation import keep_freed_memory
    from xmr_e2e.models.hub import find_model, require_place
    from xmr_e2e.runs.evaluate import evaluate_run
    from xmr_e2e.runs.run import Run

    keep_freed_memory()
    require_place(run, out, "--out")
    measured, drawn = Run(find_model(run)), out is not None
    evaluate_run(measured, split, shards=shards, protocol=protocol, gallery=gallery, report=out, must_draw=drawn)


def push_command(
    run: Path,
    name: str,
    /,
    *,
    private: tyro.conf.FlagCreatePairsOff[bool] = False,
    license: str | None = None,
    revision: str | None = None,
    checkpoint: str | None = None,
) -> None:
    """Put a run's model on the Hugging Face hub, as `xmr export` writes it: weights, description, tokeniser, and a card
    with the figures, their protocol, example code and license. It is `xmr_e2e.load(NAME)` there, and NAME stands for a
    run in `xmr embed`, `search`, `index`, `serve` and `eval`.

    Args:
        run: the run folder; or an exported model, which is uploaded as it stands
        name: USER/MODEL, where USER is you or an organization of yours
        private: for nobody else to see; a repository that is there already and public is refused
        license: for the card, by the hub's identifier, such as apache-2.0, cc-by-nc-4.0 or other
        revision: a branch of the repository, which is made where there is none; main by default
        checkpoint: one of RUN/checkpoints by its name; by default the epoch that was selected on validation
    """
    from xmr_e2e.runs.push import push

    address = push(run, name, private=private, license=license, revision=revision, checkpoint=checkpoint)
    Console(highlight=False, soft_wrap=True).print(f'{address}\nxmr_e2e.load("{name}") gives this model')


def export_command(
    run: Path,
    out: Path,
    /,
    *,
    checkpoint: str | None = None,
    onnx: bool = False,
    transformers: bool = False,
    license: str | None = None,
) -> None:
    """Write a run's model to a folder of its own, in the layout of the Hugging Face hub: model.safetensors, the weights
    in one file whatever they were trained with (DeepSpeed's ZeRO, too), config.json, the tokeniser and a model card,
    README.md. `xmr_e2e.load(OUT)` embeds pictures and texts with it.

    Args:
        run: the run folder
        out: the folder to write to
        checkpoint: one of RUN/checkpoints by its name; by default the epoch that was selected on validation
        onnx: write each modality's network as OUT/onnx/MODALITY.onnx too, compared with torch
        transformers: write the towers that are transformers as OUT/transformers/MODALITY too, for that library
        license: for the card, by the hub's identifier, such as apache-2.0, cc-by-nc-4.0 or other
    """
    from xmr_e2e.models.model_card import Publication
    from xmr_e2e.runs.export import export
    from xmr_e2e.runs.run import Run

    if onnx:
        require_extra("onnx", "--onnx")
    console = Console(highlight=False, soft_wrap=True)
    model = export(Run(run), out, checkpoint, Publication(license))
    console.print(f"{len(model.method.state_dict())} weights written: {out}")
    if transformers:
        from xmr_e2e.models.transformers_files import save_transformers

        for folder in save_transformers(model, out):
            console.print(f"as transformers reads it: {folder}")
    if onnx:
        from xmr_e2e.models.onnx_files import OPSET, TOLERANCE, save_onnx
        from xmr_e2e.models.onnx_guide import add_guide

        with Console(stderr=True).status("writing ONNX files and comparing them with torch"):
            worst = save_onnx(model, out)
        add_guide(model, out, worst)
        for modality, difference in worst.items():
            console.print(
                f"onnx/{modality}.onnx: opset {OPSET}, differs from torch by {difference:.1e} at most "
                f"(of an embedding of length 1; allowed is {TOLERANCE:.0e})",
            )


def config_command(run: Path, /, *, out: Path | None = None) -> None:
    """Write a run's configuration as YAML, with which its recipe starts the same training again: RECIPE --config FILE.

    Args:
        run: the run folder
        out: the file to write; by default it is printed
    """
    from xmr_e2e.files import write_atomically
    from xmr_e2e.runs.config_file import to_yaml
    from xmr_e2e.runs.run import Run

    text = to_yaml(Run(run).experiment())
    if out is None:
        sys.stdout.write(text)
    else:
        write_atomically(out, text.encode())
