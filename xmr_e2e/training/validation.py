"""Validation of a stage, by the metrics of its embeddings or by its loss, and its fit in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from xmr_e2e import watchdog
from xmr_e2e.data.loader import Loader
from xmr_e2e.distributed import gather, share_buffers
from xmr_e2e.methods.base import Method
from xmr_e2e.methods.stages import Stage, StepContext
from xmr_e2e.models.embed import CachedSplits, collect, embed_split
from xmr_e2e.runs.evaluate import validation_scores
from xmr_e2e.training.selection import selection_criterion
from xmr_e2e.training.setup import TrainingData


def fit_closed_form(method: Method, stage: Stage, data: TrainingData) -> None:
    """Fit a stage that has a closed form to the training split. Called by every rank."""
    batches = data.batches(stage, "train")
    embeddings = collect(method, batches, lambda inputs: {m: method.embed(m, item) for m, item in inputs.items()})
    method.fit(stage, embeddings, batches.labels(batches.positions).to(data.accelerator.device))


def validate(method: Method, number: int, context: StepContext, data: TrainingData) -> dict[str, float]:
    """The validation metrics of a method in the stage of this number, or its loss where the stage is chosen by that;
    nothing without a validation split. Called by every rank."""
    stage, *following = method.training_stages[number:]
    if data.validated_on is None:
        return {}
    watchdog.report_activity("validating")
    share_buffers(method)  # what is validated is what is saved
    train = data.experiment.train
    by_loss = stage.select != "metric" or selection_criterion(stage, train) == "loss"
    if by_loss and not stage.closed_form:
        return validation_loss(method, data.loader(stage, data.validated_on), context, data.accelerator.device)
    rules, split = train.rules, data.validated_on
    known: CachedSplits = {split: data.cached_features(stage, split)}
    with _closed_form_ahead(method, stage, following, data):
        embedded = embed_split(method, data.experiment.data, data.model.tokenizer, split, known, rules.captions)
    return validation_scores(method, embedded, rules)


@contextmanager
def _closed_form_ahead(method: Method, stage: Stage, following: Sequence[Stage], data: TrainingData) -> Iterator[None]:
    """The closed form that follows a stage, fitted for as long as the stage is measured: without it, the metrics by
    which an epoch is kept would say nothing of what the training ends in."""
    if stage.closed_form or not following or not following[0].closed_form:
        yield
        return
    buffers = {name: buffer.clone() for name, buffer in method.named_buffers()}
    try:
        fit_closed_form(method, following[0], data)
        yield
    finally:
        for name, buffer in method.named_buffers():
            buffer.copy_(buffers[name])


@torch.no_grad()
def validation_loss(method: Method, loader: Loader, context: StepContext, device: torch.device) -> dict[str, float]:
    """The mean over the loader's samples of each loss term, and of their total under "loss". Called by every rank."""
    was_training = method.training
    method.eval()
    totals: dict[str, float] = {}
    for batch in loader.epoch():
        batch = batch.to(device)
        representations = method.represent_batch(batch.prepared(), context.stage)
        samples = len(gather(batch.positions))
        for name, term in method.global_objective(representations, batch.labels, context).items():
            totals[name] = totals.get(name, 0.0) + term.item() * samples / len(loader.batches)
    method.train(was_training)
    return {"loss": totals["total"]} | totals
