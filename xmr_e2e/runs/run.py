"""The run folder: what went in, what happened, what came out.

runs/<recipe>/<time>/
    config.json  environment.json  metrics.jsonl  events (TensorBoard)
    trackers.json    the run's ids at other trackers (--train.log-with)
    words/           tokeniser and word vectors of the training split
    checkpoints/     to go on from
    model.safetensors  model.json  towers/    the selected epoch, self-contained
    evaluation/<split>.json  report.html
    lock             held by the training that uses the folder

It may be somebody else's: what is in it is data, and nothing is written through a link in it (`received.own_path`).
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import Tensor

from xmr_e2e.configuration import from_document, to_document
from xmr_e2e.data.config import Data
from xmr_e2e.data.loader import fit_idf, fit_words
from xmr_e2e.data.tokenizer_documents import tokenizer_from_document
from xmr_e2e.data.tokenizers import Tokenizer
from xmr_e2e.errors import XmrError, describe_os_error
from xmr_e2e.evaluation.result import EvaluationResult, read_result
from xmr_e2e.files import read_json, write_atomically
from xmr_e2e.models.model_folder import refuse_folder_of_runs
from xmr_e2e.models.weights import read_weights
from xmr_e2e.received import check_name, own_path, parse_json, read_bytes
from xmr_e2e.runs.continuation import differences
from xmr_e2e.runs.environment import manifest_sha256
from xmr_e2e.runs.experiment import Experiment

logger = logging.getLogger(__name__)

TRACKERS = "trackers.json"
"""tracker -> its id of the run, and whether it has the last figures"""
OWNED = (
    *("config.json", "environment.json", "metrics.jsonl", "model.json", "model.safetensors", "report.html"),
    TRACKERS,
    *("words", "towers", "checkpoints", "heartbeats", "evaluation", "events.out.tfevents.*"),
)
"""names of what a training leaves in its run folder, as patterns"""
RESULTS = ("model.json", "model.safetensors", "evaluation", "report.html")
"""of these, what comes of its steps"""
FIRST_CHECKPOINT = "stage-00-epoch-0000-step-000000"
"""that of before the first step"""
TOKENIZER, _EARLIER = "tokenizer.json", "tokeniser.json"
"""of words/, and its name in runs of earlier versions"""
METRICS_BYTES = 2**31
"""of metrics.jsonl, at most: a million steps have a tenth of it"""
LOCK = "lock"
"""the file that a training holds as long as it uses the folder; it says who last did"""


@dataclass(frozen=True)
class Run:
    """A run folder."""

    folder: Path

    @property
    def exists(self) -> bool:
        """True if a training was started here, so that it can go on."""
        return (self.folder / "config.json").exists()

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def has_steps(self) -> bool:
        """True where a step of the training was recorded or saved, so that something would be lost with the folder."""
        folders = (self.folder / "checkpoints").glob("stage-*")
        saved = {path.name for path in folders if path.suffix != ".part"} - {FIRST_CHECKPOINT}
        return bool(self.records() or saved) or any((self.folder / name).exists() for name in RESULTS)

    @property
    def is_marked(self) -> bool:
        """True if a training has used the folder, so that what has the names of its files is its own."""
        return any((self.folder / name).exists() for name in (LOCK, "environment.json"))

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the folder for this process; the operating system gives it back when the process is gone.

        Raises:
            XmrError: another process has it; names host and process. Or something in it is a link, through which a
                training would write.
        """
        for path in self._owned():
            own_path(self.folder, path.name)
        with open(own_path(self.folder, LOCK), "a+", opener=_open_itself) as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                stream.seek(0)
                raise XmrError(
                    f"{self.folder} is in use by {stream.read().strip() or 'another process'}: a run has one training "
                    "at a time. Wait for its end, stop it, or give this one another --train.name"
                ) from error
            except OSError as error:  # of a file system without locks
                logger.warning("%s: cannot be locked against a second training (%s)", self.folder, error.strerror)
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            stream.flush()
            yield

    def require_free(self) -> None:
        """Raise XmrError where a new training would write over files that are there."""
        if found := sorted(path.name for path in self._owned()):
            raise XmrError(
                f"{self.folder} holds {', '.join(found)}, and no training that can be gone on with: move that away, "
                "or choose another --train.name"
            )

    def clear(self) -> None:
        """Remove what a training has left, and nothing else."""
        for path in self._owned():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _owned(self) -> list[Path]:
        return [path for pattern in OWNED for path in self.folder.glob(pattern)]

    def discard(self) -> None:
        """Remove a run that never began, and the folders that are empty without it."""
        self.clear()
        (self.folder / LOCK).unlink(missing_ok=True)
        with suppress(OSError):  # something else is in them
            self.folder.rmdir()
            self.folder.parent.rmdir()

    def experiment(self) -> Experiment:
        """The configuration with which the run was started.

        Raises:
            XmrError: there is none, or this version cannot read it.
        """
        self.require()
        return from_document(Experiment, self.document("config.json"), str(self.folder / "config.json"))

    def require(self) -> None:
        """Raise XmrError where no training was started here."""
        if not self.exists:
            raise XmrError(f"--train.resume {self.folder}: no run folder (it has no config.json)")

    def start(self, experiment: Experiment, environment: Mapping[str, Any]) -> None:
        """Say what goes in: from here on, the run can be gone on with."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_json("environment.json", environment)
        self._write_json("config.json", to_document(experiment))  # the last one: with it, the run can be gone on with

    def check_same(self, experiment: Experiment) -> None:
        """Raise XmrError unless the run was started with this configuration."""
        self.require()
        began_with = self.document("environment.json").get("manifest_sha256")
        if began_with is None:
            raise XmrError(f"{self.folder}: its environment.json, which says what it was trained on, is missing or "
                           "not a run's; it cannot be gone on with")  # fmt: skip
        if began_with != manifest_sha256(experiment):
            raise XmrError(
                f"--train.resume {self.folder}: {experiment.data.shards} holds other data than the run began with"
            )
        if different := differences(self.document("config.json"), experiment):
            raise XmrError(
                f"--train.resume {self.folder}: the run was started with another configuration:\n"
                + "\n".join(f"  {line}" for line in different)
                + "\nGo on with the run's own by leaving these options out, or start a new run under another name"
            )

    @property
    def has_words(self) -> bool:
        """True if an earlier start of this run has fitted its words."""
        return (self.folder / "words" / "vectors.safetensors").exists()

    def fit_words(self, data: Data, given: Tokenizer | None = None, *, idf: bool = False) -> None:
        """Fit tokeniser and word vectors, unless an earlier start of this run has done so.

        Args:
            given: to be taken instead, with vectors of zeros, since those of its tower follow.
            idf: count in how many texts each token is, too.
        """
        folder = own_path(self.folder, "words")
        if self.has_words:
            return
        if given is None:
            tokenizer, vectors = fit_words(data)
        else:
            dim = 0 if data.tokens.kind == "transformers" else data.words.dim
            tokenizer, vectors = given, np.zeros((len(given), dim), np.float32)
        folder.mkdir(parents=True, exist_ok=True)
        self._write_json(f"words/{TOKENIZER}", tokenizer.to_document())
        found = {"vectors": vectors}
        if idf:
            found["idf"] = fit_idf(data, tokenizer)
        write_atomically(folder / "vectors.safetensors", save(found))

    def words(self) -> tuple[Tokenizer | None, NDArray[np.float32]]:
        """Tokenizer and word vectors (len(tokeniser), dim); None and an empty array where no text is read.

        Raises:
            XmrError: a file is missing, or is none of these.
        """
        folder = self.folder / "words"
        if not folder.exists():
            return None, np.zeros((0, 0), np.float32)
        path = folder / (_EARLIER if (folder / _EARLIER).exists() else TOKENIZER)
        try:
            tokenizer = tokenizer_from_document(read_json(path), str(path))
        except OSError as error:
            raise XmrError(f"{describe_os_error(error)}; copy the whole run again") from error
        found = read_weights(folder / "vectors.safetensors").get("vectors")
        if found is None or found.dtype != torch.float32 or found.dim() != 2 or len(found) != len(tokenizer):
            raise XmrError(
                f"{folder / 'vectors.safetensors'} does not hold the vectors of the {len(tokenizer):,} tokens beside it"
            )
        vectors: NDArray[np.float32] = found.numpy()
        return tokenizer, vectors

    def idf(self) -> Tensor | None:
        """The inverse document frequencies of the tokens (len(tokeniser),); None where nobody asked for them.

        Raises:
            XmrError: the file is damaged, or holds something else.
        """
        path = self.folder / "words" / "vectors.safetensors"
        found = read_weights(path) if path.exists() else {}
        idf, vectors = found.get("idf"), found.get("vectors")
        if idf is not None and (vectors is None or idf.dtype != torch.float32 or idf.shape != vectors.shape[:1]):
            raise XmrError(f"{path} does not hold as many frequencies of words as vectors; copy the whole run again")
        return idf

    def records(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; without the last one where it was cut as its process was killed."""
        if not self.metrics.exists():
            return []
        lines = read_bytes(self.metrics, most=METRICS_BYTES).split(b"\n")
        return [_record(line, f"{self.metrics} is damaged: line {number}") for number, line in enumerate(lines[:-1], 1)]

    def document(self, name: str) -> dict[str, Any]:
        """A JSON file of the run; empty where it is missing, as beside a model that was copied alone."""
        path = self.folder / name
        return read_json(path) if path.exists() else {}

    def results(self) -> dict[str, EvaluationResult]:
        """All that was measured, by the names of its files: "test", "test-captions", …

        Raises:
            XmrError: a file holds something else.
        """
        return {path.stem: read_result(path) for path in sorted((self.folder / "evaluation").glob("*.json"))}

    def _repr_html_(self) -> str:
        from xmr_e2e.runs.shown import as_html

        return as_html(self)

    def save_evaluation(self, split: str, document: Mapping[str, Any]) -> Path:
        own_path(self.folder, "evaluation").mkdir(exist_ok=True)
        return self._write_json(f"evaluation/{check_name(split, str(self.folder))}.json", document)

    def save_tracker(self, name: str, facts: Mapping[str, Any]) -> None:
        """Write down what a tracker calls the run, and what it has of it."""
        self._write_json(TRACKERS, {**self.document(TRACKERS), name: dict(facts)})

    def _write_json(self, name: str, document: Any) -> Path:
        path = own_path(self.folder, name)
        write_atomically(path, (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode())
        return path


def open_run(folder: Path | str) -> Run:
    """A run folder, to look at: its `results`, `records` and `experiment`.

    Raises:
        XmrError: no training was started there.
    """
    run = Run(Path(folder))
    refuse_folder_of_runs(run.folder)
    if not run.exists:
        raise XmrError(f"{run.folder}: no run folder (it has no config.json); name one as in runs/RECIPE/TIME")
    return run


def _open_itself(path: str, flags: int) -> int:
    """Open a file, and not what a link in its place leads to, if one comes there in the meantime."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _record(line: bytes, where: str) -> dict[str, Any]:
    record = parse_json(line, where)
    step = record.get("step", 0) if isinstance(record, dict) else None
    if type(step) is not int or not 0 <= step < 2**53:
        raise XmrError(f"{where} is no record of a step")
    return dict(record)
