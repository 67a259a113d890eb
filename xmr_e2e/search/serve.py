"""`xmr serve`: an index and its model behind a port."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from xmr_e2e.engine.model_folder import find_description, refuse_folder_of_runs
from xmr_e2e.engine.saved_model import load
from xmr_e2e.errors import XmrError
from xmr_e2e.escape import shell
from xmr_e2e.search.app import create_app
from xmr_e2e.search.index import DEFAULT, Index, require_same_model
from xmr_e2e.search.store import NAME

CONNECTIONS = 1000
"""at a time; uvicorn answers those beyond with 503"""
LOCAL = ("127.0.0.1", "localhost")


def open_port(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 chooses a free one.

    Raises:
        XmrError: the port is taken, or the address is none of this machine's.
    """
    try:
        return socket.create_server((host, port), backlog=CONNECTIONS)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise XmrError(
                f"port {port} of {host} is taken; choose another with --port, or end what uses it"
            ) from error
        raise XmrError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from error
    except OverflowError as error:
        raise XmrError(f"--port {port}: ports go from 0 to 65535") from error


def find_served(path: Path, index: Path | None) -> tuple[Path | None, Path]:
    """The run's folder, None for the one that the index names, and the index's folder.

    path: a run, or an index.
    """
    if index is None and (path / NAME).is_file():
        return None, path
    return path, index or path / DEFAULT


def serve(path: Path, index_folder: Path | None, listener: socket.socket, announce: Callable[[Index], None]) -> None:
    """Answer until the process is told to end.

    Args:
        path: a run or an index, see `find_served`.
        announce: called when all is ready.

    Raises:
        XmrError: no index or no model there, or an index of another model.
    """
    run, folder = find_served(path, index_folder)
    if run:
        refuse_folder_of_runs(run)
    index = Index(folder)
    model = load(run or _recorded_run(index))
    require_same_model(index, model)
    hosts = LOCAL if listener.getsockname()[0] in LOCAL else ["*"]
    config = uvicorn.Config(
        create_app(index, model, hosts=hosts),
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=1,
    )
    announce(index)
    uvicorn.Server(config).run(sockets=[listener])


def _recorded_run(index: Index) -> Path:
    """The run that an index names; where that was moved, the folder around the index."""
    if index.run.is_dir():
        return index.run
    around = index.folder.resolve().parent
    try:
        find_description(around)
    except XmrError as error:
        raise XmrError(
            f"{index.folder} was made with the model in {index.run}, which is no longer there; say where it is: "
            f"xmr serve RUN {shell('--index', index.folder)}"
        ) from error
    return around
