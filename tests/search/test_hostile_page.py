"""The page's server, asked by those who may not, and by those who want more than their part; with an index whose every
word is hostile, in a real browser."""

from __future__ import annotations

import asyncio
import http.client
import io
import logging
import multiprocessing
import os
import re
import shlex
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.helpers import served
from tests.helpers.fuzzing import WORDS, damaged, fuzzed
from tests.helpers.media_bytes import mp4, off, sound_in_mp4, wav
from tests.helpers.obedient import obey, wait_for
from xmr_e2e.data.config import Data
from xmr_e2e.data.media import Shapes, Sounds, Videos
from xmr_e2e.data.preview_files import MEDIA_TYPES
from xmr_e2e.errors import XmrError
from xmr_e2e.models.given import RAW_KINDS
from xmr_e2e.search import connections, limits
from xmr_e2e.search.access import Rules, host_name, own_addresses, rules_for
from xmr_e2e.search.app import create_app
from xmr_e2e.search.command import serve_command
from xmr_e2e.search.draft import NewItem, rewritten
from xmr_e2e.search.index import Index
from xmr_e2e.search.queues import InferenceQueues, WorkQueue
from xmr_e2e.search.serve import Endpoint, open_endpoint
from xmr_e2e.search.store import NAME, Item
from xmr_e2e.shards.schema import MODALITIES
from xmr_e2e.similarity import Similarity

if TYPE_CHECKING:
    from tests.helpers.browser import Browser

pytestmark = pytest.mark.slow

pytest_plugins = ["tests.helpers.browser"]

DIM = 8
FAIL, FAIL_WITH_PATH = "a sentence at which the model fails", "a sentence that leads to a message for the console"
SECRET = "/home/somebody/secret"
RUN = "document.documentElement.dataset.owned=1"
HOSTILE = [
    f"<img src=x onerror={RUN}>",
    f"</script><script>{RUN}</script>",
    f"javascript:{RUN}",
    f'" onmouseover="{RUN}" autofocus onfocus="{RUN}',
    f"<svg/onload={RUN}>",
    f"<iframe srcdoc='<script>parent.{RUN}</script>'></iframe>",
    "{{7*7}} ${7*7} {% raw %}",
    "\u202egnp.exe\u2066 right to left",
    "\x1b]0;title\x07 \x00 \ufffe end",
    "</li></ol><form action=//evil.example><input name=token>",
    "x" * 5000,
    "<base href=//evil.example/>&lt;&amp;\u2028\u2029",
]


DATA = Data(
    Path("nowhere"),
    image_size=32,
    load_size=32,
    audio=Sounds(seconds=0.5, windows=2),
    video=Videos(frames=2, size=32),
    shape3d=Shapes(points=16),
)
SHAPES = {"image": (1, 3, 32, 32), "audio": (1, 2, 8000), "video": (1, 2, 3, 32, 32), "shape3d": (1, 16, 3)}


class Model:
    """Embeds by the letters of a text and the mean of what a file was decoded to."""

    similarity: Similarity = "cosine"
    config = SimpleNamespace(title="Model")
    fingerprint = "0"

    def __init__(self, sources: dict[str, str] | None = None) -> None:
        self.data = DATA
        self.method = SimpleNamespace(input_kinds=sources or RAW_KINDS)

    def embed_texts(self, texts: list[str]) -> NDArray[np.float32]:
        if texts[0] == FAIL:
            raise RuntimeError(f"{SECRET}\x1b[2J")
        if texts[0] == FAIL_WITH_PATH:
            raise XmrError(f"{SECRET}: the embedding is not a number")
        return np.stack([vector(hash(text)) for text in texts])

    def embed_decoded(self, modality: str, decoded: list[Any]) -> NDArray[np.float32]:
        (tensor,) = decoded if modality != "audio" else decoded[0][:1]
        assert tuple(tensor.shape) == SHAPES[modality]
        return vector(int(100 * tensor.float().mean()))[None]

    def unknown_words(self, text: str) -> Any:
        return Unknown((text,) if text in HOSTILE else ())


class Unknown(SimpleNamespace):
    def __init__(self, words: tuple[str, ...]) -> None:
        super().__init__(words=words)

    def __str__(self) -> str:
        return f"unknown to the model: {', '.join(self.words)}" if self.words else ""


def vector(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(abs(seed)).normal(size=DIM).astype(np.float32)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


PICTURE = encoded(Image.new("RGB", (40, 30), "teal"), "JPEG")


def make(folder: Path, *, texts: bool = True) -> Index:
    """An index of items whose captions, classes, names and collections are all hostile."""
    folder.mkdir(parents=True)
    with rewritten(folder / NAME, keep=False) as store:
        store.describe(run=f"/runs/{HOSTILE[0]}/{HOSTILE[4]}", fingerprint="0", similarity="cosine")
        store.add(
            NewItem(
                Item(f"{n}", HOSTILE[-1 - n], word if n % 2 else "", f"key{n}", word, (word, *HOSTILE), (word, "sea")),
                {name: vector(n) for name in (MODALITIES if texts else ["image"])},
                PICTURE if n % 3 else None,
                {name: word.encode() for name in MEDIA_TYPES if texts and n % 2},
            )
            for n, word in enumerate(HOSTILE)
        )
    return Index(folder)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return make(tmp_path_factory.mktemp("hostile") / "index")


def serving(index: Index, host: str = "127.0.0.1", **options: Any) -> AbstractContextManager[Endpoint]:
    """The server, with a model that takes no time."""
    return served.serving(index, Model(), host, **options)


@pytest.fixture(scope="module")
def port(index: Index) -> Iterator[int]:
    with serving(index) as endpoint:
        yield endpoint.listener.getsockname()[1]


def send(port: int, data: bytes, *, host: str = "127.0.0.1") -> bytes:
    """The first answer to these bytes."""
    with socket.create_connection((host, port), timeout=30) as connection:
        connection.sendall(data)
        stream = connection.makefile("rb")
        head = b"".join(iter(stream.readline, b"\r\n"))
        length = re.search(rb"(?i)content-length: (\d+)", head)
        return head + b"\r\n" + stream.read(int(length[1]) if length else -1)


def ask(port: int, path: str = "/api/about", method: str = "GET", **headers: str) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=30) as client:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.request(method, f"http://127.0.0.1:{port}{path}", headers=named)


def upload(port: int, content: bytes, name: str = "a.jpg", **options: Any) -> httpx.Response:
    url = f"http://127.0.0.1:{port}/api/search?k=2"
    return httpx.post(url, files={"file": (name, content)}, trust_env=False, timeout=60, **options)


def is_closed(headers: str) -> bool:
    return "default-src 'none'" in headers and "nosniff" in headers and "access-control-allow" not in headers.lower()


# What is answered


def test_every_answer_is_json_and_closed_also_where_the_application_is_not_asked(
    port: int, index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    host, form = b"Host: localhost\r\n", b"Content-Type: multipart/form-data; boundary=x\r\n"
    answers = {
        200: send(port, b"GET /api/about HTTP/1.1\r\n" + host + b"\r\n"),
        404: send(port, b"GET /nothing HTTP/1.1\r\n" + host + b"\r\n"),
        405: send(port, b"DELETE /api/search HTTP/1.1\r\n" + host + b"\r\n"),
        413: send(port, b"POST /api/search HTTP/1.1\r\n" + host + form + b"Content-Length: 99999999999\r\n\r\n"),
        422: send(port, b"GET /api/search HTTP/1.1\r\n" + host + b"\r\n"),
        400: send(port, b"this is no HTTP\r\n\r\n"),
    }
    with caplog.at_level(logging.ERROR):
        for sentence in (FAIL, FAIL_WITH_PATH):
            query = sentence.replace(" ", "+").encode()
            answers[500] = send(port, b"GET /api/search?text=" + query + b" HTTP/1.1\r\n" + host + b"\r\n")
            assert SECRET.encode() not in answers[500] and b"its console says why" in answers[500]
    assert SECRET in caplog.text  # which the console writes
    for status, answer in answers.items():
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode()), answer
        assert is_closed(head.decode()) and head.lower().count(b"content-security-policy") == 1, head
        assert body.startswith(b'{"detail":' if status != 200 else b"{"), body


def test_an_index_without_texts_says_so_without_its_folder(tmp_path: Path) -> None:
    with serving(make(tmp_path / "secret" / "index", texts=False)) as endpoint:
        answer = upload(endpoint.listener.getsockname()[1], PICTURE)
    assert answer.status_code == 422 and "none of the items can be found by its text" in answer.json()["detail"]
    assert "secret" not in answer.text


# By which name


@pytest.mark.parametrize(
    ("asked", "bound", "good", "bad"),
    [
        ("127.0.0.1", "127.0.0.1", ["127.0.0.1", "127.0.0.1:80", "localhost:8000", "LOCALHOST", "[::1]:8000"],
         ["evil.com", "localhost.evil.com", "", "127.0.0.1.", "127.0.0.1@evil.com", "127.0.0.1:80:80", "[::1", "a b"]),
        ("127.0.0.2", "127.0.0.2", ["127.0.0.2:8000", "localhost", "127.0.0.1"], ["evil.com", "127.0.0.3"]),
        ("::1", "::1", ["[::1]", "[0:0:0:0:0:0:0:1]:9", "localhost"], ["::1", "[::2]", "evil.com"]),
        ("192.0.2.7", "192.0.2.7", ["192.0.2.7", "192.0.2.7:8000"], ["localhost", "127.0.0.1", "evil.com", "node"]),
        ("node", "192.0.2.7", ["node:8000", "NODE", "192.0.2.7"], ["node.", "node.evil.com", "localhost"]),
        ("0.0.0.0", "0.0.0.0", ["127.0.0.1", "localhost", socket.gethostname()], ["0.0.0.0", "evil.com"]),
        ("::", "::", ["127.0.0.1", "[::1]", "localhost"], ["[::]", "evil.com"]),
    ],
)  # fmt: skip
def test_a_server_has_its_own_addresses_for_names(asked: str, bound: str, good: list[str], bad: list[str]) -> None:
    names = rules_for(asked, bound, 8000).names
    assert all(host_name(host) in names for host in good)
    assert not any(host_name(host) in names for host in bad)
    more = rules_for(asked, bound, 8000, names=["search.example.org", "2001:DB8::1"]).names
    assert all(host_name(host) in more for host in [*good, "search.example.org:443", "[2001:db8::1]"])
    assert not any(host_name(host) in more for host in [*bad, "example.org", "a.search.example.org"])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1"])
def test_no_other_name_reads_anything_whatever_local_address_it_listens_on(index: Index, host: str) -> None:
    with serving(index, host) as endpoint:
        port = endpoint.listener.getsockname()[1]
        for name, status in ((f"[{host}]" if ":" in host else host, 200), ("evil.example", 400)):
            answer = send(port, f"GET /api/about HTTP/1.1\r\nHost: {name}\r\n\r\n".encode(), host=host)
            assert answer.startswith(f"HTTP/1.1 {status} ".encode()) and (status == 200) == (b"collections" in answer)
        two = b"GET /api/about HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
        assert send(port, two, host=host).startswith(b"HTTP/1.1 400 ")
        assert not endpoint.is_open and not endpoint.rules.token


@pytest.mark.parametrize("name", ["", "*", "http://a", "a:80", "a/b", "a b", ".", "a..b", "\x1b]0;x\x07", "evil.com."])
def test_what_is_no_name_or_path_is_an_error(name: str) -> None:
    with pytest.raises(XmrError, match="--name") as error:
        open_endpoint("127.0.0.1", 0, names=[name])
    assert "\x1b" not in str(error.value)
    for path in ("search", "/search/", "//a", "/a/../b", "/a b", "/%2e", "/a\r\nb", "/"):
        with pytest.raises(XmrError, match="--root-path"):
            open_endpoint("127.0.0.1", 0, root_path=path)


# From which page


def test_pages_of_other_sites_get_no_answer(port: int) -> None:
    for path in (
        "/api/about",
        "/api/search?text=sea",
        "/thumbnails/2",
        "/previews/2/audio",
        "/openapi.json",
        "/script.js",
    ):
        assert ask(port, path).status_code == 200
        for site in ("cross-site", "same-site", "of a later standard"):
            assert ask(port, path, Sec_Fetch_Site=site).status_code == 403
            assert ask(port, path, Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate").status_code == 403
        assert ask(port, path, Sec_Fetch_Site="same-origin").status_code == 200
        assert ask(port, path, Sec_Fetch_Site="none", Sec_Fetch_Mode="navigate").status_code == 200
        assert ask(port, path, Origin="http://evil.example").status_code == 403
    assert ask(port, "/?text=a+link", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status_code == 200
    assert ask(port, "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors").status_code == 403
    own, another = f"http://127.0.0.1:{port}", "http://127.0.0.1:1"
    for origin, status in (
        (own, 200),
        (another, 403),
        ("null", 403),
        ("http://[", 403),
        (f"file://127.0.0.1:{port}", 403),
    ):
        assert upload(port, PICTURE, headers={"Origin": origin}).status_code == status, origin


# With which token


def test_a_token_is_asked_for_where_others_come(index: Index) -> None:
    for host, options, needed in (
        ("127.0.0.1", {}, False), ("::1", {}, False), ("127.0.0.1", {"token": True}, True),
        ("127.0.0.1", {"names": ["a.example"]}, True), ("0.0.0.0", {}, True), ("::", {}, True),
        ("0.0.0.0", {"token": False}, False), ("0.0.0.0", {"token": True}, True),
    ):  # fmt: skip
        endpoint = open_endpoint(host, 0, **options)  # type: ignore[arg-type]
        with endpoint.listener:
            assert bool(endpoint.rules.token) is needed and len(endpoint.rules.token) in (0, 43)
            assert ("?token=" in endpoint.address) is needed and "http://0.0.0.0" not in endpoint.address


def test_nothing_is_answered_without_the_token(index: Index, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), serving(index, token=True) as endpoint, ExitStack() as stack:
        port, token = endpoint.listener.getsockname()[1], endpoint.rules.token
        for path in ("/", "/docs", "/script.js", "/api/about", "/thumbnails/1", "/previews/2/audio", "/openapi.json",
                     "/nothing",
                     "/api/search?text=sea", f"/api/about?token={token}"):  # fmt: skip
            for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": f"Basic {token}"},
                            {"Authorization": f"Bearer {token}x"}, {"Cookie": f"xmr_token_{port}="},
                            {"Cookie": f"other={token}"}, {"Authorization": b"Bearer \xe9"}):  # fmt: skip
                answer = httpx.get(f"http://127.0.0.1:{port}{path}", headers=headers, trust_env=False)
                assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
                assert is_closed(str(answer.headers)) and "xmr serve" in answer.text
                assert "collections" not in answer.text and token not in answer.text
        for query in ("token=wrong", "token=", f"token={'&' * 5000}", f"token={token}{'&x=1' * 30}"):
            assert ask(port, f"/?{query}").status_code == 401
        assert ask(port, "/api/about", Authorization=f"bearer {token}").json()["items"] == len(HOSTILE)
        browser = stack.enter_context(httpx.Client(trust_env=False, base_url=f"http://127.0.0.1:{port}"))
        answer = browser.get(f"/?text=a%0d%0ab&token={token}&x=%22")
        assert (answer.status_code, answer.headers["location"]) == (303, "/?text=a%0D%0Ab&x=%22")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie
        assert browser.get("/").status_code == browser.get("/api/about").status_code == 200
        assert browser.get("/docs").text.count("Authorization: Bearer TOKEN") == 2
    own = [each for each in caplog.records if not each.name.startswith("http")]
    assert not [each for each in own if token in each.getMessage() or each.levelno >= logging.ERROR]


# Behind a proxy, under a path


@contextmanager
def proxy(target: int, prefix: str, *, strips: bool) -> Iterator[int]:
    """A reverse proxy as they are usual: under a path, which it may take away, with a Host of its own; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def handle(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", target)) as server:
            head = b""
            while b"\r\n\r\n" not in head:
                part = client.recv(65536)
                if not part:
                    return
                head += part
            head = re.sub(rb"(?i)connection: [^\r]*\r\n", b"", head).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
            head = re.sub(rb"(?i)(\r\nhost: )[^\r]*", rb"\1search.example.org", head)
            if strips:
                head = head.replace(f" {prefix}".encode(), b" ", 1)
            server.sendall(head)
            back = threading.Thread(target=copy, args=(server, client))
            back.start()
            copy(client, server)
            back.join()

    def copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            for part in iter(lambda: source.recv(65536), b""):
                sink.sendall(part)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


class Links(HTMLParser):
    """The addresses in a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attributes if name in ("href", "src") and value]


@pytest.mark.parametrize("strips", [True, False])
def test_it_is_whole_under_a_path_behind_a_proxy(index: Index, strips: bool) -> None:
    options = {"names": ["search.example.org"], "root_path": "/search", "token": False}
    with (
        serving(index, **options) as endpoint,
        proxy(endpoint.listener.getsockname()[1], "/search", strips=strips) as port,
    ):
        base = f"http://127.0.0.1:{port}/search/"
        with httpx.Client(trust_env=False, headers={"Connection": "close"}) as client:
            for page in ("", "docs"):
                links = Links(client.get(base + page).text).found
                assert links and all(client.get(urljoin(base + page, link)).status_code == 200 for link in links)
            origin = {"Origin": "https://search.example.org", "Sec-Fetch-Site": "same-origin"}
            found = client.post(f"{base}api/search", files={"file": PICTURE}, headers=origin).json()
            thumbnails = [hit["thumbnail"] for hit in found["hits"] if hit["thumbnail"]]
            assert thumbnails and all(client.get(urljoin(base, each)).content == PICTURE for each in thumbnails)
            assert (
                client.get(f"{base}api/about", headers={"X-Forwarded-For": "::", "Forwarded": "x"}).status_code == 200
            )
            assert client.get(f"{base}nothing").status_code == 404
            if not strips:
                bare = client.get(base.rstrip("/"))
                assert (bare.status_code, bare.headers["location"]) == (308, "/search/")


def test_what_a_client_says_of_a_proxy_is_not_believed(port: int) -> None:
    headers = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    assert ask(port, "/docs", **headers).text.count(f"http://127.0.0.1:{port}/api/search") == 2


# In a browser


def test_no_word_of_an_index_runs_in_a_browser(browser: Browser, index: Index, tmp_path: Path) -> None:
    """Behind a proxy and with a token, as it is used where strangers come."""
    options = {"names": ["search.example.org"], "root_path": "/search"}
    with (
        serving(index, **options) as endpoint,
        proxy(endpoint.listener.getsockname()[1], "/search", strips=True) as port,
    ):
        base = f"http://127.0.0.1:{port}/search/"
        browser.get(base)
        assert "needs a token" in browser.page_source
        browser.get(f"{base}?token={endpoint.rules.token}")
        assert browser.current_url == base
        ready = WebDriverWait(browser, 30)
        ready.until(lambda _: "items" in browser.find_element(By.ID, "about").text)
        for sentence in (HOSTILE[0], HOSTILE[3], HOSTILE[5]):
            field = browser.find_element(By.ID, "text")
            field.clear()
            field.send_keys(sentence + Keys.ENTER)
            ready.until(lambda _, s=sentence: s in browser.find_element(By.ID, "remark").text)
            assert sentence in browser.find_element(By.ID, "status").text
            hits = browser.find_elements(By.CSS_SELECTOR, "#hits li button")
            assert len(hits) == len(HOSTILE)
        browser.save_page(tmp_path / "page.png")
        for hit in hits:
            browser.execute_script("arguments[0].click()", hit)
            assert HOSTILE[1] in browser.find_element(By.ID, "more").text
            browser.execute_script("document.getElementById('more').close()")
        assert not browser.is_wider_than_window()
        made = "return [...document.querySelectorAll('script, iframe, form, base, svg, [onerror], [onload], a[href]')]"
        assert len(browser.execute_script(made)) == 5  # our two scripts, two forms and a link
        assert browser.execute_script("return document.documentElement.dataset.owned ?? null") is None
        # But for the page without a token, of which the browser is told, as of an icon at the host's root.
        assert [each for each in browser.complaints() if "401 (Unauthorized)" not in each] == []
        browser.get(f"{base}?text={HOSTILE[1]}")
        ready.until(lambda _: browser.find_elements(By.CSS_SELECTOR, "#hits li"))
        browser.get(f"{base}docs")
        assert browser.find_elements(By.CSS_SELECTOR, "section")
        browser.save_page(tmp_path / "docs.png")
        assert browser.execute_script("return document.documentElement.dataset.owned ?? null") is None
        assert browser.complaints() == []


# Everybody's part


def is_over(connection: socket.socket) -> bool:
    """True once the other side has closed it."""
    connection.setblocking(False)
    try:
        return not connection.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_1200_silent_connections_keep_nobody_out(index: Index) -> None:
    connections.allow_connections()
    with serving(index) as endpoint, ExitStack() as stack:
        port = endpoint.listener.getsockname()[1]
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)) for _ in range(1200)]
        for connection in silent[::2]:
            with suppress(OSError):  # it has been closed already
                connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
        for _ in range(10):
            assert ask(port, "/api/search?text=sea").status_code == 200
        assert sum(is_over(connection) for connection in silent) >= 200


def test_who_says_nothing_or_half_a_header_is_closed(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_S", 0.3)
    monkeypatch.setattr(connections, "REQUEST_S", 0.6)
    whole = b"GET /api/about HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serving(index) as endpoint:
        for data, expected in (
            (b"", b""),
            (b"GET / HTTP/1.1\r\nHost: loc", b"HTTP/1.1 408 "),
            (whole + b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 "),
            (b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
             b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x", b""),
        ):  # fmt: skip
            with socket.create_connection(endpoint.listener.getsockname(), timeout=10) as connection:
                connection.sendall(data)
                begin, answer = time.monotonic(), b""
                try:
                    answer = b"".join(iter(lambda: connection.recv(65536), b""))
                except ConnectionResetError:
                    assert not expected
            assert answer.startswith(expected) and bool(answer) == bool(expected) and time.monotonic() - begin < 8
            if b"408" in expected:
                assert is_closed(answer.decode())


def test_a_body_that_goes_on_after_the_answer_is_not_read_for_ever(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DISCARDED_S", 0.3)
    with (
        serving(index) as endpoint,
        socket.create_connection(endpoint.listener.getsockname(), timeout=10) as connection,
    ):
        connection.sendall(b"GET /api/about HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n")
        deadline = time.monotonic() + 8
        with pytest.raises(OSError):
            while time.monotonic() < deadline:
                connection.sendall(b"x")
                time.sleep(0.02)


class Idle(SimpleNamespace):
    """A connection, as `make_room` sees it."""

    def __init__(self, client: str, since: float = 0.0, busy: bool = False) -> None:
        super().__init__(client_name=client, idle_since=since, is_busy=busy, dropped=False)
        self.loop = SimpleNamespace(time=lambda: 100.0)

    def drop(self) -> None:
        self.dropped = True


def test_of_too_many_connections_the_idle_ones_of_who_has_most_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS", 6)
    monkeypatch.setattr(connections, "CLIENT_CONNECTIONS", 4)

    def dropped(others: list[Idle], new: Idle) -> list[int] | None:
        taken = connections.make_room(others, new)  # type: ignore[arg-type]
        return [n for n, each in enumerate(others) if each.dropped] if taken else None

    mine = [Idle("a", 3.0), Idle("a", 2.0), Idle("a", 1.0, busy=True)]
    assert dropped(mine, Idle("a")) == []
    assert dropped([*mine, Idle("a", 4.0)], Idle("a")) == [1]
    assert dropped([Idle("a", 99.9) for _ in range(4)], Idle("a")) == []  # just made, and perhaps asking already
    assert dropped([Idle("a", n) for n in (5, 4)] + [Idle("b", n) for n in (9, 8, 7, 6)], Idle("c")) == [5]
    assert dropped([Idle("a", busy=True) for _ in range(6)], Idle("b")) is None


def test_who_has_his_part_waits_unread_and_others_do_not() -> None:
    async def run() -> None:
        bodies = limits.Bodies(total=10, share=6, waiting=3, client_waiting=2, patience=5)
        order: list[str] = []

        async def hold(name: str, client: str, size: int, end: asyncio.Event) -> None:
            async with bodies.room(client, size):
                order.append(name)
                await end.wait()

        ends = [asyncio.Event() for _ in range(6)]
        first = asyncio.create_task(hold("first", "a", 5, ends[0]))
        second = asyncio.create_task(hold("second", "a", 5, ends[1]))
        third = asyncio.create_task(hold("third", "a", 1, ends[2]))  # would fit, and does not overtake its own
        other = asyncio.create_task(hold("other", "b", 4, ends[3]))
        await asyncio.sleep(0.01)
        assert order == ["first", "other"]
        with pytest.raises(limits.HTTPException, match="too many uploads are waiting"):
            await hold("too many", "a", 1, ends[4])
        third.cancel()
        ends[0].set()
        await asyncio.sleep(0.01)
        assert order == ["first", "other", "second"]
        for end in ends:
            end.set()
        await asyncio.gather(first, second, third, other, return_exceptions=True)
        async with bodies.room("a", 6), bodies.room("b", 4):  # all has been given back
            pass

    asyncio.run(run())


def test_no_room_for_too_long_is_said() -> None:
    async def run() -> None:
        bodies = limits.Bodies(total=10, share=10, patience=0.05)
        async with bodies.room("a", 10):
            with pytest.raises(limits.HTTPException, match="no room for the upload") as refusal:
                async with bodies.room("b", 1):
                    pass
        assert refusal.value.status_code == 503
        async with bodies.room("b", 10):
            pass

    asyncio.run(run())


def test_one_client_cannot_take_all_places_of_a_queue() -> None:
    async def run() -> None:
        queue, go_on = WorkQueue("x", queue=3, share=2), threading.Event()
        waiting = [asyncio.ensure_future(queue.do("a", go_on.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(limits.HTTPException, match="too busy"):
            await queue.do("a", go_on.wait)
        waiting.append(asyncio.ensure_future(queue.do("b", go_on.wait)))
        await asyncio.sleep(0.01)
        go_on.set()
        assert await asyncio.gather(*waiting) == [True] * 3
        queue.close()

    asyncio.run(run())


def test_clients_are_addresses_and_networks() -> None:
    addresses = "192.0.2.1 ::ffff:192.0.2.1 2001:db8::1 2001:db8::ffff:1 2001:db8:0:1::1 fe80::1%eth0".split()
    names = [limits.client_of((address, 1)) for address in addresses]
    assert names == ["192.0.2.1", "192.0.2.1", "2001:db8::", "2001:db8::", "2001:db8:0:1::", "fe80::"]
    assert limits.client_of(None) == limits.client_of(("testclient", 5)) == ""


# What decodes


@pytest.fixture(scope="module")
def obeying(index: Index) -> Iterator[int]:
    """The port of a server whose decoders do what files say."""
    with serving(index, work=InferenceQueues(obey)) as endpoint:
        yield endpoint.listener.getsockname()[1]


REAL = {"a.jpg": PICTURE, "a.wav": wav(0.2), "a.off": off()}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("abort", "decoding it ended the process that did it (SIGABRT)"),
        ("exit", "decoding it ended the process that did it (status 3)"),
        ("fill", "it takes more than 2 GB of memory"),
    ],
)
def test_a_file_that_ends_its_decoder_ends_nothing_else(obeying: int, name: str, order: str, reason: str) -> None:
    expected = upload(obeying, REAL[name], name).json()
    answer = upload(obeying, order.encode(), name)
    assert (answer.status_code, answer.json()) == (422, {"detail": f"{name} cannot be used: {reason}"})
    after = upload(obeying, REAL[name], name)
    assert after.status_code == 200 and after.json() == expected


def test_a_file_that_is_decoded_for_too_long_is_given_up_and_the_next_one_is_not(index: Index) -> None:
    others = decoders()
    with serving(index, work=InferenceQueues(obey, patience=3)) as endpoint:
        port = endpoint.listener.getsockname()[1]
        assert upload(port, REAL["a.wav"], "a.wav").status_code == 200
        own = decoders() - others
        answer = upload(port, b"hang", "a.wav")
        assert answer.json() == {"detail": "a.wav cannot be used: it was not decoded within 3 seconds"}
        assert answer.status_code == 422
        assert upload(port, REAL["a.wav"], "a.wav").status_code == 200
        assert len(own - decoders()) == 1, "the process that hung is gone"
    assert not decoders() - others, "none outlives the server"


def test_a_decoder_that_has_ended_by_itself_costs_no_file(index: Index) -> None:
    others = decoders()
    with serving(index) as endpoint:
        for number in decoders() - others:
            os.kill(number, signal.SIGSTOP)  # it takes nothing any more, and ends with the file on its way
            threading.Timer(0.5, os.kill, (number, signal.SIGKILL)).start()  # as the kernel does where memory is short
        assert upload(endpoint.listener.getsockname()[1], PICTURE).status_code == 200


def decoders() -> set[int]:
    """The numbers of the processes that this one has started."""
    return {process.pid for process in multiprocessing.active_children() if process.pid}


def test_a_fault_of_a_decoder_is_for_the_console(obeying: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = upload(obeying, b"fail")
        assert (answer.status_code, answer.json()) == (500, {"detail": limits.FAILED})
        assert upload(obeying, PICTURE).status_code == 200
        deadline = time.monotonic() + 30
        while "a fault of this program" not in caplog.text:  # it is written once the answer is sent
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_sentence_waits_for_no_picture_and_a_photograph_for_no_large_one(obeying: int, tmp_path: Path) -> None:
    large = f"wait {tmp_path}\n".encode() + encoded(Image.new("1", (4000, 4000)), "BMP")
    check_nobody_waits(obeying, tmp_path, large, "a.bmp")


def test_a_sentence_and_a_picture_wait_for_no_sound(obeying: int, tmp_path: Path) -> None:
    check_nobody_waits(obeying, tmp_path, f"wait {tmp_path}\n".encode() + wav(0.2), "a.wav")


def check_nobody_waits(port: int, folder: Path, content: bytes, name: str) -> None:
    """For a file that is being decoded."""
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(upload, port, content, name)
        wait_for(folder / "begun")
        try:
            assert ask(port, "/api/search?text=sea").status_code == upload(port, PICTURE).status_code == 200
            assert not waits.done()
        finally:
            (folder / "go").touch()
        assert waits.result().status_code == 200


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(port: int) -> None:
    whole = encoded(Image.new("1", (6324, 6324)), "PNG")  # 40 million
    assert upload(port, whole).status_code == 200
    for size in ((10_900, 10_900), (6400, 6400), (2**16, 4)):
        begin = time.monotonic()
        answer = upload(port, encoded(Image.new("1", size), "TIFF", compression="group4"))
        assert answer.status_code == 422 and "a.jpg cannot be used: " in answer.json()["detail"]
        assert time.monotonic() - begin < 2


# Whose model


def test_an_index_does_not_choose_the_folder_of_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "a folder; touch victim"
    elsewhere.mkdir()
    (elsewhere / "model.json").write_text("{}")
    folder = tmp_path / "received" / "index"
    folder.mkdir(parents=True)
    with rewritten(folder / NAME, keep=False) as store:
        store.describe(run=f"{elsewhere}\x1b[2J", fingerprint="0", similarity="cosine")
        store.add([NewItem(Item("0", "c", "", "k", "s", ("t",), ()), {"text": vector(0)}, None)])
    monkeypatch.setattr("xmr_e2e.search.serve.load", lambda _: pytest.fail("a model was loaded"))
    with pytest.raises(XmrError, match="there is no model in the folder around it") as error:
        serve_command(folder, port=0)
    message = str(error.value)
    assert "\x1b" not in message
    command = shlex.split(message[message.index("xmr serve") :])
    assert command == ["xmr", "serve", rf"{elsewhere}\x1b[2J", "--index", str(folder)]


# Whatever is sent

REQUESTS = [
    b"GET /api/search?text=sea&k=3 HTTP/1.1\r\nHost: localhost\r\nCookie: a=b\r\n\r\n",
    b"GET /thumbnails/2 HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /previews/2/video HTTP/1.1\r\nHost: localhost\r\nRange: bytes=3-9\r\n\r\n",
    b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Type: multipart/form-data; "
    b"boundary=x\r\n\r\n1e\r\n--x\r\nContent-Disposition: fo\r\n0\r\n\r\n",
    b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 75\r\nContent-Type: multipart/form-data; "
    b'boundary=x\r\n\r\n--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\r\n--x--\r\n',
]


@fuzzed
@given(damaged(*REQUESTS))
def test_whatever_bytes_come_the_server_answers_in_its_way_and_goes_on(port: int, data: bytes) -> None:
    answer = b""
    with socket.create_connection(("127.0.0.1", port)) as connection, suppress(TimeoutError, ConnectionResetError):
        connection.sendall(data)
        connection.settimeout(0.02)  # for what would be waited for longer, no answer has come either
        while part := connection.recv(65536):
            answer += part
    if answer:
        head = answer.partition(b"\r\n\r\n")[0]
        assert re.match(rb"HTTP/1.1 (200|206|400|403|404|405|408|413|416|422|501) ", head), answer
        assert is_closed(head.decode("latin-1"))


TEXT = st.one_of(st.text(), st.sampled_from(WORDS)).map(lambda text: text.encode(errors="surrogatepass"))
NAMES = st.sampled_from(
    [b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"cookie", b"authorization", b"content-length",
     b"content-type", b"transfer-encoding", b"accept", b"range", b"x-forwarded-for", b"forwarded"]
)  # fmt: skip


@fuzzed
@given(
    st.sampled_from(["GET", "POST", "HEAD", "PUT", "x"]),
    st.sampled_from(
        ["/", "/docs", "/api/search", "/api/about", "/thumbnails/", "/previews/2/audio", "/search", "/search/api/about"]
    ),
    st.one_of(st.just(""), st.text()),
    st.lists(st.tuples(st.sampled_from([b"text", b"k", b"finds", b"token", b""]), TEXT), max_size=4),
    st.lists(st.tuples(NAMES, TEXT), max_size=4),
    st.binary(max_size=100),
)
def test_whatever_is_in_query_and_headers_the_application_answers(
    applications: list[Any], method: str, path: str, more: str, query: list[Any], headers: list[Any], body: bytes
) -> None:
    for application in applications:
        for first in ([], [(b"host", b"localhost"), (b"authorization", b"Bearer t")]):
            scope = {
                "type": "http", "http_version": "1.1", "method": method, "path": path + more, "raw_path": b"",
                "query_string": b"&".join(name + b"=" + value for name, value in query), "root_path": "",
                "headers": [*first, *headers], "client": ("192.0.2.1", 1), "server": None, "scheme": "http",
            }  # fmt: skip
            start = asyncio.run(answer_of(application, scope, body))
            assert start["status"] in (200, 206, 303, 308, 400, 401, 403, 404, 405, 413, 416, 422), start
            assert sum(name.lower() == b"content-security-policy" for name, _ in start["headers"]) == 1
            assert not any(b"\r" in value or b"\n" in value for _, value in start["headers"])


async def answer_of(application: Any, scope: dict[str, Any], body: bytes) -> Any:
    sent: list[Any] = []
    parts = iter([{"type": "http.request", "body": body}])

    async def receive() -> Any:
        return next(parts, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    await application(scope, receive, send)
    assert not sent[-1].get("more_body") and sum("status" in message for message in sent) == 1
    return sent[0]


@pytest.fixture(scope="module")
def applications(index: Index) -> list[Any]:
    names = frozenset(own_addresses("127.0.0.1"))
    model: Any = Model()
    return [create_app(index, model, Rules(names)),
            create_app(index, model, Rules(names, token="t", root_path="/search"))]  # fmt: skip


PICTURES = [
    encoded(Image.linear_gradient("L").resize((24, 18)).convert(mode), format, **options)
    for format, mode, options in (
        ("PNG", "RGBA", {}), ("PNG", "P", {}), ("JPEG", "RGB", {}), ("JPEG", "CMYK", {"progressive": True}),
        ("GIF", "P", {}), ("WEBP", "RGBA", {}), ("BMP", "RGB", {}), ("TIFF", "RGB", {}),
        ("TIFF", "1", {"compression": "group4"}), ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    )
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@fuzzed
@given(damaged(*PICTURES))
def test_whatever_picture_is_uploaded_it_finds_or_is_refused(port: int, clients: list[Any], data: bytes) -> None:
    check_answer(port, clients, "a", data)


MEDIA = {
    "a.wav": [wav(0.2), sound_in_mp4(0.2)],
    "a.mp4": [mp4(each=2), mp4(each=2, size=(32, 32), rate=1)],
    "a.off": [off()],
    "a.stl": [off(), b"solid a\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\n"
              b"endfacet\nendsolid a\n"],
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MEDIA)
@fuzzed
@given(data=st.data())
def test_whatever_medium_is_uploaded_it_finds_or_is_refused(
    port: int, clients: list[Any], name: str, data: st.DataObject
) -> None:
    check_answer(port, clients, name, data.draw(damaged(*MEDIA[name])))


def check_answer(port: int, clients: list[Any], name: str, data: bytes) -> None:
    if not clients:
        clients.append(http.client.HTTPConnection("127.0.0.1", port, timeout=30))
    part = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    clients[0].request("POST", "/api/search", part.encode() + data + b"\r\n--x--\r\n", headers)
    answer = clients[0].getresponse()
    content = answer.read()
    assert answer.status in (200, 422), content
    assert answer.status == 200 or (b"cannot be used: " in content and b"given bytes" not in content)


@pytest.fixture(scope="module")
def clients() -> Iterator[list[Any]]:
    made: list[Any] = []
    yield made
    for client in made:
        client.close()
