"""A real server process, asked by a real browser and by those who mean it harm."""

from __future__ import annotations

import asyncio
import gc
import http.client
import io
import json
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import torch
from PIL import Image
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from starlette.exceptions import HTTPException

import xmr_e2e
from tests.helpers import forked  # noqa: F401  (the server of processes has imported what is large)
from xmr_e2e.cli import main
from xmr_e2e.data.images import load_square
from xmr_e2e.errors import XmrError
from xmr_e2e.search.command import index_command, serve_command
from xmr_e2e.search.indexing import make_index
from xmr_e2e.search.limits import UPLOAD_BYTES
from xmr_e2e.search.queues import WorkQueue

if TYPE_CHECKING:
    from tests.helpers.browser import Browser

pytestmark = pytest.mark.slow

pytest_plugins = ["tests.helpers.browser", "tests.helpers.searched"]

PATIENCE = 120
"""seconds until what was expected is given up"""
HARMFUL = "<img src=x onerror=document.title='owned'>.jpg"
PASSWD = "../../../../../../etc/passwd"


# The server


class Server:
    """`xmr serve` in a process of its own."""

    def __init__(self, words: list[str], log: Path) -> None:
        self.log = log
        context = multiprocessing.get_context("forkserver")
        self.process = context.Process(target=_serve, args=(words, log))
        self.process.start()
        self.wait_for(lambda: "serving at" in log.read_text())
        address = re.search(r"http://127\.0\.0\.1:(\d+)/", log.read_text())
        assert address, log.read_text()
        self.url, self.port = address[0], int(address[1])

    def wait_for(self, seen: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not (self.log.exists() and seen()):
            assert self.process.is_alive(), self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)

    def end(self, number: signal.Signals) -> int | None:
        """The exit status after a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)
        self.process.join(PATIENCE)
        return self.process.exitcode

    def get(self, path: str) -> tuple[int, bytes]:
        """The answer to a path as it is; other clients would tidy it first."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()


def _serve(words: list[str], log: Path) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, set())  # a server for loader processes blocks what is for the training
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job, as tests may be, ignores it
    gc.freeze()
    with open(log, "a") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    os.environ.update(CUDA_VISIBLE_DEVICES="")
    torch.set_num_threads(1)
    sys.exit(main(["serve", *words]))


@contextmanager
def serving(run: Path, folder: Path) -> Iterator[Server]:
    server = Server([str(run), "--port", "0"], folder / "server.log")
    try:
        yield server
    finally:
        if server.process.is_alive():
            server.process.kill()
            server.process.join()


@pytest.fixture(scope="module")
def run(learnt_run: Path, tiny_shards: Path, make_picture: Callable[..., Path],
        tmp_path_factory: pytest.TempPathFactory) -> Path:  # fmt: skip
    """With an index of the test split, and of a picture whose name is harmful where it is taken for HTML."""
    folder = tmp_path_factory.mktemp("served")
    run = Path(shutil.copytree(learnt_run, folder / "run"))
    model = xmr_e2e.load(run)
    make_index(model, run, tiny_shards, run / "index", splits=["test"])
    make_picture(folder / "pictures" / HARMFUL, "sea")
    make_index(model, run, folder / "pictures", run / "index", add=True)
    return run


@pytest.fixture(scope="session")
def make_picture() -> Callable[..., Path]:
    from tests.helpers.drawn import COLORS, draw_image

    return lambda path, color: draw_image(path, color=COLORS[color], seed=77)


@pytest.fixture(scope="module")
def server(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(run, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=PATIENCE, trust_env=False) as client:
        yield client
        assert client.get("/api/about").status_code == 200  # whatever it was asked, it lives on


@pytest.fixture(scope="module")
def leaf(make_picture: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_picture(tmp_path_factory.mktemp("photos") / "leaf.jpg", "leaf")


def upload(client: httpx.Client, content: Any, name: str = "picture.jpg") -> httpx.Response:
    return client.post("/api/search", params={"k": 3}, files={"file": (name, content)})


# In a browser


def shown(browser: Browser, selector: str) -> list[str]:
    return [element.text for element in browser.find_elements(By.CSS_SELECTOR, selector)]


def wait_for_hits(browser: Browser, kind: str) -> None:
    WebDriverWait(browser, PATIENCE).until(lambda _: browser.find_elements(By.CSS_SELECTOR, f"#hits.{kind} li"))


def open_page(browser: Browser, server: Server) -> None:
    browser.get(server.url)
    WebDriverWait(browser, PATIENCE).until(lambda _: "items" in browser.find_element(By.ID, "about").text)


def press(browser: Browser, key: str) -> None:
    """Wherever the cursor is; `send_keys` takes text for a path where that is the field of a file."""
    ActionChains(browser).send_keys(key).perform()


def drop(browser: Browser, path: Path) -> None:
    """A file from the desktop, over the middle of the page."""
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for event in ("dragEnter", "dragOver", "drop"):
        browser.execute_cdp_cmd("Input.dispatchDragEvent", {"type": event, "x": 300, "y": 300, "data": data})


def test_a_sentence_that_is_typed_finds_pictures(browser: Browser, server: Server) -> None:
    open_page(browser, server)
    assert "13 items · tiny, test · pictures · Deep-SM (" in browser.find_element(By.ID, "about").text
    browser.switch_to.active_element.send_keys("here is one more leaf" + Keys.ENTER)  # the cursor is in the field
    wait_for_hits(browser, "image")
    assert len(shown(browser, "#hits li")) == 13
    assert shown(browser, "#hits .label")[:3] == ["leaf"] * 3
    assert "13 pictures" in browser.find_element(By.ID, "status").text
    first = "return document.querySelector('#hits img').naturalWidth"
    WebDriverWait(browser, PATIENCE).until(lambda _: browser.execute_script(first) == 64)
    assert browser.complaints() == []


def test_a_picture_that_is_dropped_finds_captions(browser: Browser, server: Server, leaf: Path) -> None:
    open_page(browser, server)
    drop(browser, leaf)
    wait_for_hits(browser, "text")
    assert len(shown(browser, "#hits li")) == 12
    assert all("leaf" in caption for caption in shown(browser, "#hits .caption")[:3])
    assert browser.find_element(By.ID, "preview").is_displayed()
    assert browser.complaints() == []


def test_a_picture_can_be_chosen_and_what_is_none_is_said(
    browser: Browser, server: Server, leaf: Path, tmp_path: Path
) -> None:
    open_page(browser, server)
    words, large = tmp_path / "words.jpg", tmp_path / "large.jpg"
    words.write_text("no picture")
    large.write_bytes(bytes(UPLOAD_BYTES + 1))
    choose = browser.find_element(By.ID, "file")
    error = browser.find_element(By.ID, "error")
    for path, message in ((words, "not an image"), (large, "the server takes files up to 10 MB")):
        choose.send_keys(str(path))
        WebDriverWait(browser, PATIENCE).until(lambda _, message=message: message in error.text)
        assert shown(browser, "#hits li") == []
    choose.send_keys(str(leaf))
    wait_for_hits(browser, "text")
    assert not error.is_displayed()


def test_the_page_is_used_with_the_keyboard_and_fits_a_phone(browser: Browser, server: Server) -> None:
    browser.resize(*browser.PHONE)
    open_page(browser, server)
    browser.switch_to.active_element.send_keys("here is one more apple" + Keys.ENTER)
    wait_for_hits(browser, "image")
    assert not browser.is_wider_than_window()
    while browser.switch_to.active_element.get_attribute("class") != "hit":
        press(browser, Keys.TAB)
    press(browser, Keys.ENTER)
    dialog = browser.find_element(By.ID, "more")
    assert dialog.is_displayed() and "Rank 1" in dialog.text and "here is one more apple" in dialog.text
    assert not browser.is_wider_than_window()
    press(browser, Keys.ESCAPE)
    assert not dialog.is_displayed()


def test_a_name_that_is_html_stays_text(browser: Browser, server: Server) -> None:
    open_page(browser, server)
    browser.switch_to.active_element.send_keys("<b>here</b> is one more sea" + Keys.ENTER)
    wait_for_hits(browser, "image")
    assert HARMFUL in shown(browser, "#hits .caption")
    assert browser.find_elements(By.CSS_SELECTOR, "#status b, [onerror]") == []
    assert browser.title == "Cross-modal search"
    assert browser.complaints() == []


def test_the_api_is_described_without_the_network(browser: Browser, server: Server, client: httpx.Client) -> None:
    browser.get(f"{server.url}docs")
    headings = shown(browser, "h2")
    paths = client.get("/openapi.json").json()["paths"]
    assert {f"{method.upper()} {path}" for path in paths for method in paths[path]} <= set(headings)
    assert {
        "GET /api/search",
        "POST /api/search",
        "GET /api/about",
        "GET /thumbnails/{item}",
        "GET /previews/{item}/{modality}",
    } <= set(headings)
    assert browser.complaints() == []
    for page in ("", "style.css", "players.js", "script.js", "docs"):
        foreign = re.findall(r"https?://[^\s'\"<]+", client.get(f"/{page}").text)
        assert all(address.startswith(server.url) for address in foreign)


# By HTTP


def test_the_api_answers_as_the_page_does(client: httpx.Client, leaf: Path) -> None:
    about = client.get("/api/about").json()
    assert (about["items"], about["found_by"], about["exact"]) == (13, {"image": 13, "text": 12}, True)
    assert list(about["takes"]) == ["image", "text"] and {".jpg", ".png"} <= set(about["takes"]["image"])
    found = client.get("/api/search", params={"text": "here is one more leaf", "k": 2}).json()
    assert found["finds"] == ["image"] and [hit["labels"] for hit in found["hits"]] == [["leaf"]] * 2
    thumbnail = client.get(found["hits"][0]["thumbnail"])
    assert thumbnail.headers["content-type"] == "image/jpeg" and thumbnail.content[:3] == b"\xff\xd8\xff"
    found = upload(client, leaf.read_bytes()).json()
    assert found["finds"] == ["text"] and [hit["labels"] for hit in found["hits"]] == [["leaf"]] * 3


def test_every_answer_is_closed_to_other_sites(client: httpx.Client) -> None:
    for path in ("/", "/docs", "/api/about", "/thumbnails/1", "/nothing", "/api/search", "/script.js"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
    assert client.get("/api/about", headers={"Host": "evil.example"}).status_code == 400


def test_an_upload_of_50_mb_is_refused(client: httpx.Client) -> None:
    answer = upload(client, bytes(50 * 2**20))
    assert (answer.status_code, answer.json()) == (
        413, {"detail": "the upload is larger than 10 MB; send a smaller file"}
    )  # fmt: skip


@pytest.mark.parametrize("framing", ["Content-Length: 52428800", "Transfer-Encoding: chunked"])
def test_an_upload_is_refused_before_all_of_it_has_come(server: Server, framing: str) -> None:
    head = "POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(f"{head}{framing}\r\n\r\n".encode())
        part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n' + bytes(UPLOAD_BYTES)
        if "chunked" in framing:
            connection.sendall(f"{len(part):x}\r\n".encode() + part)
        answer = connection.makefile("rb").readline()
    assert answer.startswith(b"HTTP/1.1 413")
    assert server.get("/api/about")[0] == 200


def png_of(width: int, height: int) -> bytes:
    """A header that stands for many pixels, with hardly any of them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(bytes(1000))
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_what_is_no_picture_is_refused(client: httpx.Client, leaf: Path) -> None:
    for content, message in {
        b"a text file": "not an image that can be read",
        b"": "the file is empty",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>": "not an image that can be read",
        png_of(12_000, 12_000): "above the cap of 40,000,000 pixels",
        png_of(100_000, 100_000): "above the cap of 40,000,000 pixels",
        leaf.read_bytes()[:300]: "cannot be",
    }.items():
        answer = upload(client, content)
        assert answer.status_code == 422 and message in answer.json()["detail"], answer.text
        assert answer.json()["detail"].startswith("picture.jpg cannot be used: ")
    assert client.post("/api/search", content=b"no form").json() == {"detail": "file: Field required"}


def test_no_path_from_outside_is_opened(server: Server, client: httpx.Client, leaf: Path) -> None:
    encoded = PASSWD.replace("/", "%2f")
    paths = [f"/thumbnails/{PASSWD}", f"/thumbnails/{encoded}", f"/{PASSWD}", f"/{encoded}", f"/docs/{encoded}",
             "//etc/passwd", "/thumbnails/%00", "/thumbnails/1.5", "/thumbnails/-1", "/thumbnails/" + "9" * 40,
             "/index.sqlite", "/page/index.html", f"/previews/1/{encoded}", f"/previews/{encoded}/audio",
             "/previews/1/image", "/previews/1/audio"]  # fmt: skip
    for path in paths:
        status, body = server.get(path)
        assert status in (404, 422) and set(json.loads(body)) == {"detail"}, path
    sentence = client.get("/api/search", params={"text": PASSWD, "k": 3})
    assert sentence.status_code == 200 and sentence.json()["finds"] == ["image"]
    assert client.get("/api/search", params={"text": "sea", "k": PASSWD}).status_code == 422
    for name in (PASSWD, "/etc/passwd", "a\0b.jpg"):
        assert upload(client, leaf.read_bytes(), name).json() == upload(client, leaf.read_bytes()).json()
    assert upload(client, PASSWD.encode(), PASSWD).status_code == 422
    assert client.post("/api/search", data={"file": PASSWD}).status_code == 422
    assert b"root:" not in sentence.content


@pytest.mark.parametrize(
    "parameters",
    [{}, {"text": ""}, {"text": " "}, {"text": "x" * 1001}, {"text": "sea", "k": 0}, {"text": "sea", "k": 101},
     {"text": "sea", "k": "many"}, {"text": "sea", "k": 10**30}],
)  # fmt: skip
def test_a_query_out_of_bounds_is_refused_in_a_sentence(client: httpx.Client, parameters: dict[str, Any]) -> None:
    answer = client.get("/api/search", params=parameters)
    assert answer.status_code == 422 and isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize("text", ["x" * 1000, "犬", "a\0b", "'; DROP TABLE items; --", "\ud7ff", "🦊" * 300])
def test_any_sentence_within_bounds_is_answered(client: httpx.Client, text: str) -> None:
    assert len(client.get("/api/search", params={"text": text, "k": 5}).json()["hits"]) == 5


def test_words_that_the_model_does_not_know_are_said(client: httpx.Client) -> None:
    for text, unknown, remark in (
        ("here is one more leaf", [], ""),
        ("a zebra, one more leaf", ["zebra"], "unknown to the model, and passed over: zebra"),
        ("zzz qqq 犬", ["zzz", "qqq", "犬"], "no word of the query is known to the model"),
        ("?!", [], "no word of the query is known to the model"),
    ):
        answer = client.get("/api/search", params={"text": text, "k": 1}).json()
        assert answer["unknown"] == unknown
        assert answer["remark"].startswith(remark) and bool(answer["remark"]) == bool(remark)


def test_200_requests_at_once_are_all_answered(client: httpx.Client, server: Server, leaf: Path) -> None:
    picture, start = leaf.read_bytes(), threading.Barrier(200)

    def ask(number: int) -> httpx.Response:
        start.wait()
        if number % 2:
            return upload(many, picture)
        return many.get("/api/search", params={"text": f"here is one more sea {number}", "k": 3})

    limits = httpx.Limits(max_connections=200)
    with httpx.Client(base_url=server.url, timeout=PATIENCE, trust_env=False, limits=limits) as many:
        with ThreadPoolExecutor(200) as pool:
            answers = list(pool.map(ask, range(200)))
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert all(
        len(a.json()["hits"]) == 3 if a.status_code == 200 else "too busy" in a.json()["detail"] for a in answers
    )
    assert sum(answer.status_code == 200 for answer in answers) >= 1


# Its end, its port, its queue


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_it_ends_when_it_is_told_to(run: Path, tmp_path: Path, number: signal.Signals, status: int) -> None:
    """With an idle connection, and two that are in the midst of their requests."""
    head = b"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
    with serving(run, tmp_path) as server, ExitStack() as open_ones:
        idle = open_ones.enter_context(httpx.Client(base_url=server.url, trust_env=False, timeout=PATIENCE))
        for more in (b"\r\nno form", b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x"):
            slow = open_ones.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            slow.sendall(head + more)
        assert idle.get("/api/about").status_code == 200
        assert server.end(number) == status, server.log.read_text()
    assert "Traceback" not in server.log.read_text()


def test_a_port_that_is_taken_is_said_before_anything_is_loaded(server: Server, tmp_path: Path) -> None:
    with pytest.raises(XmrError, match=f"port {server.port} of 127.0.0.1 is taken; choose another with --port"):
        serve_command(tmp_path / "no run", port=server.port)
    with pytest.raises(XmrError, match="ports go from 0 to 65535"):
        serve_command(tmp_path / "no run", port=70_000)
    with pytest.raises(XmrError, match=r"cannot listen on 192\.0\.2\.1"):
        serve_command(tmp_path / "no run", host="192.0.2.1")


def test_without_an_index_it_is_said_how_to_make_one(learnt_run: Path) -> None:
    with pytest.raises(XmrError, match="does not exist: make an index with `xmr index RUN SHARDS`"):
        serve_command(learnt_run, port=0)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_command_that_is_printed_serves_the_index_wherever_it_lies(
    run: Path, tiny_shards: Path, tmp_path: Path, elsewhere: bool, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    own = Path(shutil.copytree(run, tmp_path / "a run", ignore=shutil.ignore_patterns("index")))
    index_command(own, tiny_shards, split=("val",), out=tmp_path / "else where" if elsewhere else None)
    *_, printed = capsys.readouterr().out.strip().split("; ")
    served: list[Any] = []
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **options: served.append(options))
    words = shlex.split(printed)
    assert words[:2] == ["xmr", "serve"] and main([*words[1:], "--port", "0"]) == 0
    assert served and "serving at http://127.0.0.1:" in capsys.readouterr().out


def test_who_can_come_is_said_where_it_is_not_this_machine_alone(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)
    for options, seen, hidden in (
        ("", [], ["whoever", "token"]),
        ("--token", ["?token="], ["whoever"]),
        ("--host 0.0.0.0", ["?token=", "whoever reaches", "over the network", "with its token"], []),
        ("--name a.example --name b.example", ["?token=", "through a proxy as a.example, b.example"], ["network"]),
        ("--host 0.0.0.0 --no-token", ["whoever reaches", "no token is asked for"], ["?token="]),
    ):
        assert main(["serve", str(run), "--port", "0", *options.split()]) == 0
        printed = capsys.readouterr().out
        assert all(words in printed for words in seen) and not any(words in printed for words in hidden), printed
    assert main(["serve", str(run), "--port", "0", "--token", "--no-token"]) == 2


def test_a_picture_that_is_decoded_beside_the_model_is_embedded_as_by_the_model(run: Path) -> None:
    model = xmr_e2e.load(run)
    noise = Image.effect_noise((700, 500), 80).convert("RGB")
    for format in ("JPEG", "PNG"):
        stream = io.BytesIO()
        noise.save(stream, format)
        square = load_square(stream.getvalue(), model.data.load_size, where="")
        assert (model.embed_decoded("image", [square[None]]) == model.embed_images([stream.getvalue()])).all()


def test_more_work_than_the_queue_holds_is_turned_away() -> None:
    async def ask() -> None:
        work, go_on = WorkQueue("a", queue=2, share=2), threading.Event()
        waiting = [asyncio.ensure_future(work.do("a", go_on.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(HTTPException, match="2 searches are waiting already") as refusal:
            await work.do("a", go_on.wait)
        assert refusal.value.status_code == 503 and refusal.value.headers
        go_on.set()
        assert await asyncio.gather(*waiting) == [True, True]
        assert await work.do("a", int, "7") == 7  # and those who come later are served
        work.close()

    asyncio.run(ask())


def test_who_waits_too_long_is_told_and_not_served_in_vain() -> None:
    async def ask() -> None:
        work, go_on, served = WorkQueue("a", 9, 9, patience=0.05), threading.Event(), io.StringIO()
        busy = asyncio.ensure_future(work.do("a", go_on.wait))
        await asyncio.sleep(0)
        with pytest.raises(HTTPException, match="was not done within"):
            await work.do("a", served.write, "late")
        with pytest.raises(HTTPException, match="was not done within"):
            await busy
        go_on.set()
        work.close()
        assert served.getvalue() == ""

    asyncio.run(ask())
