"""Training: what a run does from its first step to its last."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from accelerate import Accelerator
from torch import Tensor

from xmr_e2e import watchdog
from xmr_e2e.data.batch import Batch
from xmr_e2e.data.loader import Loader
from xmr_e2e.distributed import gather, of_first_rank
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.stages import Stage, StepContext
from xmr_e2e.models.embed import embed_few
from xmr_e2e.models.weights import read_weights
from xmr_e2e.runs.checkpoint import Checkpoint, TrainingProgress
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.runs.metrics_log import MetricsLog
from xmr_e2e.runs.run import Run
from xmr_e2e.shards.manifest import load_manifest
from xmr_e2e.training.acceleration import set_up_device, set_up_towers
from xmr_e2e.training.checkpoints import Checkpoints
from xmr_e2e.training.display import Pace, Throughput, training_progress
from xmr_e2e.training.outcome import PendingStep
from xmr_e2e.training.selection import (
    check_splits,
    describe_selection,
    describe_selection_by_batch,
    selection_criterion,
    validation_split,
    with_defaults,
)
from xmr_e2e.training.setup import TrainingData, build_model
from xmr_e2e.training.signals import Action, Interrupted, Signals, Stopped
from xmr_e2e.training.step import Stepper
from xmr_e2e.training.tower_weights import load_given_prior, load_given_weights
from xmr_e2e.training.validation import fit_closed_form, validate

logger = logging.getLogger(__name__)

NAMED = 8
"""of a step's samples, in a message"""
LOOKED_AT = 10
"""Steps from one training loss to the next that are looked at where the lowest decides, as Semantic Sharing's script
does."""


class Trainer:
    """One training, on this rank."""

    def __init__(self, experiment: Experiment, run: Run, accelerator: Accelerator) -> None:
        manifest = load_manifest(experiment.data.shards)
        experiment = with_defaults(experiment, manifest)
        self.experiment, self.run, self.accelerator = experiment, run, accelerator
        check_splits(experiment, manifest)
        self.saved = build_model(experiment, run, accelerator, manifest)
        self.method = self.saved.method
        set_up_device(experiment.train)
        set_up_towers(self.method, experiment.train)
        self.trainable = {name for name, parameter in self.method.named_parameters() if parameter.requires_grad}
        self.data = TrainingData(experiment, accelerator, self.saved, manifest)
        self.loaders = [self.data.loader(stage, "train") for stage in self.method.training_stages]
        train = experiment.train
        self.checkpoints = Checkpoints(accelerator, self.method, run.folder, train.checkpoints_kept, train.zero)
        self.begun_from = self.checkpoints.find()
        if self.begun_from is None:
            load_given_weights(self.method, experiment.method)
            load_given_prior(self.saved)
        self.has_begun = self.begun_from is not None
        """true once all is checked, so that something would be lost with the run folder"""
        self.progress = self._begin_progress()
        self.signals = Signals(train.checkpoint_minutes, train.checkpoint_steps)
        self.pending: PendingStep | None = None
        """the step whose outcome has not been read yet"""
        self.log = MetricsLog(
            run,
            first_step=self._global_step,
            validated=self.progress.step == 0,
            enabled=accelerator.is_main_process,
        )

    def _begin_progress(self) -> TrainingProgress:
        """The progress of the checkpoint from which the training goes on; the very beginning without one."""
        if self.begun_from is None:
            return TrainingProgress()
        found, stages = self.begun_from.progress, len(self.method.training_stages)
        if found.stage > stages:
            raise XmrError(
                f"{self.run.folder}: its checkpoint stands in stage {found.stage + 1} of {stages}: it is another "
                "training's"
            )
        return found

    @property
    def stage(self) -> Stage:
        return self.method.training_stages[self.progress.stage]

    @property
    def loader(self) -> Loader:
        return self.loaders[self.progress.stage]

    @property
    def _select(self) -> str:
        """The criterion by which this stage's weights are kept."""
        return selection_criterion(self.stage, self.experiment.train)

    @property
    def _is_as_found(self) -> bool:
        """True if the training stands where the checkpoint stands from which it goes on."""
        return self.begun_from is not None and self.begun_from.progress == self.progress

    @property
    def _global_step(self) -> int:
        before = sum(self._steps_of(stage) for stage in range(self.progress.stage))
        if self.progress.stage == len(self.loaders):
            return before
        return before + self._stage_step(self.progress)

    def _stage_step(self, progress: TrainingProgress) -> int:
        """Steps of the stage that are done."""
        return progress.epoch * self.loader.steps + progress.step

    def _steps_of(self, stage: int) -> int:
        closed_form = self.method.training_stages[stage].closed_form
        return 0 if closed_form else self.loaders[stage].steps * self.experiment.train.epochs

    def fit(self) -> None:
        """Train to the end.

        Raises:
            Stopped: it was asked to stop before; a checkpoint is saved.
        """
        logger.info(
            "%d samples, %d steps per epoch, %.1f million parameters, %d process(es) on %s",
            len(self.loaders[0].batches),
            self.loaders[0].steps,
            sum(parameter.numel() for parameter in self.method.parameters()) / 1e6,
            self.accelerator.num_processes,
            self.accelerator.device,
        )
        if self.begun_from:
            logger.info("going on from %s", self.begun_from.folder)
        self.pace = Pace(self._global_step)
        try:
            for number in range(self.progress.stage, len(self.method.training_stages)):
                self._run_stage(number)
            if not self._is_as_found:
                self._save(self.progress)  # what is left is to measure
        finally:
            self.checkpoints.close()
            self.log.close()
            self.signals.close()

    def _run_stage(self, number: int) -> None:
        """A stage from where it stands to its end, with the weights that it keeps."""
        self.method.begin_stage(self.stage)
        if self.stage.closed_form:
            self.data.extract(self.stage)
            self._fit_closed_form()
        else:
            self._prepare_stage()
            for epoch in range(self.progress.epoch, self.experiment.train.epochs):
                self._train_epoch(epoch)
                self._end_epoch(epoch)
                self.progress = replace(self.progress, epoch=epoch + 1, step=0)
            self._leave_stage()
        self.progress = TrainingProgress(stage=number + 1, skipped=self.progress.skipped)

    def _prepare_stage(self) -> None:
        """An optimiser over the stage's parameters, and the checkpoint if it is of this stage."""
        stage = self.stage
        self.method.set_trained(stage, self.trainable)
        found = self.begun_from if self._is_as_found else None
        whole = found and found.fits(self.experiment.train.zero, self.accelerator.num_processes)
        if found and not whole:
            self._load_weights(found)
        elif found and self.method.frozen:
            found.load_weights(self.method)  # before what stands still is extracted
        if self.data.extract(stage):
            self.loaders[self.progress.stage] = self.data.loader(stage, "train")
        may_skip = self.experiment.train.max_skipped_steps - self.progress.skipped
        self.stepper = Stepper(self.experiment, self.accelerator, self.method, stage.name, may_skip)
        if found and whole:
            self.checkpoints.load(found)
        elif not found:
            # A later stage begins: a resumed run must not look for what the stage before kept where this one's is.
            self._save(self.progress)
        self._rehearse()
        self.has_begun = True

    def _rehearse(self) -> None:
        """Do what the end of an epoch needs, on a few samples: nothing shall fail after hours that can fail at once."""
        watchdog.report_activity("trying what the end of an epoch needs")
        self.accelerator.unwrap_model(self.stepper.model)  # imports DeepSpeed where it is installed
        state = self._state()
        if self.accelerator.is_main_process:
            self.saved.check(state)
        if self.data.validated_on:
            embed_few(self.method, self.experiment.data, self.saved.tokenizer, self.data.validated_on)

    def _load_weights(self, checkpoint: Checkpoint) -> None:
        """All that can be had of a checkpoint of another kind of training; what cannot is said."""
        if self.accelerator.is_main_process:
            logger.warning(
                "%s was saved by %d process(es) with --train.zero %d: weights and progress go on, BUT THE OPTIMIZER'S "
                "STATE IS RESET (its momentum is lost). For an exact continuation start it in that way again",
                checkpoint.folder, checkpoint.world_size, checkpoint.zero,
            )  # fmt: skip
        checkpoint.load_weights(self.method)

    def _leave_stage(self) -> None:
        """Back to the plain module, with the weights of the epoch that was kept."""
        self.method = self.accelerator.unwrap_model(self.stepper.model, keep_fp32_wrapper=False)
        self.accelerator.free_memory()
        del self.stepper
        if self.progress.stage + 1 < len(self.method.training_stages):
            self.method.load_state_dict(read_weights(self.run.folder / "model.safetensors"))

    def _fit_closed_form(self) -> None:
        """Fit the stage, and keep the result."""
        fit_closed_form(self.method, self.stage, self.data)
        self.has_begun = True
        self._keep(0, self._validate(), "fitted in closed form")

    def _train_epoch(self, epoch: int) -> None:
        """The epoch's remaining steps."""
        self.method.train()
        throughput = Throughput(self.loader.batches.sources)
        with training_progress(is_main=self.accelerator.is_main_process) as progress:
            bar = progress.add_task(
                self._title(epoch), total=self.loader.steps, completed=self.progress.step, status=""
            )
            batches = self.loader.epoch(epoch, first_step=self.progress.step)
            while True:
                batch = self._next(batches)
                self._synchronize()
                if batch is None:
                    self._settle()
                    return
                throughput.data_arrived()
                self._step(batch, throughput)
                status = f"{self.log.last_loss}{throughput}, {self._left()}"
                progress.update(bar, advance=1, status=status)

    def _next(self, batches: Iterator[Batch]) -> Batch | None:
        """The next batch; None at the end of the epoch, and where this rank cannot go on."""
        watchdog.report_activity(f"reading the batch of step {self._global_step + 1}")
        try:
            with self.signals.waiting():
                return next(batches, None)
        except Interrupted:
            return None
        except XmrError as error:
            self.signals.fail(error)
            return None

    def _synchronize(self) -> None:
        """Before each step: save where a rank wants that, and end where one must.

        Raises:
            Stopped: a rank was asked to stop.
            XmrError: a rank met an error.
        """
        watchdog.report_activity(f"agreeing with the other processes before step {self._global_step + 1}")
        action = self.signals.synchronize()
        if action > Action.NOTHING:
            self._settle()
            self.log.flush()
            self._save(self.progress)
        if action is Action.FAIL:
            raise self.signals.error()
        if action is Action.STOP:
            raise Stopped

    def _save(self, progress: TrainingProgress) -> None:
        watchdog.report_activity("saving a checkpoint")
        self.checkpoints.save(progress)
        self.signals.saved()

    def _title(self, epoch: int) -> str:
        name = f"{self.stage.name}, " if len(self.method.training_stages) > 1 else ""
        return f"{name}epoch {epoch + 1}/{self.experiment.train.epochs}"

    def _left(self) -> str:
        """The time that the training will take to its end, in words."""
        return self.pace.left(self._global_step, sum(map(self._steps_of, range(len(self.loaders)))))

    def _tell(self, epoch: int, result: str) -> None:
        """Log an epoch's result to the console."""
        logger.info("%s: %s%s, %s", self._title(epoch), self.log.epoch_loss(), result, self._left())

    def _context(self) -> StepContext:
        steps = self.loader.steps
        progress = (self.progress.epoch * steps + self.progress.step) / (steps * self.experiment.train.epochs)
        seed = np.random.SeedSequence((self.experiment.train.seed, self._global_step)).generate_state(1, np.uint64)
        return StepContext(self.stage.name, self.progress.epoch, progress, int(seed[0]))

    def _step(self, batch: Batch, throughput: Throughput) -> None:
        """One optimiser step; and the record of the one before it, whose outcome is there by now."""
        watchdog.report_activity(f"in step {self._global_step + 1}")
        samples = gather(batch.positions)
        seed = (self.experiment.train.seed, self._global_step, self.accelerator.process_index)
        outcome = self.stepper.step(batch, self._context(), seed)
        throughput.step_done(len(samples))
        begun, self.progress = self.progress, replace(self.progress, step=self.progress.step + 1)
        taken = PendingStep(outcome, samples, begun, self._record(throughput))
        self._settle()
        self.pending = taken
        if self._is_looked_at(begun):
            self._settle()  # the model as it is after this step may be kept
        self.signals.step_done()

    def _settle(self) -> None:
        """Read the outcome of the step that is pending: record it, or leave it out.

        Raises:
            XmrError: one step too many had values that were not finite; a checkpoint from before it is saved.
        """
        taken, self.pending = self.pending, None
        if taken is None:
            return
        if taken.outcome.is_refused:
            self._leave_out(taken)
            return
        self._write_record(taken)
        if self._is_looked_at(taken.begun):
            self._keep_if_lowest(taken)

    def _is_looked_at(self, begun: TrainingProgress) -> bool:
        """True for a step whose batch may have the loss by which the model is kept."""
        looks = self._select == "training loss"
        return looks and (begun.best is None or self._stage_step(begun) % LOOKED_AT == 0)

    def _leave_out(self, taken: PendingStep) -> None:
        """Go on without a step, or end with a checkpoint before it where too many were left out."""
        error, samples, begun = taken.outcome.error(), taken.samples, taken.begun
        bad = samples if error.rows is None else samples[error.rows.cpu()]
        keys = [self.loader.batches.reader.key(position) for position in bad.tolist()]
        shown = ", ".join(keys[:NAMED]) + (f" and {len(keys) - NAMED} more" if len(keys) > NAMED else "")
        place = f"{self._title(begun.epoch)}, step {begun.step + 1}, samples {shown}"
        if self.progress.skipped >= self.experiment.train.max_skipped_steps:
            # A step that was begun since has changed nothing, either.
            self.progress = replace(begun, skipped=self.progress.skipped)
            self._save(self.progress)
            raise XmrError(f"{place}: {error}")
        self.progress = replace(self.progress, skipped=self.progress.skipped + 1)
        logger.warning("%s: left out, NaN or infinite values in %s", place, error.what)
        if self.accelerator.is_main_process:
            record = {name: taken.record[name] for name in ("step", "stage", "epoch")}
            self.log.skipped(record | {"skipped": error.what, "keys": keys})

    def _record(self, throughput: Throughput) -> dict[str, Any]:
        """The record of the step that was just begun, as far as the host knows it."""
        return {
            "step": self._global_step,
            "stage": self.stage.name,
            "epoch": self.progress.epoch + 1,
            "lr": self.stepper.rates,
            "images_per_second": round(throughput.samples_per_second, 2),
            "data_wait": round(throughput.data_wait, 4),
        }

    def _write_record(self, taken: PendingStep) -> None:
        if not self.accelerator.is_main_process:
            return
        keys = " ".join(self.loader.batches.reader.key(position) for position in taken.samples.tolist())
        samples = hashlib.sha256(keys.encode()).hexdigest()[:16]
        self.log.step(taken.record | {"samples": samples, "loss": taken.outcome.terms})

    def _keep_if_lowest(self, taken: PendingStep) -> None:
        """Keep the model as it is after this step if its batch's loss is the lowest of those looked at."""
        value = -of_first_rank(taken.outcome.terms["total"])  # all must come to the same
        if self.progress.best is None or value > self.progress.best:
            self.progress = replace(self.progress, best=value)
            chosen = describe_selection_by_batch(taken.begun.epoch, self._stage_step(taken.begun) + 1)
            self._save_model(chosen)
            self.log.validation({"step": taken.record["step"], "stage": self.stage.name, "selected": chosen})

    def _end_epoch(self, epoch: int) -> None:
        """Validate, and keep this epoch's model if it is the best so far (or the last is wanted)."""
        select = self._select
        scores = self._validate()
        self.method.end_epoch(self.stage)
        if select == "training loss":
            self.log.validation(self._validation_record(epoch, scores))
            self._tell(epoch, f"lowest loss of a batch {-(self.progress.best or 0.0):.4f}")
            return
        if select == "last" or not scores:
            self._keep(epoch, scores, describe_selection(epoch, "last"))
            return
        if select != "loss" and f"average {select}" not in scores:
            raise XmrError(f"--train.select {select} counts pairs, and no validation sample has two modalities; "
                           "select by a figure that counts labels, such as mAP@all")  # fmt: skip
        value = -scores["loss"] if select == "loss" else scores[f"average {select}"]
        assert self.data.validated_on, "there are scores"
        name = {"val": "validation", "test": "test"}[self.data.validated_on]
        if self.progress.best is None or value > self.progress.best:
            self.progress = replace(self.progress, best=value)
            chosen = describe_selection(epoch, select, self.data.validated_on)
            self._keep(epoch, scores, chosen, shown=f"{name} {select} {abs(value):.4f}")
        else:
            self.log.validation(self._validation_record(epoch, scores))
            self._tell(epoch, f"{name} {select} {abs(value):.4f}")

    def _keep(self, epoch: int, scores: Mapping[str, float], chosen: str, *, shown: str = "no selection") -> None:
        """Save the model as it is now, and say so."""
        self._save_model(chosen)
        self.log.validation(self._validation_record(epoch, scores) | {"selected": chosen})
        self._tell(epoch, f"{shown} (kept)")

    def _save_model(self, chosen: str) -> None:
        state = self._state()
        if self.accelerator.is_main_process:
            self.saved.save(self.run.folder, state, chosen)
        self.accelerator.wait_for_everyone()  # other ranks may read it next

    def _state(self) -> Mapping[str, Tensor]:
        """The method's weights, whole on the main process; called by every rank."""
        divided = self.experiment.train.zero and hasattr(self, "stepper")  # among the processes
        return self.accelerator.get_state_dict(self.stepper.model) if divided else self.method.state_dict()

    def _validation_record(self, epoch: int, scores: Mapping[str, float]) -> dict[str, object]:
        where = {"split": "test"} if validation_split(self.experiment.train) == "test" else {}
        return {"step": self._global_step, "stage": self.stage.name, "epoch": epoch + 1, **where, "val": dict(scores)}

    def _validate(self) -> dict[str, float]:
        return validate(self.method, self.progress.stage, self._context(), self.data)
