"""Training: what a run does from its first step to its last."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from xmr_e2e.data.augment import prepare_training
from xmr_e2e.data.batch import Batch
from xmr_e2e.data.loader import Loader, SplitBatches
from xmr_e2e.engine.accumulate import backward
from xmr_e2e.engine.checkpoint import load_newest_checkpoint, save_checkpoint
from xmr_e2e.engine.display import Throughput, training_progress
from xmr_e2e.engine.embed import embed_split
from xmr_e2e.engine.evaluate import SELECTABLE, validation_scores
from xmr_e2e.engine.experiment import Experiment
from xmr_e2e.engine.metrics_log import MetricsLog
from xmr_e2e.engine.run import Run
from xmr_e2e.engine.saved_model import SavedModel
from xmr_e2e.engine.signals import Signals, Wish
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Dataset, Method
from xmr_e2e.objectives.global_batch import gather
from xmr_e2e.shards.manifest import Manifest, load_manifest

logger = logging.getLogger(__name__)


class Trainer:
    """One training, on this rank."""

    def __init__(self, experiment: Experiment, run: Run, accelerator: Accelerator) -> None:
        self.experiment, self.run, self.accelerator = experiment, run, accelerator
        train, data = experiment.train, experiment.data
        manifest = load_manifest(data.shards)
        _check_splits(manifest, data.shards, train.select, accelerator.num_processes)
        with accelerator.main_process_first():
            if accelerator.is_main_process:
                run.fit_words(data)
            vocabulary, words = run.words()
            torch.manual_seed(train.seed)
            method = experiment.method.build(
                Dataset(len(manifest.classes), manifest.multi_label, data.image_size, torch.from_numpy(words))
            )
        self.saved = SavedModel(experiment.method, data, manifest.classes, manifest.multi_label, vocabulary, method)
        self.loader = Loader(
            SplitBatches(data, "train", vocabulary, seed=train.seed),
            train.batch_size,
            accelerator.process_index,
            accelerator.num_processes,
            pin_memory=accelerator.device.type == "cuda",
        )
        self.model, self.optimiser = accelerator.prepare(method, experiment.optimiser.build(method))
        self.position = load_newest_checkpoint(accelerator, run.checkpoints)
        self.signals = Signals(accelerator.device, train.checkpoint_minutes, train.checkpoint_steps)
        self.log = MetricsLog(run, first_step=self._global_step, enabled=accelerator.is_main_process)

    @property
    def method(self) -> Method:
        method: Method = self.accelerator.unwrap_model(self.model)
        return method

    @property
    def _global_step(self) -> int:
        return self.position.epoch * self.loader.steps + self.position.step

    def fit(self) -> bool:
        """Train to the end; False when it was asked to stop before (a checkpoint is saved then)."""
        logger.info(
            "%d samples, %d steps per epoch, %.1f million parameters, %d process(es) on %s",
            len(self.loader.batches.reader),
            self.loader.steps,
            sum(parameter.numel() for parameter in self.method.parameters()) / 1e6,
            self.accelerator.num_processes,
            self.accelerator.device,
        )
        try:
            for epoch in range(self.position.epoch, self.experiment.train.epochs):
                if not self._train_epoch(epoch):
                    return False
                self._select(epoch)
                self.position = replace(self.position, epoch=epoch + 1, step=0)
            return True
        finally:
            self.log.close()
            self.signals.close()

    def _train_epoch(self, epoch: int) -> bool:
        """The epoch's remaining steps; False when asked to stop among them."""
        self.method.train()
        throughput = Throughput()
        with training_progress(is_main=self.accelerator.is_main_process) as progress:
            title = f"epoch {epoch + 1}/{self.experiment.train.epochs}"
            bar = progress.add_task(title, total=self.loader.steps, completed=self.position.step, status="")
            for batch in self.loader.epoch(epoch, first_step=self.position.step):
                throughput.data_arrived()
                terms, samples = self._step(batch.to(self.accelerator.device))
                throughput.step_done(len(samples))
                self.position = replace(self.position, step=self.position.step + 1)
                self._record(terms, samples, throughput)
                progress.update(bar, advance=1, status=str(throughput))
                if not self._continue_after(self.signals.agreed()):
                    return False
        return True

    def _step(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """One optimiser step; the loss terms and the positions of the global batch's samples."""
        train, data = self.experiment.train, self.experiment.data
        progress = self._global_step / (self.loader.steps * train.epochs)
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * self.experiment.schedule.factor(progress)
        image = prepare_training(
            batch.inputs["image"], data.image_size, data.augment,
            seed=train.seed, epoch=batch.epoch, positions=batch.positions,
        )  # fmt: skip
        batch = replace(batch, inputs={**batch.inputs, "image": image})
        seed = (train.seed, self._global_step, self.accelerator.process_index)
        terms = backward(self.accelerator, self.model, batch, pieces=train.accumulate, progress=progress, seed=seed)
        if train.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), train.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        return terms, gather(batch.positions)

    def _record(self, terms: Mapping[str, Tensor], samples: Tensor, throughput: Throughput) -> None:
        if not self.accelerator.is_main_process:
            return
        keys = " ".join(self.loader.batches.reader.key(position) for position in samples.tolist())
        record = {
            "step": self._global_step,
            "epoch": self.position.epoch + 1,
            "lr": [group["lr"] for group in self.optimiser.param_groups],
            "samples": hashlib.sha256(keys.encode()).hexdigest()[:16],
            "images_per_second": round(throughput.images_per_second, 2),
            "data_wait": round(throughput.data_wait, 4),
        }
        self.log.step(record, terms)

    def _continue_after(self, wish: Wish) -> bool:
        if wish > Wish.NOTHING:
            self.log.flush()
            save_checkpoint(self.accelerator, self.run.checkpoints, self.position)
            self.signals.saved()
        return wish is not Wish.STOP

    def _select(self, epoch: int) -> None:
        """Validate, and keep this epoch's model if it is the best so far (or the last is wanted)."""
        select = self.experiment.train.select
        scores = self._validate()
        value = None if select == "last" else scores[f"average {select}"]
        is_best = value is None or self.position.best is None or value > self.position.best
        record = {"step": self._global_step, "epoch": epoch + 1, "val": scores}
        if is_best:
            record["selected"] = select
            self.position = replace(self.position, best=value)
            state = self.accelerator.get_state_dict(self.model)
            if self.accelerator.is_main_process:
                self.saved.save(self.run.folder, state, _selection(epoch, select))
            self.accelerator.wait_for_everyone()  # other ranks may read it next
        self.log.validation(record)
        shown = f"validation {select} {value:.4f}" if value is not None else "no selection"
        logger.info("epoch %d: %s%s", epoch + 1, shown, " (kept)" if is_best else "")

    def _validate(self) -> dict[str, float]:
        if "val" not in self.loader.batches.reader.manifest.splits:
            return {}
        embedded = embed_split(self.method, self.experiment.data, self.saved.vocabulary, "val")
        return validation_scores(self.method, embedded)


def _check_splits(manifest: Manifest, folder: Path, select: str, processes: int) -> None:
    """Raise XmrError, before hours are spent, for data on which this training or its evaluation cannot end well."""
    if "train" not in manifest.splits:
        raise XmrError(f"{folder} has no training split; it has {', '.join(manifest.splits)}")
    if select not in (*SELECTABLE, "last"):
        raise XmrError(f"--train.select {select!r} is none of {', '.join(SELECTABLE)}, last")
    if select != "last" and "val" not in manifest.splits:
        raise XmrError(
            f"{folder} has no validation split to select the epoch on; build the shards with one, "
            "or keep the last epoch with --train.select last"
        )
    for name, split in manifest.splits.items():
        if not sum(split.labels.values()):
            raise XmrError(
                f"{folder}: the samples of the split {name!r} have no labels, by which methods train and mAP counts; "
                "build the shards with a label table"
            )
        if split.samples < processes:
            raise XmrError(f"{folder}: the split {name!r} has {split.samples} samples for {processes} processes")


def _selection(epoch: int, select: str) -> str:
    """How an epoch was chosen, for whoever reads its figures."""
    if select == "last":
        return f"epoch {epoch + 1}, the last one"
    return f"epoch {epoch + 1}, the best by {select} on the validation split (average of both directions)"
