"""Uploads are decoded in processes of their own: whatever a file does to its decoder, the server goes on."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeAlias

import psutil
import torch
from safetensors.torch import load, save

from xmr_e2e.data.config import Data
from xmr_e2e.data.images import load_square
from xmr_e2e.data.inputs import Waveforms
from xmr_e2e.errors import XmrError
from xmr_e2e.models.given import LOADERS
from xmr_e2e.search.limits import DECODE_BYTES, DECODE_S, UPLOAD_PIXELS
from xmr_e2e.shards.media import UnusableImage, count_pixels
from xmr_e2e.shards.parallel import end_with_parent, without_interrupts, without_main

_processes = multiprocessing.get_context("forkserver")
_PRELOADED = ["xmr_e2e.search.decoding", "av", "trimesh"]
_STARTING = threading.Lock()
"""held while a process is started, which changes for a moment what is the whole program's"""
_TAKEN, _DECODED, _REFUSED, _FAILED = b"t", b"d", b"r", b"f"
"""first bytes of a process's answers; behind them are tensors (safetensors, or nothing), a reason, a traceback"""


@dataclass(frozen=True)
class Undecoded:
    """A file, and the bounds and sizes with which it is decoded."""

    content: bytes = field(repr=False)
    modality: str
    extension: str
    """of its name, in lower case, without a dot"""
    data: Data
    most_pixels: int = UPLOAD_PIXELS
    """a picture of more, which is not above UPLOAD_PIXELS, is left for another queue"""


Decode: TypeAlias = Callable[[Undecoded], Any]
"""a file to what its loader in `given.LOADERS` gives; None for a picture that is left"""


class Refused(Exception):
    """A file that cannot be decoded, and why, for whoever has sent it."""


def decode_file(file: Undecoded) -> Any | None:
    """A `Decode`. Raises XmrError or UnusableImage for a file that cannot be decoded, or is above the bounds."""
    if file.modality != "image":
        own = {"extension": file.extension} if file.modality == "shape3d" else {}
        return LOADERS[file.modality]([file.content], file.data, **own)
    if count_pixels(file.content, max_pixels=UPLOAD_PIXELS) > file.most_pixels:
        return None
    side, how = file.data.load_size, file.data.interpolation
    return load_square(file.content, side, where="", max_pixels=UPLOAD_PIXELS, interpolation=how)[None]


def prepare() -> None:
    """Have the process started from which those that decode are forked: it begins to import what they need."""
    with _STARTING, without_interrupts():
        _processes.set_forkserver_preload(_PRELOADED)
        forkserver.ensure_running()


class Decoder:
    """A process that decodes one file after the other, for one thread. Where it ends, another takes its place."""

    def __init__(self, decode: Decode = decode_file, patience: float = DECODE_S) -> None:
        self._decode, self._patience = decode, patience
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    def start(self) -> None:
        """Have a process ready."""
        if self._process is None or not self._process.is_alive():
            prepare()
            with _STARTING, without_main(), without_interrupts():
                self._connection, theirs = _processes.Pipe()
                process = _processes.Process(target=_work, args=(theirs, self._decode), daemon=True)
                process.start()
            theirs.close()
            self._process = process

    def decode(self, file: Undecoded) -> Any | None:
        """The function's result.

        Raises:
            Refused: the file cannot be decoded, takes too long, or has ended the process.
        """
        try:
            self._send(file)
            answer = self._receive()
        except (EOFError, OSError) as error:
            assert self._process
            self._process.join(1)  # it has closed the connection, and may not have come to its end
            raise Refused(f"decoding it ended the process that did it ({self._end()})") from error
        if answer is None:
            self._end()
            raise Refused(f"it was not decoded within {self._patience:g} seconds")
        return _read(answer, file.modality)

    def _send(self, file: Undecoded) -> None:
        """Hand the file to a process; where the one of before has ended without taking it, to another."""
        self.start()
        try:
            self._hand_over(file)
        except (EOFError, OSError):
            self._end()
            self.start()
            self._hand_over(file)

    def _hand_over(self, file: Undecoded) -> None:
        """Send the file, and wait until the process has it: what ends the process afterwards is the file's doing."""
        assert self._connection
        self._connection.send(file)
        if self._receive() is None:
            raise Refused(f"no process took it within {self._patience:g} seconds")

    def _receive(self) -> bytes | None:
        """The next that the process sends; None where it takes too long."""
        assert self._connection
        return self._connection.recv_bytes() if self._connection.poll(self._patience) else None

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._process:
            self._process.kill()
            self._process.join(1)

    def _end(self) -> str:
        """End the process, and say how it ended."""
        assert self._process and self._connection
        self._process.kill()
        self._process.join()
        self._connection.close()
        status = self._process.exitcode or 0
        return signal.Signals(-status).name if status < 0 else f"status {status}"


def _read(answer: bytes, modality: str) -> Any | None:
    kind, body = answer[:1], answer[1:]
    if kind == _REFUSED:
        raise Refused(body.decode())
    if kind == _FAILED:
        raise RuntimeError(f"the process that decodes files failed:\n{body.decode()}")
    if not body:
        return None
    parts = load(body)
    return Waveforms(parts["0"], parts["1"]) if modality == "audio" else parts["0"]


def _work(connection: Connection, decode: Decode) -> None:
    """Decode until the server is gone."""
    end_with_parent()
    torch.set_num_threads(1)
    _bound_memory()
    with suppress(EOFError):
        while True:
            file = connection.recv()
            connection.send_bytes(_TAKEN)
            connection.send_bytes(_answer(decode, file))


def _bound_memory() -> None:
    """No more than DECODE_BYTES beside what is held already; and what crashes leaves no copy of it on the disk."""
    most = psutil.Process().memory_info().data + DECODE_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(decode: Decode, file: Undecoded) -> bytes:
    """The bytes that `_read` reads: data, since a file may have taken over the process that sends them."""
    try:
        decoded = decode(file)
    except MemoryError:
        return _REFUSED + f"it takes more than {DECODE_BYTES / 2**30:g} GB of memory".encode()
    except (UnusableImage, XmrError) as error:
        return _REFUSED + str(error).encode(errors="replace")
    except Exception:
        return _FAILED + traceback.format_exc().encode(errors="replace")
    parts = [] if decoded is None else decoded[:2] if isinstance(decoded, Waveforms) else [decoded]
    return _DECODED + (save({str(number): part for number, part in enumerate(parts)}) if parts else b"")
