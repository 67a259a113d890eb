"""A run's model in a folder of its own, in the layout of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xmr_e2e.evaluation.result import EvaluationResult, read_result
from xmr_e2e.files import read_json
from xmr_e2e.models.merged import merged
from xmr_e2e.models.model_card import Publication
from xmr_e2e.models.model_folder import require_free
from xmr_e2e.models.saved_model import SavedModel, load_folder
from xmr_e2e.runs.checkpoint import open_checkpoint
from xmr_e2e.runs.run import Run
from xmr_e2e.shards import manifest


def export(run: Run, out: Path, checkpoint: str | None = None, publication: Publication = Publication()) -> SavedModel:
    """Write the model with `SavedModel.save_pretrained`, and return it.

    Whatever the run was trained with, one process, DistributedDataParallel or any stage of ZeRO, the weights have the
    same names and shapes, in one file.

    Args:
        checkpoint: the name of one of the run's checkpoints; by default the epoch that was selected on validation.
        publication: the license and the name on the hub, for the card.

    Raises:
        XmrError: no model yet, no such checkpoint or a damaged one, or `out` holds a model already.
    """
    require_free(out)
    model = load_folder(run.folder)  # which also says whether it is whole
    if checkpoint is None:
        model = merged(model)
        evaluations, notes = list(_evaluations(run)), _notes(model.data.shards)
        model.save_pretrained(out, evaluations=evaluations, notes=notes, publication=publication)
        return model
    open_checkpoint(run.folder / "checkpoints" / checkpoint).load_weights(model.method)
    model = merged(model)
    model.selection, model.selected_on = f"checkpoint {checkpoint}, not selected", "nothing"
    model.save_pretrained(out, notes=_notes(model.data.shards), publication=publication)
    return model


def _evaluations(run: Run) -> Iterator[EvaluationResult]:
    """The results of the run, each file's that holds one."""
    for path in sorted((run.folder / "evaluation").glob("*.json")):
        if {"model", "random"} <= read_json(path).keys():
            yield read_result(path)


def _notes(shards: Path) -> tuple[str, ...]:
    """Notes of the builder of the data, if the shards are at hand."""
    return manifest.load_manifest(shards).notes if (shards / manifest.NAME).exists() else ()
