"""`xmr serve`: an index and its model behind a port."""

from __future__ import annotations

import errno
import logging
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import uvicorn

from xmr_e2e.errors import XmrError
from xmr_e2e.escape import one_line, shell
from xmr_e2e.models.model_folder import find_description, refuse_folder_of_runs
from xmr_e2e.models.saved_model import SavedModel, load
from xmr_e2e.search.access import LOCAL, Rules, is_loopback, is_wildcard, rules_for
from xmr_e2e.search.app import create_app
from xmr_e2e.search.connections import CONNECTIONS, Protocol, allow_connections
from xmr_e2e.search.decoding import prepare
from xmr_e2e.search.index import DEFAULT, Index, require_same_model
from xmr_e2e.search.queues import InferenceQueues
from xmr_e2e.search.store import NAME


@dataclass(frozen=True)
class Endpoint:
    """The socket of a server, and the rules by which it answers."""

    listener: socket.socket
    rules: Rules

    @property
    def is_open(self) -> bool:
        """Others than the users of this machine reach it, directly or through a proxy."""
        return not is_loopback(self.listener.getsockname()[0]) or bool(self.rules.also)

    @property
    def address(self) -> str:
        """To be opened in a browser, with the token."""
        host, port = self.listener.getsockname()[:2]
        if is_wildcard(host):
            host = next(iter(_outer_addresses(self.listener.family)), LOCAL[0])
        token = f"?token={self.rules.token}" if self.rules.token else ""
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/{token}"


def open_endpoint(
    host: str, port: int, *, names: Sequence[str] = (), root_path: str = "", token: bool | None = None
) -> Endpoint:
    """Listen, and decide who is answered.

    Args:
        names: by which a proxy is asked.
        root_path: under which a proxy shows the server.
        token: whether one is needed; by default where others than the users of this machine come to the server.

    Raises:
        XmrError: the port is taken, or the address is none of this machine's; what is no name or path.
    """
    listener = open_port(host, port)
    try:
        bound, port = listener.getsockname()[:2]
        rules = rules_for(host, bound, port, names=names, root_path=root_path)
        if token or (token is None and Endpoint(listener, rules).is_open):
            rules = rules_for(host, bound, port, names=names, root_path=root_path, token=secrets.token_urlsafe(32))
        return Endpoint(listener, rules)
    except BaseException:
        listener.close()
        raise


def open_port(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 chooses a free one.

    Raises:
        XmrError: the port is taken, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    try:
        listener = socket.create_server((host, port), family=family, backlog=CONNECTIONS, dualstack_ipv6=both)
        # asyncio does it only for sockets that say that they are TCP's: an answer's body waited 40 ms behind its head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise XmrError(
                f"port {port} of {host} is taken; choose another with --port, or end what uses it"
            ) from error
        raise XmrError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from error
    except OverflowError as error:
        raise XmrError(f"--port {port}: ports go from 0 to 65535") from error
    except UnicodeError as error:
        raise XmrError(f"--host {host!a}: no name of a host") from error


def find_served(path: Path, index: Path | None) -> tuple[Path | None, Path]:
    """The run's folder, None for the one around an index, and the index's folder.

    path: a run, or an index.
    """
    if index is None and (path / NAME).is_file():
        return None, path
    return path, index or path / DEFAULT


def serve(path: Path, index_folder: Path | None, endpoint: Endpoint, announce: Callable[[Index], None]) -> None:
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
    prepare()
    model = load(run or run_around(index))
    require_same_model(index, model)
    server = make_server(index, model, endpoint)
    announce(index)
    server.run(sockets=[endpoint.listener])


def make_server(
    index: Index, model: SavedModel, endpoint: Endpoint, work: InferenceQueues | None = None
) -> uvicorn.Server:
    """uvicorn around the application, to be run with the endpoint's listener."""
    allow_connections()
    for name in ("uvicorn.error", "asyncio", "python_multipart"):
        logging.getLogger(name).setLevel(logging.ERROR)  # what clients do wrong could fill the console
    return uvicorn.Server(uvicorn.Config(
        create_app(index, model, endpoint.rules, work=work),
        http=Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # anybody on this machine could send them
        timeout_graceful_shutdown=1,
    ))  # fmt: skip


def run_around(index: Index) -> Path:
    """The run in whose folder an index lies.

    The folder that an index names is not taken for it: whoever made the index could name any, and a model is more than
    figures.

    Raises:
        XmrError: there is no model; says which one the index names.
    """
    around = index.folder.resolve().parent
    try:
        find_description(around)
    except XmrError as error:
        command = shell("xmr", "serve", index.run, "--index", index.folder)
        raise XmrError(
            f"{index.folder}: there is no model in the folder around it. The index names {one_line(str(index.run))}; "
            f"if you know that one: {one_line(command)}"
        ) from error
    return around


def _outer_addresses(family: socket.AddressFamily) -> list[str]:
    """The addresses of this machine that others reach, IPv4 first; of one family."""
    found = [address for some in psutil.net_if_addrs().values() for address in some]
    families = (socket.AF_INET, socket.AF_INET6) if family == socket.AF_INET6 else (socket.AF_INET,)
    return [each.address for family in families for each in found
            if each.family == family and "%" not in each.address and not is_loopback(each.address)]  # fmt: skip
