"""From a recipe's command line to a measured model: `main` is all that a recipe calls."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence

import torch
import tyro
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from xmr_e2e.console import report_errors, setup_logging
from xmr_e2e.data.workers import lost_worker
from xmr_e2e.engine.evaluate import evaluate_run
from xmr_e2e.engine.experiment import Experiment
from xmr_e2e.engine.hints import check_foreign_options
from xmr_e2e.engine.preflight import check_start
from xmr_e2e.engine.processes import is_lost_connection, make_accelerator
from xmr_e2e.engine.run import Run, environment
from xmr_e2e.engine.signals import leave_at_once
from xmr_e2e.engine.trainer import Trainer
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.manifest import load_manifest
from xmr_e2e.watch import Watch

logger = logging.getLogger(__name__)

STOPPED = 75  # EX_TEMPFAIL of sysexits.h: not finished, to be started again


def main(recipe: Callable[[], Experiment]) -> None:
    """Parse the command line over the recipe's experiment, train, measure the selected epoch, report."""

    def command() -> int:
        experiment = parse(recipe)
        accelerator = make_accelerator(experiment.train)
        setup_logging(is_main=accelerator.is_main_process)
        return run_experiment(experiment, accelerator)

    sys.exit(report_errors(command))


def parse(recipe: Callable[[], Experiment], args: Sequence[str] | None = None) -> Experiment:
    """The recipe's experiment, changed by the options of a command line; by default this process's own.

    Raises:
        SystemExit: options that it does not have, or --help; said to the user.
        XmrError: an option has no possible value.
    """
    check_foreign_options(sys.argv[1:] if args is None else args)
    module = sys.modules[recipe.__module__]
    experiment = tyro.cli(
        Experiment,
        prog=None if args is None else module.__file__,
        args=args,
        default=recipe(),
        description=module.__doc__,
        config=(tyro.conf.AvoidSubcommands,),
    )
    if experiment.train.name == "":  # of a shell's variable that is not set
        raise XmrError("--train.name '' is no name of a folder; without the option it is the time of the start")
    return experiment


def run_experiment(experiment: Experiment, accelerator: Accelerator) -> int:
    """Train, evaluate, report; every rank calls it. Returns the exit status."""
    run = _open_run(experiment, accelerator)
    logger.info("run folder: %s", run.folder)
    finished = _train(experiment, run, accelerator)
    if finished:
        leave_at_once(STOPPED)  # started again, the run goes on with the measuring
        measured = [split for split in ("test", "val") if split in load_manifest(experiment.data.shards).splits]
        if measured:
            evaluate_run(run, measured[0])
        else:
            logger.warning("%s has neither test nor validation split: nothing to measure", experiment.data.shards)
    else:
        logger.warning(
            "stopped; a checkpoint is saved. To go on, repeat the command with --train.resume %s", run.folder
        )
    accelerator.end_training()
    return 0 if finished else STOPPED


def _train(experiment: Experiment, run: Run, accelerator: Accelerator) -> bool:
    """Whether the training came to its end; watched, so that what goes wrong elsewhere is said here."""
    trainer = Trainer(experiment, run, accelerator)
    limit = 60 * experiment.train.timeout_minutes
    with Watch(run.folder / "heartbeats", accelerator.process_index, accelerator.num_processes, limit) as watch:
        try:
            return trainer.fit()
        except torch.OutOfMemoryError as error:
            raise XmrError(
                f"the GPU's memory is full: raise --train.accumulate, or lower --train.batch-size or --data.image-size "
                f"({str(error).splitlines()[0]})"
            ) from error
        except RuntimeError as error:
            if "DataLoader worker" in str(error):
                raise lost_worker(error) from error
            if is_lost_connection(error):
                raise XmrError(f"the connection to another process was lost: {watch.diagnose()}") from error
            raise


def _open_run(experiment: Experiment, accelerator: Accelerator) -> Run:
    """A new run folder, or the one to go on with; the same on every rank."""
    check_start(experiment, accelerator.num_processes)  # before anything is written
    if experiment.train.resume:
        run = Run(experiment.train.resume)
        run.check_same(experiment)
        return run
    name = broadcast_object_list([experiment.train.name or time.strftime("%Y%m%d-%H%M%S")])[0]
    run = Run(experiment.train.runs / experiment.name / name)
    if broadcast_object_list([run.exists])[0]:
        run.check_same(experiment)
    elif accelerator.is_main_process:
        run.start(experiment, environment(experiment, accelerator.num_processes))
    accelerator.wait_for_everyone()
    return run
