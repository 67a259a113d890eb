"""The server of the search page in a thread of the test's process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xmr_e2e.search.index import Index
from xmr_e2e.search.queues import InferenceQueues
from xmr_e2e.search.serve import Endpoint, make_server, open_endpoint


@contextmanager
def serving(
    index: Index, model: Any, host: str = "127.0.0.1", *, work: InferenceQueues | None = None, **options: Any
) -> Iterator[Endpoint]:
    """Serve for as long as the context lasts; gives the endpoint.

    options: of `open_endpoint`.
    """
    endpoint = open_endpoint(host, 0, **options)
    server = make_server(index, model, endpoint, work)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [endpoint.listener]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.005)
        yield endpoint
    finally:
        server.should_exit = True
        thread.join(30)
        endpoint.listener.close()
        assert not thread.is_alive()
