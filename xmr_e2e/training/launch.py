"""From a recipe's command line to a measured model: `main` is all that a recipe calls."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import tyro

from xmr_e2e.console import console, report_errors, setup_logging
from xmr_e2e.data.processes import keep_processes
from xmr_e2e.data.workers import lost_worker
from xmr_e2e.distributed import is_lost_connection
from xmr_e2e.errors import XmrError, describe_os_error
from xmr_e2e.models.model_folder import refuse_folder_of_runs
from xmr_e2e.runs.config_file import read_yaml
from xmr_e2e.runs.environment import environment
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.runs.leaks import known_leaks
from xmr_e2e.runs.run import Run
from xmr_e2e.runs.summary import summary
from xmr_e2e.shards.manifest import load_manifest
from xmr_e2e.signal_handlers import STOPPED, leaving_at_once
from xmr_e2e.towers.published_size import advise
from xmr_e2e.training.help import LONG, is_asked, long_description, show_first_page
from xmr_e2e.training.hints import check_foreign_options
from xmr_e2e.training.selection import with_defaults
from xmr_e2e.training.signals import Stopped
from xmr_e2e.training.tower_options import choose_towers, follow_text_tower, take, value_of
from xmr_e2e.watchdog import Watchdog

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)


def main(recipe: Callable[[], Experiment], args: Sequence[str] | None = None) -> None:
    """Parse the command line over the recipe's experiment, train, measure the selected epoch, report.

    args: the options; by default all of this process's.
    """

    def command() -> int:
        words = sys.argv[1:] if args is None else args
        experiment = parse(recipe, args)
        # What a training needs is imported by one alone: --help and a wrong option are told sooner.
        from xmr_e2e.training.launcher import take_over
        from xmr_e2e.training.processes import make_accelerator

        given = {word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")}
        experiment = replace(experiment, train=take_over(experiment.train, given))
        accelerator = make_accelerator(experiment.train)
        setup_logging(is_main=accelerator.is_main_process)
        try:
            return run_experiment(experiment, accelerator)
        except RuntimeError as error:
            if not is_lost_connection(error):
                raise
            raise XmrError("the connection to another process was lost; its own message says why") from error

    sys.exit(report_errors(command))


def train(recipe: Callable[[], Experiment], options: Sequence[str] = ()) -> Run:
    """Train within a program or a notebook, in one process, and measure, as `main` does on a command line.

    Args:
        recipe: the function that gives the experiment, such as `xmr_e2e.recipes.dscmr_pascal.experiment`.
        options: as on the command line: ["--train.epochs", "5"].

    Returns:
        The run, which shows itself in a notebook.

    Raises:
        SystemExit: an option that there is not, or --help; said on stderr.
        XmrError: an option has no possible value, or as a training ends with.
        Stopped: the process was asked to end (SIGTERM); a checkpoint is saved.
    """
    from accelerate.state import AcceleratorState

    from xmr_e2e.training.processes import make_accelerator

    experiment = parse(recipe, options)
    # Accelerate's state outlives a training, and refuses the precision of the next.
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        run, status = _run(experiment, make_accelerator(experiment.train))
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    if status:
        raise Stopped(f"stopped; to go on: --train.resume {run.folder}")
    return run


def parse(recipe: Callable[[], Experiment], args: Sequence[str] | None = None) -> Experiment:
    """The recipe's experiment, changed by the options of a command line; by default this process's own. A run that is
    gone on with has its own configuration, which takes the recipe's place.

    Raises:
        SystemExit: options that it does not have, or --help and --help-all; said to the user.
        XmrError: an option has no possible value, or a run to go on with that is none of this recipe's.
    """
    words = sys.argv[1:] if args is None else args
    check_foreign_options(words)
    own = recipe()
    # Before all others: which options there are depends on the towers of the file, or of the run.
    file, left = take(words, "--config", "a YAML file with options")
    folder = value_of(words, "--train.resume")
    begun = None if folder in (None, "None") else folder
    if file is not None:
        if begun:
            raise XmrError("--config: a run that is gone on with (--train.resume) has its own configuration")
        own = read_yaml(Path(file), own)
    elif begun:
        own = _begun(Path(begun), own)
    experiment = _parse(recipe, own, left, is_program=args is None)
    if experiment.train.name == "":  # of a shell's variable that is not set
        raise XmrError("--train.name '' is no name of a folder; without the option it is the time of the start")
    return experiment


def _begun(folder: Path, own: Experiment) -> Experiment:
    """The configuration of a run to go on with, which has to be one of the recipe's own."""
    refuse_folder_of_runs(folder)
    begun = Run(folder).experiment()
    if begun.name != own.name:
        raise XmrError(f"--train.resume {folder}: the run is one of {begun.name}, not of {own.name}")
    return begun


def _parse(
    recipe: Callable[[], Experiment], default: Experiment, words: Sequence[str], *, is_program: bool
) -> Experiment:
    module = sys.modules[recipe.__module__]
    default, left = choose_towers(default, words)
    if is_asked(words):
        show_first_page(module.__doc__ or "", default)
        raise SystemExit(0)
    asks = LONG in words
    experiment = tyro.cli(
        Experiment,
        prog=None if is_program else getattr(module, "__file__", None),  # a notebook is no file
        args=["--help"] if asks else left,
        default=default,
        description=long_description(module.__doc__ or "", default) if asks else module.__doc__,
        config=(tyro.conf.AvoidSubcommands,),
    )
    return follow_text_tower(experiment, words)


def run_experiment(experiment: Experiment, accelerator: Accelerator) -> int:
    """Train, evaluate, report; every rank calls it. Returns the exit status."""
    return _run(experiment, accelerator)[1]


def _run(experiment: Experiment, accelerator: Accelerator) -> tuple[Run, int]:
    """As `run_experiment`; returns the run as well."""
    from xmr_e2e.runs.trackers import close_trackers
    from xmr_e2e.training.preflight import check_start

    experiment = with_defaults(experiment, load_manifest(experiment.data.shards))
    check_start(experiment, accelerator.num_processes)  # before anything is written
    if accelerator.is_main_process:
        for modality, tower in experiment.method.towers.items():
            if advice := advise(tower, experiment.data, modality):
                logger.info("%s", advice)
        for leak in known_leaks(experiment.method, load_manifest(experiment.data.shards)):
            logger.warning("known leak: %s", leak)
    with ExitStack() as held:
        held.enter_context(keep_processes(starts_now=experiment.data.workers != 0))
        run = _open_run(experiment, accelerator, held)
        held.callback(lambda: close_trackers(accelerator))
        try:
            _train(experiment, run, accelerator)
            with leaving_at_once(STOPPED):  # started again, the run goes on with the measuring
                _measure(experiment, run, accelerator)
            if accelerator.is_main_process:
                console.print(summary(run, experiment), highlight=False, soft_wrap=True, markup=False)
            status = 0
        except Stopped:
            logger.warning(
                "stopped; a checkpoint is saved. To go on, repeat the command with --train.resume %s", run.folder
            )
            status = STOPPED
        accelerator.end_training()
    return run, status


def _measure(experiment: Experiment, run: Run, accelerator: Accelerator) -> None:
    """Evaluate the test split, or the validation split where there is none; trackers get what comes of it."""
    from xmr_e2e.runs.evaluate import evaluate_run
    from xmr_e2e.runs.trackers import log_end, trackers_of

    measured = [split for split in ("test", "val") if split in load_manifest(experiment.data.shards).splits]
    result, pictures = None, dict[str, bytes]()
    if measured:
        shown = pictures.update if trackers_of(accelerator) else None
        result = evaluate_run(run, measured[0], draws=experiment.train.report, show=shown)
    else:
        logger.warning("%s has neither test nor validation split: nothing to measure", experiment.data.shards)
    if accelerator.is_main_process:
        log_end(accelerator, run, result, pictures)


def _train(experiment: Experiment, run: Run, accelerator: Accelerator) -> None:
    """Train to the end; watched, so that what goes wrong elsewhere is said here. A new run that fails before its first
    step leaves nothing behind.

    Raises:
        Stopped: it was asked to stop before.
    """
    from xmr_e2e.runs.trackers import open_trackers
    from xmr_e2e.training.trainer import Trainer

    trainer, is_new = None, not run.exists
    limit = 60 * experiment.train.timeout_minutes
    try:
        past = run.records() if accelerator.is_main_process else []  # the trainer takes back what happens again
        trainer = Trainer(experiment, run, accelerator)
        if accelerator.is_main_process:
            if is_new:
                run.start(experiment, environment(experiment, accelerator.num_processes))
            open_trackers(accelerator, experiment, run, past)
        accelerator.wait_for_everyone()
        with Watchdog(run.folder / "heartbeats", accelerator.process_index, accelerator.num_processes, limit) as watch:
            try:
                trainer.fit()
            except torch.OutOfMemoryError as error:
                raise XmrError(
                    "the GPU's memory is full: bound it by --train.micro-pixels and --train.micro-tokens (or raise "
                    "--train.micro-batches), or lower --train.batch-size or --data.image-size "
                    f"({str(error).splitlines()[0]})"
                ) from error
            except RuntimeError as error:
                if "DataLoader worker" in str(error):
                    raise lost_worker(error) from error
                if is_lost_connection(error):
                    raise XmrError(f"the connection to another process was lost: {watch.diagnose()}") from error
                raise
    except BaseException:
        if is_new and accelerator.is_main_process and not (trainer and trainer.has_begun):
            run.discard()
        raise


def _open_run(experiment: Experiment, accelerator: Accelerator, held: ExitStack) -> Run:
    """A new run folder, or the one to go on with, kept for this training; the same on every rank."""
    from accelerate.utils import broadcast_object_list

    found: list[Run | str] = [""]
    if accelerator.is_main_process:
        try:
            found = [_claim(experiment, held)]
        except XmrError as error:
            found = [str(error)]
        except OSError as error:
            found = [describe_os_error(error)]
    run = broadcast_object_list(found)[0]
    if isinstance(run, str):
        raise XmrError(run)
    return run


def _claim(experiment: Experiment, held: ExitStack) -> Run:
    """As `_open_run`, on the main process."""
    train = experiment.train
    if train.resume:
        Run(train.resume).require()
    run = Run(train.resume or (_named(experiment) if train.name else _unnamed(experiment)))
    if not run.is_marked:
        run.require_free()  # before the lock, which is a mark
    held.enter_context(run.in_use())
    if not train.resume and not run.has_steps:
        run.clear()  # an earlier start that came to nothing: begin again, whatever its options were
    if run.exists:
        run.check_same(experiment)
    else:
        run.require_free()
    logger.info("run folder: %s", run.folder)
    return run


def _named(experiment: Experiment) -> Path:
    folder = experiment.train.runs / experiment.name / str(experiment.train.name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _unnamed(experiment: Experiment) -> Path:
    """A new folder, named by the time; of several that start in the same second, each gets its own."""
    folder = experiment.train.runs / experiment.name
    folder.mkdir(parents=True, exist_ok=True)
    now = time.strftime("%Y%m%d-%H%M%S")
    for name in chain([now], (f"{now}-{number}" for number in count(2))):
        with suppress(FileExistsError):
            (folder / name).mkdir()
            return folder / name
    raise AssertionError("the numbers do not end")
