"""Training: what a run does from its first step to its last."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace

from accelerate import Accelerator
from torch import Tensor

from xmr_e2e import watchdog
from xmr_e2e.data.batch import Batch
from xmr_e2e.data.loader import Loader
from xmr_e2e.distributed import gather, of_first_rank
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.stages import Stage
from xmr_e2e.models.embed import embed_few
from xmr_e2e.models.weights import read_weights
from xmr_e2e.runs.checkpoint import TrainingProgress
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.runs.metrics_log import MetricsLog
from xmr_e2e.runs.run import Run
from xmr_e2e.runs.trackers import trackers_of
from xmr_e2e.shards.manifest import load_manifest
from xmr_e2e.training.acceleration import set_up_device, set_up_towers
from xmr_e2e.training.checkpoints import Checkpoints, first_progress
from xmr_e2e.training.display import Throughput, training_progress
from xmr_e2e.training.outcome import PendingStep
from xmr_e2e.training.processes import unwrapped
from xmr_e2e.training.records import TrainingRecords
from xmr_e2e.training.selection import (
    Choice,
    check_splits,
    choose_epoch,
    describe_selection_by_batch,
    selection_criterion,
    with_defaults,
)
from xmr_e2e.training.setup import TrainingData, build_model
from xmr_e2e.training.signals import Action, Interrupted, Signals, Stopped
from xmr_e2e.training.step import Stepper
from xmr_e2e.training.step_count import StepCount
from xmr_e2e.training.tower_weights import load_given_prior, load_given_weights
from xmr_e2e.training.validation import fit_closed_form, validate

logger = logging.getLogger(__name__)

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
        self.progress = first_progress(self.begun_from, run.folder, len(self.loaders))
        self.steps = StepCount(self.method.training_stages, self.loaders, train)
        self.signals = Signals(train.checkpoint_minutes, train.checkpoint_steps)
        self.pending: PendingStep | None = None
        """the step whose outcome has not been read yet"""
        is_main = accelerator.is_main_process
        log = MetricsLog(
            run,
            first_step=self._global_step,
            validated=self.progress.step == 0,
            enabled=is_main,
            trackers=trackers_of(accelerator),
        )
        self.records = TrainingRecords(log, self.steps, train, is_main=is_main)

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
        return self.steps.done(self.progress)

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
        self.records.begin(self.progress)
        try:
            for number in range(self.progress.stage, len(self.method.training_stages)):
                self._run_stage(number)
            if not self._is_as_found:
                self._save(self.progress)  # what is left is to measure
        finally:
            self.checkpoints.close()
            self.records.close()
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
                self._train_epoch()
                self._end_epoch()
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
            self.checkpoints.load_weights(found)
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
        unwrapped(self.accelerator, self.stepper.model)
        state = self._state()
        if self.accelerator.is_main_process:
            self.saved.check(state)
        if self.data.validated_on:
            embed_few(self.method, self.experiment.data, self.saved.tokenizer, self.data.validated_on)

    def _leave_stage(self) -> None:
        """Back to the plain module, with the weights of the epoch that was kept."""
        unwrapped(self.accelerator, self.stepper.model, at_end=True)
        self.accelerator.free_memory()
        del self.stepper
        if self.progress.stage + 1 < len(self.method.training_stages):
            self.method.load_state_dict(read_weights(self.run.folder / "model.safetensors"))

    def _fit_closed_form(self) -> None:
        """Fit the stage, and keep the result."""
        fit_closed_form(self.method, self.stage, self.data)
        self.has_begun = True
        self._close_epoch(self._validate(), Choice(self.progress.best, "no selection", "fitted in closed form"))

    def _train_epoch(self) -> None:
        """The epoch's remaining steps."""
        self.method.train()
        throughput = Throughput(self.loader.batches.sources)
        with training_progress(is_main=self.accelerator.is_main_process) as progress:
            bar = progress.add_task(
                self.steps.title(self.progress), total=self.loader.steps, completed=self.progress.step, status=""
            )
            batches = self.loader.epoch(self.progress.epoch, first_step=self.progress.step)
            while True:
                batch = self._next(batches)
                self._synchronize()
                if batch is None:
                    self._settle()
                    return
                throughput.data_arrived()
                self._step(batch, throughput)
                progress.update(bar, advance=1, status=self.records.status(self.progress, throughput))

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
            self.records.flush()
            self._save(self.progress)
        if action is Action.FAIL:
            raise self.signals.error()
        if action is Action.STOP:
            raise Stopped

    def _save(self, progress: TrainingProgress) -> None:
        watchdog.report_activity("saving a checkpoint")
        self.checkpoints.save(progress)
        self.signals.saved()

    def _step(self, batch: Batch, throughput: Throughput) -> None:
        """One optimiser step; and the record of the one before it, whose outcome is there by now."""
        watchdog.report_activity(f"in step {self._global_step + 1}")
        samples = gather(batch.positions)
        seed = (self.experiment.train.seed, self._global_step, self.accelerator.process_index)
        outcome = self.stepper.step(batch, self.steps.context(self.progress), seed)
        throughput.step_done(len(samples))
        begun, self.progress = self.progress, replace(self.progress, step=self.progress.step + 1)
        taken = PendingStep(
            outcome, samples, begun, self.records.of_step(self.progress, self.stepper.rates, throughput)
        )
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
        self.records.taken(taken, self.loader.batches)
        if self._is_looked_at(taken.begun):
            self._keep_if_lowest(taken)

    def _is_looked_at(self, begun: TrainingProgress) -> bool:
        """True for a step whose batch may have the loss by which the model is kept."""
        looks = self._select == "training loss"
        return looks and (begun.best is None or self.steps.done_in_stage(begun) % LOOKED_AT == 0)

    def _leave_out(self, taken: PendingStep) -> None:
        """Go on without a step, or end with a checkpoint before it where too many were left out."""
        if self.progress.skipped >= self.experiment.train.max_skipped_steps:
            # A step that was begun since has changed nothing, either.
            self.progress = replace(taken.begun, skipped=self.progress.skipped)
            self._save(self.progress)
            raise XmrError(f"{self.records.place_of(taken, self.loader.batches)}: {taken.outcome.error()}")
        self.progress = replace(self.progress, skipped=self.progress.skipped + 1)
        self.records.left_out(taken, self.loader.batches)

    def _keep_if_lowest(self, taken: PendingStep) -> None:
        """Keep the model as it is after this step if its batch's loss is the lowest of those looked at."""
        value = -of_first_rank(taken.outcome.terms["total"])  # all must come to the same
        if self.progress.best is None or value > self.progress.best:
            self.progress = replace(self.progress, best=value)
            chosen = describe_selection_by_batch(taken.begun.epoch, self.steps.done_in_stage(taken.begun) + 1)
            self._save_model(chosen)
            self.records.kept_after(taken, chosen)

    def _end_epoch(self) -> None:
        """Validate, and keep this epoch's model if it is the best so far (or the last is wanted)."""
        scores = self._validate()
        self.method.end_epoch(self.stage)
        self._close_epoch(scores, choose_epoch(self._select, scores, self.progress, self.data.validated_on))

    def _close_epoch(self, scores: Mapping[str, float], choice: Choice) -> None:
        """Keep the model as it is now if that is the choice, and record it."""
        self.progress = replace(self.progress, best=choice.best)
        if choice.kept is not None:
            self._save_model(choice.kept)
        self.records.validated(self.progress, scores, choice)

    def _save_model(self, chosen: str) -> None:
        state = self._state()
        if self.accelerator.is_main_process:
            self.saved.save(self.run.folder, state, chosen)
        self.accelerator.wait_for_everyone()  # other ranks may read it next

    def _state(self) -> Mapping[str, Tensor]:
        """The method's weights, whole on the main process; called by every rank."""
        divided = self.experiment.train.zero and hasattr(self, "stepper")  # among the processes
        return self.accelerator.get_state_dict(self.stepper.model) if divided else self.method.state_dict()

    def _validate(self) -> dict[str, float]:
        return validate(self.method, self.progress.stage, self.steps.context(self.progress), self.data)
