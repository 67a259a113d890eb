"""Addresses, servers, mounted folders and caches of strangers: whoever opens them loses, sends and runs nothing."""

from __future__ import annotations

import gzip
import ipaddress
import itertools
import json
import multiprocessing
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.helpers.fuzzing import VALUES, WORDS, damaged, fuzzed, hostile, hostile_json
from xmr_e2e.cli import main
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.shards.manifest import NAME, REMOTE, Shard, load_manifest
from xmr_e2e.shards.remote import fetch, http
from xmr_e2e.shards.remote import mount as remote
from xmr_e2e.shards.remote.address import check_url, hide_secrets, holds_secret
from xmr_e2e.shards.remote.cache import Cache, make_folder
from xmr_e2e.shards.remote.trust import is_trusted, permissions_folder, trust

pytestmark = pytest.mark.slow

TAR = "train-00000.tar"
PUBLIC, INNER = "127.0.0.2", "127.0.0.1"
"""two addresses of this machine. To the tests of redirects, only the first is a public one."""

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Site:
    """A web server: what it answers to each path, or to all with the path ""; and what it was asked."""

    url: str
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    headers: list[Message] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


class Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.site.requests.append(self.path)
        self.site.headers.append(self.headers)
        path = self.path.partition("?")[0]
        answer = self.site.answers.get(path) or self.site.answers.get("") or status(404)
        try:
            answer(self)
        except OSError:  # the client has gone
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


def status(number: int, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(number)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def moved(location: str) -> Answer:
    return status(302, Location=location)


def content(data: bytes, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def endless(piece: bytes, pause_s: float = 0) -> Answer:
    """The same bytes again and again, until the client goes."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while True:
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            time.sleep(pause_s)

    return answer


def endless_head(handler: BaseHTTPRequestHandler) -> None:
    """A head of an answer that grows by one header, again and again."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X: y\r\n")
        time.sleep(0.05)


@pytest.fixture
def serve() -> Iterator[Callable[..., Site]]:
    """Starts web servers: `serve(address, folder=…)`."""
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(address: str = INNER, folder: Path | None = None) -> Site:
        handler = type("SiteHandler", (Handler,), {})
        server = ThreadingHTTPServer((address, 0), handler)
        server.daemon_threads = True  # endless answers
        server.block_on_close = False
        handler.site = site = Site(f"http://{address}:{server.server_port}")
        for path in folder.iterdir() if folder else ():
            site.answers[f"/{path.name}"] = content(path.read_bytes())
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        servers.append((server, thread))
        return site

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home of the test's own: what the user allows is kept there."""
    monkeypatch.setattr(fetch, "FIRST_WAIT_S", 0.001)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three samples in one shard."""
    folder = tmp_path_factory.mktemp("small")
    samples = []
    for number in range(3):
        image = folder / f"{number}.png"
        Image.new("RGB", (4, 4), (80 * number, 0, 0)).save(image)
        samples.append(RawSample(image.name, "train", image, ("a text",), ("thing",)))
    options = BuildOptions(shard_samples=8, workers=1)
    build_shards(folder / "shards", dataset="small", classes=["thing"], samples=samples, options=options)
    return folder / "shards"


def mount(url: str, folder: Path, **options: Any) -> None:
    remote.mount(url, folder, **{"cache": folder.parent / "cache", "cache_bytes": 10**9, **options})


def receive(shards: Path, folder: Path, url: str, cache: str | None = None) -> Path:
    """A folder as somebody else could give it away: mounted at that URL, without tars."""
    folder.mkdir()
    for path in shards.iterdir():
        if path.suffix != ".tar":
            shutil.copy(path, folder)
    (folder / REMOTE).write_text(json.dumps({"url": url, "cache": cache, "cache_bytes": 10**9}))
    return folder


def snapshot(folder: Path) -> dict[str, bytes | str]:
    """All that lies in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else "folder" for path in folder.rglob("*")
    }


def printed(capfd: pytest.CaptureFixture[str]) -> str:
    out, err = capfd.readouterr()
    return " ".join((out + err).split())


# Which addresses are taken


@pytest.mark.parametrize(
    "url",
    [
        "https://host/folder",
        "http://127.0.0.1:8000/folder",
        "http://[::1]:8000/folder",
        "https://user:password@host/{}?X-Amz-Signature=1",
        "s3://bucket/folder",
        "gs://bucket/folder",
        "sftp://user@host:2222/folder",
        "file:///mnt/my data/Bücher",
        "hf://datasets/user/name",
    ],
)
def test_addresses_of_hosts_and_paths_are_taken(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("reference://{}::file:///tmp/refs.json", "reference:// is not read"),
        ("reference:///tmp/refs.json", "reference:// is not read"),
        ("simplecache::https://host/x", "not a URL"),
        ("zip://x::https://host/x", "cannot be chained"),
        ("https://host/x::file:///etc", "cannot be chained"),
        ("sftp://[::1]/x", "cannot be chained"),
        ("file://host/etc", "absolute path"),
        ("file://etc/passwd", "absolute path"),
        ("s3://bucket/x?versionId=1", "has no query"),
        ("https://host/x#{}", "has no fragment"),
        ("https:///x", "the host is missing"),
        ("https://:80/x", "host or port is malformed"),
        ("http://host\\@127.0.0.1/", "host or port is malformed"),
        ("http://a b/", "the host is missing or has characters"),
        ("http://host:99999/", "host or port is malformed"),
        ("http://[/", "host or port is malformed"),
        ("https://host/\nhttps://other/", "a URL has no line breaks"),
        (" https://host/", "a URL has no line breaks"),
        ("https://host/\x1b]0;title\x07", "a URL has no line breaks"),
        ("https://host/\u202efdp", "a URL has no line breaks"),
        ("https://ho\u200bst/", "a URL has no line breaks"),
        ("https://host/\ud800", "a URL has no line breaks"),
        ("pipe:cat {};\ntouch victim", "pipe: addresses are commands, which are not run"),
        ("PIPE:cat {}", "not a URL"),
        ("HTTPS://host/", "not a URL"),
        ("https://host/" + "x" * 5000, "at most 4,096"),
        ("", "not a URL"),
    ],
)
def test_addresses_that_are_more_than_a_host_and_a_path_are_refused_also_in_a_folder(
    url: str, reason: str, shards: Path, tmp_path: Path
) -> None:
    with pytest.raises(XmrError) as error:
        mount(url, tmp_path / "mounted")
    assert reason in str(error.value)
    assert str(error.value).isprintable()
    folder = receive(shards, tmp_path / "received", "https://host/")
    (folder / REMOTE).write_text(json.dumps({"url": url, "cache": None, "cache_bytes": 1}))
    with pytest.raises(XmrError, match=r"remote\.json: "):
        SplitReader(folder, "train")


def test_a_received_file_of_references_is_not_opened(shards: Path, tmp_path: Path) -> None:
    """Its templates are programs in older versions of fsspec."""
    victim = tmp_path / "victim"
    template = "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ cycler.__init__.__globals__.os.mkdir('" + str(victim)
    gen = {"key": TAR, "url": template + "') }}", "dimensions": {"i": {"stop": 1}}, "offset": "0", "length": "1"}
    references = tmp_path / "refs.json"
    references.write_text(json.dumps({"version": 1, "templates": {}, "gen": [gen], "refs": {}}))
    folder = receive(shards, tmp_path / "received", f"reference://{{}}::file://{references}")
    with pytest.raises(XmrError, match=r"reference:// is not read"):
        SplitReader(folder, "train").read(0)
    assert main(["shards", "trust", str(folder)]) == 2
    assert not victim.exists()


@pytest.mark.parametrize("protocol", ["memory", "hf", "ftp", "local"])
def test_other_protocols_are_for_who_asks_for_them(
    protocol: str, shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url = f"{protocol}://folder/{tmp_path.name}"
    folder = receive(shards, tmp_path / "received", url)
    assert main(["shards", "trust", str(folder)]) == 2
    assert f"--allow-protocol {protocol}`" in printed(capfd)
    with pytest.raises(XmrError, match=f"{protocol}:// is not among the protocols"):
        SplitReader(folder, "train").read(0)
    with pytest.raises(XmrError, match=f"{protocol}:// is not among the protocols"):
        mount(url, tmp_path / "mounted")


def test_a_protocol_that_was_allowed_is_used(shards: Path, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for path in shards.iterdir():
        memory.pipe_file(f"/small/{path.name}", path.read_bytes())
    words = ["shards", "mount", "memory://small", str(tmp_path / "mounted"), "--cache", str(tmp_path / "cache")]
    assert main(words) == 2
    assert main([*words, "--allow-protocol", "memory"]) == 0
    assert SplitReader(tmp_path / "mounted", "train").read(0).image
    assert main(words) == 0, "what was allowed stays so"


# Who has allowed it


def test_a_received_folder_asks_no_server_until_its_user_has_allowed_it(
    serve: Callable[..., Site], shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    site = serve(folder=shards)
    folder = receive(shards, tmp_path / "received", f"{site.url}/{{}}?do=it", str(tmp_path / "cache"))
    assert main(["shards", "info", str(folder)]) == 0
    for command in ("verify", "sheet"):
        extra = [str(tmp_path / "sheet.png")] if command == "sheet" else []
        main(["shards", command, str(folder), *extra])
        said = printed(capfd)
        assert f"would be fetched from {site.url}/{{}}?***, kept in {tmp_path / 'cache'}" in said
        assert f"`xmr shards trust {folder}`" in said
    assert not site.requests
    assert not (tmp_path / "cache").exists()
    assert main(["shards", "trust", str(folder)]) == 0
    assert f"{site.url}/{{}}?***, kept in {tmp_path / 'cache'}" in printed(capfd)
    assert SplitReader(folder, "train").read(0).image
    assert site.requests == [f"/{TAR}?do=it"]


def test_what_is_allowed_is_one_address_with_one_cache(
    serve: Callable[..., Site], shards: Path, tmp_path: Path
) -> None:
    site = serve(folder=shards)
    mount(site.url, tmp_path / "mounted")
    site.requests.clear()
    for name, url, cache in [
        ("other_url", f"{site.url}/admin", str(tmp_path / "cache")),
        ("other_cache", site.url, str(tmp_path / "precious")),
        ("default_cache", site.url, None),
    ]:
        with pytest.raises(XmrError, match="Each user allows that once"):
            SplitReader(receive(shards, tmp_path / name, url, cache), "train").read(0)
    assert not site.requests
    assert not (tmp_path / "precious").exists()
    same = receive(shards, tmp_path / "same", site.url, str(tmp_path / "cache"))
    assert SplitReader(same, "train").read(0).image


def test_each_user_allows_a_folder_for_themselves(
    serve: Callable[..., Site], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = serve(folder=shards)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mount(site.url, tmp_path / "mounted", cache=None)
    assert SplitReader(tmp_path / "mounted", "train").read(0).image
    monkeypatch.setenv("HOME", str(tmp_path / "colleague"))
    with pytest.raises(XmrError, match=r"notes it in .*colleague/\.config/xmr_e2e/trusted"):
        SplitReader(tmp_path / "mounted", "train").read(0)
    assert main(["shards", "trust", str(tmp_path / "mounted")]) == 0
    assert SplitReader(tmp_path / "mounted", "train").read(0).image


def test_what_is_allowed_is_noted_for_the_user_alone_and_can_be_taken_back(tmp_path: Path) -> None:
    url = "https://user:hunter2@host/{}?X-Amz-Signature=s3cr3t"
    trust(url, tmp_path / "cache")
    assert is_trusted(url, tmp_path / "cache")
    (note,) = permissions_folder().iterdir()
    assert note.stat().st_mode & 0o777 == 0o600
    assert note.parent.stat().st_mode & 0o777 == 0o700
    assert json.loads(note.read_text()) == {"url": "https://***@host/{}?***", "cache": str(tmp_path / "cache")}
    note.unlink()
    assert not is_trusted(url, tmp_path / "cache")


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b"[" * 100_000, b'{"url": "https://other/"}'])
def test_nothing_that_is_written_among_the_permissions_is_one(damage: bytes, tmp_path: Path) -> None:
    """They are told by their names, so that there is nothing to be damaged."""
    trust("https://host/", None)
    (note,) = permissions_folder().iterdir()
    note.write_bytes(damage)
    (note.parent / "trusted.json").write_bytes(damage)
    assert is_trusted("https://host/", None)
    assert not is_trusted("https://other/", None)


def _trust(number: int) -> None:
    trust(f"https://host/{number}", None)


def test_processes_that_allow_something_at_once_lose_nothing() -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(_trust, range(32), chunksize=1)
        pool.close()
        pool.join()  # to end them by a signal, as leaving the pool does, is a race where this process handles signals
    assert all(is_trusted(f"https://host/{number}", None) for number in range(32))


@pytest.mark.parametrize("home", ["/dev/null", "relative", "/proc/none"])
def test_a_home_that_cannot_be_written_is_told(
    home: str, serve: Callable[..., Site], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", home)
    with pytest.raises(XmrError, match="set HOME to a folder that can be written"):
        mount(serve(folder=shards).url, tmp_path / "mounted")
    assert not (tmp_path / "mounted").exists()


def test_no_home_at_all_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", fail)
    with pytest.raises(XmrError, match="there is no home directory: set HOME"):
        is_trusted("https://host/", None)


@pytest.mark.parametrize(
    "document",
    [
        {"url": "https://host/", "cache": "relative", "cache_bytes": 1},
        {"url": "https://host/", "cache": "/tmp/\x1b]0;", "cache_bytes": 1},
        {"url": "https://host/", "cache": "/tmp/\0", "cache_bytes": 1},
        {"url": "https://host/", "cache": 5, "cache_bytes": 1},
        {"url": "https://host/", "cache": None, "cache_bytes": 0},
        {"url": "https://host/", "cache": None, "cache_bytes": 10**400},
        {"url": "https://host/", "cache": None, "cache_bytes": 1.5},
        {"url": "https://host/", "cache": None, "cache_bytes": 1, "more": 1},
        {"url": ["https://host/"], "cache": None, "cache_bytes": 1},
        {"cache": None, "cache_bytes": 1},
        [],
    ],
    ids=str,
)
def test_a_damaged_remote_json_is_told_in_one_line(
    document: Any, shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = receive(shards, tmp_path / "received", "https://host/")
    (folder / REMOTE).write_text(json.dumps(document))
    assert main(["shards", "trust", str(folder)]) == 2
    error = capfd.readouterr().err
    assert error.startswith(f"error: {folder / REMOTE}: ")
    assert error.count("\n") == 1


def test_a_remote_json_that_is_no_file_is_not_waited_for(shards: Path, tmp_path: Path) -> None:
    folder = receive(shards, tmp_path / "received", "https://host/")
    (folder / REMOTE).unlink()
    os.mkfifo(folder / REMOTE)
    with pytest.raises(XmrError, match="not a regular file"):
        remote.load_mount(folder)
    (folder / REMOTE).unlink()
    (folder / REMOTE).symlink_to("/dev/zero")
    with pytest.raises(XmrError, match="a link that leads out"):
        remote.load_mount(folder)
    (folder / REMOTE).unlink()
    (folder / REMOTE).write_bytes(b" " * 10**6)
    with pytest.raises(XmrError, match="1,000,000 bytes; at most 65,536"):
        remote.load_mount(folder)


def test_mounting_over_a_received_folder_touches_nothing_that_its_links_name(
    serve: Callable[..., Site], shards: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    folder = receive(shards, tmp_path / "received", "https://host/")
    for name in (REMOTE, NAME, f"{TAR[:-4]}.index.safetensors"):
        (folder / name).unlink()
        (folder / name).symlink_to(victim)
    mount(serve(folder=shards).url, folder)
    assert victim.read_text() == "mine"
    assert load_manifest(folder) == load_manifest(shards)


def test_a_command_to_copy_is_one_command_whatever_the_stranger_writes(
    shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    victim = tmp_path / "victim"
    inner = "'; touch victim; echo `touch victim` $(touch victim) '"
    folder = receive(shards, tmp_path / inner, f"hf://datasets/{{}}{inner}", f"/{inner}")
    assert main(["shards", "trust", str(folder)]) == 2
    command = capfd.readouterr().err.partition("If you trust it: `")[2].strip()[:-1]
    assert shlex.split(command)[:5] == ["xmr", "shards", "mount", f"hf://datasets/{{}}{inner}", str(folder)]
    subprocess.run(["sh", "-c", command.replace("xmr", "true", 1)], check=True, cwd=tmp_path)
    (folder / REMOTE).write_text(json.dumps({"url": "https://host/", "cache": f"/{inner}", "cache_bytes": 1}))
    with pytest.raises(XmrError) as error:
        SplitReader(folder, "train").read(0)
    command = str(error.value).partition("If you trust it: `")[2].rpartition("`")[0]
    assert shlex.split(command) == ["xmr", "shards", "trust", str(folder)]
    subprocess.run(["sh", "-c", command.replace("xmr", "true", 1)], check=True, cwd=tmp_path)
    assert not victim.exists()


# Where servers redirect to


@pytest.fixture
def sites(serve: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, shards: Path) -> tuple[Site, Site]:
    """A server that passes for a public one, and one that only this machine should reach."""
    monkeypatch.setattr(http, "_is_public", lambda address: address == PUBLIC)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    public, inner = serve(PUBLIC), serve(INNER, shards)
    return public, inner


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "127.1"])
def test_no_redirect_leads_from_a_public_server_into_the_own_network(
    host: str, sites: tuple[Site, Site], tmp_path: Path
) -> None:
    public, inner = sites
    public.answers[""] = moved(f"http://{host}:{inner.port}/manifest.json")
    reason = "this machine or of its network, which is not followed|is not a canonical IPv4 address"
    with pytest.raises(XmrError, match=rf"({reason}) \(tried once\)"):
        mount(public.url, tmp_path / "mounted")
    assert not inner.requests


def test_nor_does_a_chain_of_them(sites: tuple[Site, Site], serve: Callable[..., Site], tmp_path: Path) -> None:
    public, inner = sites
    second = serve(PUBLIC)
    public.answers[""] = moved(f"{second.url}/x")
    second.answers[""] = moved(f"{inner.url}/manifest.json")
    with pytest.raises(XmrError, match="this machine or of its network"):
        mount(public.url, tmp_path / "mounted")
    assert second.requests
    assert not inner.requests


def test_a_name_that_has_another_address_at_the_next_moment_is_not_connected_to(
    sites: tuple[Site, Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at before, it was a public one."""
    public, inner = sites

    async def sound(*_: Any) -> bool:
        return False

    monkeypatch.setattr(http, "_addresses_are", sound)
    public.answers[""] = moved(f"http://localhost:{inner.port}/manifest.json")
    with pytest.raises(XmrError, match="this machine or of its network"):
        mount(public.url, tmp_path / "mounted")
    assert not inner.requests


def test_nor_does_a_redirect_that_a_proxy_would_follow(
    sites: tuple[Site, Site], serve: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, proxy = sites[1], serve(INNER)
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "")
    proxy.answers[""] = moved(f"http://127.1:{inner.port}/manifest.json")
    with pytest.raises(XmrError, match="this machine or of its network"):
        mount("http://data.invalid/shards", tmp_path / "mounted")
    assert proxy.requests == ["http://data.invalid/shards/manifest.json"]
    assert not inner.requests


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file:///etc/passwd", "to file://, which is not followed"),
        ("ftp://host/x", "to ftp://, which is not followed"),
        ("", "to what is no URL"),
        ("http:", "redirects more than 5 times"),
        ("http://host:99999/", "to what is no URL"),
    ],
)
def test_redirects_to_other_protocols_are_not_followed(
    location: str, reason: str, sites: tuple[Site, Site], tmp_path: Path
) -> None:
    sites[0].answers[""] = moved(location)
    with pytest.raises(XmrError, match=reason):
        mount(sites[0].url, tmp_path / "mounted")


def test_redirects_from_https_to_http_are_not_followed() -> None:
    with pytest.raises(XmrError, match="from https:// to http://"):
        http._next(http.URL("https://host/x"), "http://host/x")
    assert str(http._next(http.URL("http://host/x"), "https://host/x")) == "https://host/x"


def test_redirects_end(sites: tuple[Site, Site], tmp_path: Path) -> None:
    public = sites[0]
    public.answers[""] = moved("/again")
    with pytest.raises(XmrError, match="redirects more than 5 times"):
        mount(public.url, tmp_path / "mounted")
    assert len(public.requests) == 6


def test_redirects_within_a_server_and_among_public_ones_are_followed_without_secrets(
    sites: tuple[Site, Site],
    serve: Callable[..., Site],
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    public, second = sites[0], serve(PUBLIC, shards)
    monkeypatch.setitem(fsspec.config.conf, "http", {"headers": {"X-Token": "s3cr3t"}})  # in ~/.config/fsspec
    for path in shards.iterdir():
        public.answers[f"/{path.name}"] = moved(f"/moved/{path.name}")
        public.answers[f"/moved/{path.name}"] = moved(f"{second.url}/{path.name}")
    mount(public.url.replace("//", "//user:hunter2@"), tmp_path / "mounted")
    assert SplitReader(tmp_path / "mounted", "train").read(0).image
    assert all(headers["Authorization"] for headers in public.headers)
    assert all(headers["X-Token"] for headers in public.headers)
    assert not any(headers["Authorization"] or headers["X-Token"] for headers in second.headers)


def test_redirects_within_the_own_network_are_followed(
    sites: tuple[Site, Site], serve: Callable[..., Site], shards: Path, tmp_path: Path
) -> None:
    """For the user has named a server in it."""
    first, inner = serve(INNER), sites[1]
    for path in shards.iterdir():
        first.answers[f"/{path.name}"] = moved(f"{inner.url}/{path.name}")
    mount(first.url, tmp_path / "mounted")
    assert SplitReader(tmp_path / "mounted", "train").read(0).image


@pytest.mark.parametrize(
    ("address", "is_public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("192.168.0.1", False),
        ("172.16.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.215.14", True),
        ("2002:7f00:1::", False),
    ],
)
def test_which_addresses_are_public(address: str, is_public: bool) -> None:
    assert http._is_public(address) == is_public


# How much a server sends, and how fast


@pytest.mark.parametrize("packed", [True, False])
def test_a_manifest_has_a_bound_which_is_counted_as_it_comes(
    packed: bool, serve: Callable[..., Site], tmp_path: Path
) -> None:
    site = serve()
    if packed:
        bomb = gzip.compress(bytes(10**6), 9)
        whole = gzip.compress(b" " * 400 * 2**20, 1)
        assert len(bomb) < 2000
        assert len(whole) < 2 * 2**20
        site.answers[""] = content(whole, Content_Encoding="gzip")
    else:
        site.answers[""] = endless(b" " * 2**20)
    code = (
        "import resource, sys; from pathlib import Path; from xmr_e2e.errors import XmrError\n"
        "from xmr_e2e.shards.remote import mount as remote\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "try: remote.mount(sys.argv[1], Path(sys.argv[2]), cache=None, cache_bytes=1)\n"
        "except XmrError as error: print(error)\n"
        "print((peak() - before) // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, site.url, str(tmp_path / "mounted")], capture_output=True, text=True, timeout=60
    )
    message, growth = done.stdout.splitlines()
    assert message == f"{site.url}/manifest.json: more than 104,857,600 bytes, which are not read"
    assert int(growth) < 300, "megabytes"
    assert len(site.requests) == 1, "that it would be smaller the next time is not to be expected"
    assert not (tmp_path / "mounted").exists()


def test_an_index_has_a_bound_by_its_samples(
    serve: Callable[..., Site], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = serve(folder=shards)
    site.answers[f"/{TAR[:-4]}.index.safetensors"] = content(gzip.compress(bytes(10**8), 1), Content_Encoding="gzip")
    with pytest.raises(XmrError, match=r"index\.safetensors: more than [\d,]+ bytes, which are not read"):
        mount(site.url, tmp_path / "mounted")
    with pytest.raises(XmrError, match="a mount was left unfinished here"):
        load_manifest(tmp_path / "mounted")


def test_a_tar_that_grows_without_end_is_cut_off(
    serve: Callable[..., Site], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = serve(folder=shards)
    mount(site.url, tmp_path / "mounted")
    size = (shards / TAR).stat().st_size
    for answer in (endless(bytes(2**16)), content(gzip.compress(bytes(10**8), 1), Content_Encoding="gzip")):
        site.answers[f"/{TAR}"] = answer
        with pytest.raises(XmrError, match=rf"more than the {size:,} bytes that the manifest says"):
            SplitReader(tmp_path / "mounted", "train").read(0)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize("answer", [endless(b" ", 0.05), endless_head], ids=["bytes", "headers"])
def test_a_server_that_drips_has_failed(
    answer: Answer, serve: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "SILENCE_S", 0.2)
    monkeypatch.setattr(fetch, "ATTEMPTS", 2)
    site = serve()
    site.answers[""] = answer
    before = time.monotonic()
    with pytest.raises(XmrError, match=r"(are too few|Timeout).*\(tried 2 times\)"):
        mount(site.url, tmp_path / "mounted")
    assert time.monotonic() - before < 10


# What is shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://host/shards", "https://host/shards"),
        ("https://user:hunter2@host/{}", "https://***@host/{}"),
        ("https://token@host/@scope/x", "https://***@host/@scope/x"),
        ("https://u:p@host/@scope/x", "https://***@host/@scope/x"),
        ("https://u:hunter/2@host/x", "https://***@host/x"),
        ("https://u:hunter?2@host/x", "https://***@host/x"),
        ("https://host:8000/@scope/x", "https://host:8000/@scope/x"),
        ("https://host/{}?X-Amz-Signature=s3cr3t&b=c", "https://host/{}?***"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("no https://u:p@a/x and 'https://b/y?z=1', or so", "no https://***@a/x and 'https://b/y?***', or so"),
        ("s3://bucket/x", "s3://bucket/x"),
    ],
)
def test_secrets_are_not_shown(text: str, shown: str) -> None:
    assert hide_secrets(text) == shown
    assert holds_secret(text) == (text != shown)


def test_no_message_of_any_command_holds_a_secret(
    serve: Callable[..., Site],
    shards: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", logger="xmr_e2e")
    site = serve(folder=shards)
    url = site.url.replace("//", "//user:hunter2@") + "/{}?X-Amz-Signature=s3cr3t"
    folder, tar = tmp_path / "mounted", site.answers[f"/{TAR}"]
    words = ["shards", "mount", url, str(folder), "--cache", str(tmp_path / "cache")]
    assert main(words) == 0
    assert main(words) == 0
    remote_json = folder / REMOTE
    assert "hunter2" in remote_json.read_text()
    assert remote_json.stat().st_mode & 0o777 == 0o600
    remote_json.chmod(0o644)  # as earlier versions wrote it
    assert main(words) == 0
    assert remote_json.stat().st_mode & 0o777 == 0o600
    for answer in (tar, status(404), status(403), status(500), content(b"cut"), moved("file:///etc"), moved("/again")):
        site.answers[f"/{TAR}"] = answer
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        main(["shards", "verify", str(folder)])
    assert main(["shards", "info", str(folder)]) == 0
    site.answers["/manifest.json"] = content(b"[]")
    assert main(words) == 2
    site.answers["/manifest.json"] = content((shards / NAME).read_bytes().replace(b'"small"', b'"other"'))
    assert main(words) == 0, "which says that the dataset has changed"
    for other in ("#x", "::x", "\n", "?" * 5000):
        assert main(["shards", "mount", url + other, str(folder)]) == 2
    assert main(["shards", "mount", "https://user:hunter2/x@host:99999/x", str(folder)]) == 2
    assert main(["shards", "mount", url.replace("http", "gopher"), str(folder)]) == 2
    for password in ("hunter2" * 20, "with blanks, hunter2", "with\"quotes'hunter2"):
        assert main(["shards", "mount", f"https://user:{password}@host/\n", str(folder)]) == 2
    shutil.rmtree(permissions_folder())
    main(["shards", "verify", str(folder)])
    assert main(["shards", "trust", str(folder)]) == 0
    said = printed(capfd) + caplog.text
    assert "***" in said
    for secret in ("hunter2", "s3cr3t"):
        assert secret not in said
        assert not any(secret in str(value) for value in snapshot(permissions_folder()).values())


# The cache


def copy_of(cache: Path, shards: Path, suffix: str = ".tar") -> Path:
    (shard,) = load_manifest(shards).splits["train"].shards
    return cache / f"{shard.sha256}{suffix}"


@pytest.fixture
def mounted(serve: Callable[..., Site], shards: Path, tmp_path: Path) -> Path:
    mount(serve(folder=shards).url, tmp_path / "mounted")
    (tmp_path / "cache").mkdir(mode=0o700)
    return tmp_path / "mounted"


@pytest.mark.parametrize("suffix", [".tar", ".part", ".lock"])
@pytest.mark.parametrize("target", ["victim", "nothing"])
def test_no_link_in_a_cache_is_followed(suffix: str, target: str, mounted: Path, shards: Path, tmp_path: Path) -> None:
    victim, cache = tmp_path / "victim", tmp_path / "cache"
    victim.write_bytes(bytes((shards / TAR).stat().st_size))
    before = victim.stat()
    copy_of(cache, shards, suffix).symlink_to(tmp_path / target)
    try:
        image = SplitReader(mounted, "train").read(0).image
        assert image == SplitReader(shards, "train").read(0).image
        assert copy_of(cache, shards).is_file()
        assert not copy_of(cache, shards).is_symlink()
    except XmrError as error:
        assert suffix == ".lock"
        assert f"{copy_of(cache, shards, suffix)} is a link; remove it" in str(error)
    assert victim.read_bytes() == bytes(before.st_size)
    assert victim.stat().st_mtime_ns == before.st_mtime_ns
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o000])
def test_a_copy_is_fetched_once_whatever_the_umask_is(umask: int, shards: Path, tmp_path: Path) -> None:
    """With a umask of 002, usual where each user has a group of his own, new files are the group's to write."""
    (shard,) = load_manifest(shards).splits["train"].shards
    cache, filled = Cache(tmp_path / "cache", 10**9), []

    def fill(stream: BinaryIO) -> None:
        filled.append(stream.write((shards / shard.name).read_bytes()))

    before = os.umask(umask)
    try:
        make_folder(cache.folder, is_default=True)
        for _ in range(3):
            os.close(cache.open(shard, fill))
    finally:
        os.umask(before)
    assert filled == [shard.bytes]
    assert cache.copy_of(shard).stat().st_mode & 0o077 == 0


def test_the_lock_of_a_cache_that_is_a_link_empties_nothing(mounted: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "cache" / "cache.lock").symlink_to(victim)
    with pytest.raises(XmrError, match=r"cache\.lock is a link; remove it"):
        SplitReader(mounted, "train").read(0)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("suffix", [".tar", ".part", ".lock"])
def test_nobody_waits_for_a_pipe_in_a_cache(suffix: str, mounted: Path, shards: Path, tmp_path: Path) -> None:
    os.mkfifo(copy_of(tmp_path / "cache", shards, suffix))
    assert SplitReader(mounted, "train").read(0).image


def test_links_in_a_cache_are_neither_counted_nor_evicted(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(bytes(1000))
    cache = tmp_path / "cache"
    cache.mkdir()
    for name, suffix in itertools.product("de", ("tar", "part")):
        (cache / f"{name * 64}.{suffix}").symlink_to(victim)
    for name in "ab":
        file = Cache(cache, 150).open(Shard(f"{name}.tar", 1, 100, name * 64), lambda stream: None)
        os.close(file)
    assert victim.read_bytes() == bytes(1000)
    assert {path.name[0] for path in cache.glob("*.tar")} == set("bde")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_copy_that_somebody_else_has_put_there_is_not_read(mounted: Path, shards: Path, tmp_path: Path) -> None:
    copy = copy_of(tmp_path / "cache", shards)
    copy.write_bytes(bytes((shards / TAR).stat().st_size))
    os.chown(copy, 65534, 65534)
    assert SplitReader(mounted, "train").read(0).image == SplitReader(shards, "train").read(0).image
    assert copy.stat().st_uid == 0


def test_a_copy_that_others_can_write_into_is_not_read(mounted: Path, shards: Path, tmp_path: Path) -> None:
    copy = copy_of(tmp_path / "cache", shards)
    copy.write_bytes(bytes((shards / TAR).stat().st_size))
    copy.chmod(0o666)
    assert SplitReader(mounted, "train").read(0).image == SplitReader(shards, "train").read(0).image


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_cache_that_others_can_write_into_is_not_used(mode: int, mounted: Path, shards: Path, tmp_path: Path) -> None:
    """Whatever its size, a tar in it could be anybody's."""
    cache = tmp_path / "cache"
    copy_of(cache, shards).write_bytes(bytes((shards / TAR).stat().st_size))
    cache.chmod(mode)
    with pytest.raises(XmrError, match=rf"others may write into it.*`chmod go-w {cache}`"):
        SplitReader(mounted, "train").read(0)
    copy_of(cache, shards).unlink()
    cache.chmod(0o755)  # that others read it does no harm
    assert SplitReader(mounted, "train").read(0).image


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_a_cache_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o755)
    os.chown(tmp_path / "theirs", 65534, 65534)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "mine").mkdir(mode=0o755)
    with pytest.raises(XmrError, match="is not your folder"):
        make_folder(tmp_path / "theirs", is_default=False)
    make_folder(tmp_path / "link", is_default=False)  # of this user's own
    os.chown(tmp_path / "link", 65534, 65534, follow_symlinks=False)
    with pytest.raises(XmrError, match="is not your folder"):
        make_folder(tmp_path / "link", is_default=False)
    for name in ("mine", "link"):
        with pytest.raises(XmrError, match="is not a folder of yours alone"):
            make_folder(tmp_path / name, is_default=True)


# Fuzzing

SOUND = [
    {"url": "https://host/{}?a=1", "cache": None, "cache_bytes": 10**11},
    {"url": "hf://datasets/me/{}", "cache": "/scratch/me", "cache_bytes": 1},
    {"url": "s3://bucket/folder", "cache": "/scratch/me", "cache_bytes": 1},
]
URLS = [
    "https://user:password@host:8000/folder/{}?X-Amz-Signature=1",
    "http://[::1]:80/x",
    "s3://bucket/folder",
    "file:///mnt/my data",
    "pipe:ssh host cat {}",
    "reference://{}::file:///refs.json",
]


@fuzzed
@given(hostile(*SOUND))
def test_any_remote_json_ends_in_a_mount_or_an_error(document: bytes) -> None:
    try:
        mounted = remote.parse_mount(document, Path("/folder"))
    except XmrError as error:
        assert str(error).startswith("/folder/remote.json: ")
        assert len(str(error)) < 500
        return
    check_url(mounted.url)
    assert mounted.cache_folder is None or mounted.cache_folder.is_absolute()
    assert remote.parse_mount(mounted.encode(), Path("/folder")) == mounted
    assert not is_trusted(mounted.url, mounted.cache_folder)


urls = st.one_of(
    damaged(*(url.encode() for url in URLS)).map(lambda url: url.decode(errors="surrogateescape")),
    st.text(max_size=200),
    st.sampled_from([*WORDS, *(str(value) for value in VALUES)]),
    st.builds("{}://{}{}{}".format, st.sampled_from(["http", "https", "s3", "gs", "sftp", "file", "reference"]),
              st.text(max_size=30), st.sampled_from(["/", "?", "#", "::", "@", ":", ""]), st.text(max_size=30)),
)  # fmt: skip


@fuzzed
@given(urls)
def test_any_url_ends_in_a_host_and_a_path_or_an_error(url: str) -> None:
    try:
        check_url(url)
    except XmrError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 5000
        return
    assert url.isprintable()
    assert not url.startswith("reference://")
    assert shlex.split(shlex.quote(url)) == [url]
    shown = hide_secrets(url)
    assert hide_secrets(shown) == shown
    assert not url.startswith("pipe:")
    assert "#" not in url or url.startswith("file:")
    if url.startswith("http"):
        assert http.URL(url).host


@fuzzed
@given(
    user=st.text("abcXYZ0123456789._~!$&()*+,;=%-", max_size=10),
    password=st.one_of(
        st.text("abcXYZ0123456789._~!$&()*+,;=%-:@", min_size=1, max_size=20),
        st.text("abcXYZ0123456789._~!$&()*+,;=%-:/?", min_size=1, max_size=20).map(lambda text: f"a~{text}"),
    ).map("pw{}wp".format),
    query=st.text("abcXYZ0123456789=&%+-/?:@", max_size=30).map("q{}q".format),
    around=st.sampled_from(["{}", "a {} b", "error: '{}' is not", 'URL("{}")', "{}\n"]),
)
def test_no_password_and_no_query_is_shown(user: str, password: str, query: str, around: str) -> None:
    shown = hide_secrets(around.format(f"https://{user}:{password}@host/path?{query}"))
    assert "pw" not in shown
    assert "wp" not in shown
    assert f"?{query}" not in shown


@fuzzed
@given(st.ip_addresses())
def test_an_address_is_public_or_not(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast:
        assert not http._is_public(str(address))


def fuzzed_manifests(shards: Path) -> st.SearchStrategy[bytes]:
    document = json.loads((shards / NAME).read_bytes())
    return st.one_of(hostile(document), hostile_json(document["splits"]).map(
        lambda splits: json.dumps(document | {"splits": None}).encode().replace(b"null", splits, 1)
    ))  # fmt: skip


def test_any_answers_of_a_server_end_in_a_mounted_folder_or_an_error(
    serve: Callable[..., Site], shards: Path, tmp_path: Path
) -> None:
    """Both of them damaged; an example takes some milliseconds, for it is fetched and mounted in earnest."""
    site = serve(folder=shards)
    name = f"/{TAR[:-4]}.index.safetensors"
    index = (shards / name[1:]).read_bytes()
    manifest = (shards / NAME).read_bytes()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim.tar").write_text("mine")
    before = snapshot(outside)
    places = tmp_path / "a" / "b"
    places.mkdir(parents=True)
    limit = resource.getrlimit(resource.RLIMIT_AS)

    @fuzzed
    @given(st.one_of(fuzzed_manifests(shards), st.just(manifest)), st.one_of(damaged(index), st.just(index)))
    def run(manifest: bytes, index: bytes) -> None:
        site.answers["/manifest.json"] = content(manifest)
        site.answers[name] = content(index)
        folder = places / "mounted"
        try:
            mount(site.url, folder)
            load_manifest(folder)
        except XmrError as error:
            assert len(str(error)) < 1000
        shutil.rmtree(folder, ignore_errors=True)
        assert [path.name for path in places.iterdir()] == []
        assert [path.name for path in places.parent.iterdir()] == ["b"]

    run()
    assert snapshot(outside) == before
    assert resource.getrlimit(resource.RLIMIT_AS) == limit
