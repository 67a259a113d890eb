"""Folders of shards whose tars stay at a URL: fetched once per node, whole or not at all, in a cache with a bound."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from xmr_e2e.cli import main
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.extend import extend_shards
from xmr_e2e.shards.index import index_path
from xmr_e2e.shards.manifest import NAME, Shard, load_manifest
from xmr_e2e.shards.remote import fetch
from xmr_e2e.shards.remote import mount as remote
from xmr_e2e.shards.remote.cache import Cache
from xmr_e2e.shards.remote.mount import Mount
from xmr_e2e.shards.remote.trust import trust
from xmr_e2e.shards.verify import verify

pytestmark = pytest.mark.slow

TAR = "train-00001.tar"


@dataclass
class Site:
    """A web server over a folder. What it does with the next requests for a file can be told: send it `cut` in the
    middle, with one byte `flipped`, with a `pause` in the middle, `stuck` there for good, or answer with a status."""

    folder: Path
    url: str
    requests: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[str | int]] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.site.requests[name] += 1
        faults = self.site.faults.get(name, [])
        fault = faults.pop(0) if faults else ""
        path = self.site.folder / name.partition("?")[0]
        if isinstance(fault, int) or not path.is_file():
            return self.send_error(fault or 404)
        content = bytearray(path.read_bytes())
        half = len(content) // 2
        if fault == "flipped":
            content[half] ^= 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:half])
        self.wfile.flush()
        if fault == "cut":
            self.close_connection = True
            return self.connection.close()
        if fault in ("pause", "stuck"):
            self.site.over.wait(0.5 if fault == "pause" else 60)
        self.wfile.write(content[half:])

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Clients that are killed are meant."""


@pytest.fixture
def site(tiny_shards: Path, tmp_path: Path) -> Iterator[Site]:
    """The tiny shards on a web server; a copy, which a test may change."""
    folder = tmp_path / "site"
    shutil.copytree(tiny_shards, folder)
    handler = type("SiteHandler", (Handler,), {})
    server = Server(("127.0.0.1", 0), handler)
    handler.site = site = Site(folder, f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield site
    site.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FIRST_WAIT_S", 0.01)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home of the test's own: what the user allows is kept there."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def mounted(site: Site, cache: Path, tmp_path: Path) -> Path:
    return mount(site, tmp_path / "mounted", cache)


def mount(site: Site, folder: Path, cache: Path, *, cache_bytes: int = 10**9) -> Path:
    remote.mount(site.url, folder, cache=cache, cache_bytes=cache_bytes)
    site.requests.clear()
    return folder


def shard_of(folder: Path, name: str = TAR) -> Shard:
    return next(s for split in load_manifest(folder).splits.values() for s in split.shards if s.name == name)


def open_tar(folder: Path, name: str = TAR) -> int:
    return remote.open_tar(folder, shard_of(folder, name), remote.load_mount(folder))


def read_tar(folder: Path, name: str = TAR) -> bytes:
    with open(open_tar(folder, name), "rb") as stream:
        return stream.read()


def kept(cache: Path) -> set[str]:
    """What the cache holds, besides its locks."""
    return {path.name for path in cache.iterdir() if path.suffix != ".lock"}


def in_process(code: str, folder: Path) -> subprocess.Popen[str]:
    """Another Python process with `folder`, `open_tar(name)` and the module `sys`."""
    head = (
        "import logging, os, sys; from pathlib import Path; from xmr_e2e.shards.remote import mount as remote\n"
        "from xmr_e2e.shards.manifest import load_manifest\n"
        f"folder = Path({str(folder)!r})\n"
        "shards = {s.name: s for split in load_manifest(folder).splits.values() for s in split.shards}\n"
        "def open_tar(name): return remote.open_tar(folder, shards[name], remote.load_mount(folder))\n"
    )
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", head + code], **pipes)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Mounting


def test_a_mounted_folder_has_all_but_the_tars_and_each_file_is_asked_for_once(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "some" / "mounted"
    assert main(["shards", "mount", site.url + "/", str(folder), "--cache", str(tmp_path / "cache")]) == 0
    assert "mounted" in capsys.readouterr().out
    expected = {path.name for path in site.folder.iterdir() if path.suffix != ".tar"}
    assert {path.name for path in folder.iterdir()} == expected | {"remote.json"}
    assert site.requests == dict.fromkeys(expected, 1)
    assert json.loads((folder / "remote.json").read_bytes()) == {
        "url": site.url + "/",
        "cache": str(tmp_path / "cache"),
        "cache_bytes": 100 * 10**9,
    }
    assert main(["shards", "info", str(folder)]) == 0
    assert not (tmp_path / "cache").exists(), "nothing has needed a tar yet"


def test_mounting_again_fetches_only_what_has_changed_and_says_so(
    site: Site, cache: Path, mounted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    mount_it = {"cache": cache, "cache_bytes": 5 * 10**8}
    remote.mount(site.url, mounted, **mount_it)
    assert site.requests == {NAME: 1}
    assert "are those that were mounted" in caplog.text
    again = remote.load_mount(mounted)
    assert again is not None
    assert again.cache_bytes == 5 * 10**8

    manifest = load_manifest(site.folder)  # another version of the dataset, without its last training shard
    train = manifest.splits["train"]
    replace(manifest, splits={**manifest.splits, "train": replace(train, shards=train.shards[:-1])}).save(site.folder)
    remote.mount(site.url, mounted, **mount_it)
    assert "has changed since it was mounted: 0 of its 8 shards are new" in caplog.text
    assert load_manifest(mounted) == load_manifest(site.folder)
    assert not index_path(mounted / train.shards[-1].name).exists()


def test_an_unfinished_mount_is_no_dataset_and_the_same_command_finishes_it(
    site: Site, cache: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mounted"
    lost = index_path(site.folder / TAR)
    content = lost.read_bytes()
    lost.unlink()
    with pytest.raises(XmrError, match=rf"{site.url}/{lost.name}: there is no such file"):
        mount(site, folder, cache)
    with pytest.raises(XmrError, match="a mount was left unfinished here: run `xmr shards mount` again"):
        load_manifest(folder)
    lost.write_bytes(content)
    mount(site, folder, cache)
    assert load_manifest(folder) == load_manifest(site.folder)


def test_an_index_of_other_shards_is_refused(site: Site, cache: Path, tmp_path: Path) -> None:
    shutil.copy(index_path(site.folder / "val-00001.tar"), index_path(site.folder / TAR))
    with pytest.raises(XmrError, match=r"train-00001\.index\.safetensors: the index has \d samples"):
        mount(site, tmp_path / "mounted", cache)


def test_a_folder_with_shards_of_its_own_is_not_mounted_over(site: Site, cache: Path, tiny_shards: Path) -> None:
    before = sorted(tiny_shards.iterdir())
    with pytest.raises(XmrError, match="holds shards of its own; mount into another folder"):
        mount(site, tiny_shards, cache)
    assert sorted(tiny_shards.iterdir()) == before


def test_a_tar_that_lies_in_the_folder_is_read_there(site: Site, cache: Path, mounted: Path) -> None:
    shutil.copy(site.folder / TAR, mounted)
    assert read_tar(mounted) == (site.folder / TAR).read_bytes()
    assert not site.requests
    (mounted / TAR).write_bytes(b"another one")
    with pytest.raises(XmrError, match=r"train-00001\.tar would stand for the remote one, and has another size"):
        mount(site, mounted, cache)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("data/shards", "not a URL; one begins with https://, s3:// or file://"),
        ("gopher://host/shards", "the protocol gopher:// is unknown"),
        (
            "pipe:ssh host cat /data/{}",
            "pipe: addresses are commands, which are not run. Mount what the command reads: sftp://",
        ),
    ],
)
def test_what_is_no_url_is_refused(url: str, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", "mount", url, str(tmp_path / "mounted")]) == 2
    assert message in " ".join(capfd.readouterr().err.split())
    assert not (tmp_path / "mounted").exists()


def test_a_protocol_without_its_package_is_told_with_the_pip_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as if it were not installed
    with pytest.raises(XmrError, match="s3:// needs a package that is not installed: pip install s3fs"):
        remote.mount("s3://bucket/shards", tmp_path / "mounted", cache=None, cache_bytes=1)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://host/shards", "https://host/shards"),
        ("s3://bucket/shards", "s3://bucket/shards"),
        ("file:///mnt/shards", "file:///mnt/shards"),
    ],
)
def test_a_url_that_is_given_as_a_folder_is_answered_with_the_mount_line(given: str, url: str) -> None:
    with pytest.raises(XmrError) as error:
        SplitReader(Path(given), "train")
    assert f"`xmr shards mount {url} FOLDER`" in str(error.value)


def test_shards_of_a_file_url_are_fetched_as_others(tiny_shards: Path, cache: Path, tmp_path: Path) -> None:
    remote.mount(f"file://{tiny_shards}", tmp_path / "mounted", cache=cache, cache_bytes=10**9)
    assert read_tar(tmp_path / "mounted") == (tiny_shards / TAR).read_bytes()
    assert kept(cache) == {f"{shard_of(tiny_shards).sha256}.tar"}


def test_a_place_in_the_url_takes_the_files_name(site: Site, cache: Path, tmp_path: Path) -> None:
    remote.mount(f"{site.url}/{{}}?token=1", tmp_path / "mounted", cache=cache, cache_bytes=10**9)
    assert read_tar(tmp_path / "mounted") == (site.folder / TAR).read_bytes()
    assert {"manifest.json?token=1", f"{TAR}?token=1"} <= set(site.requests)


# Reading


READ_BY_WORKERS = """
import sys
from pathlib import Path
from xmr_e2e.data.loader import Loader
from xmr_e2e.data.batch_dataset import BatchDataset
from xmr_e2e.data.config import Data
from xmr_e2e.data.reader import SplitReader

def batches(folder):
    data = Data(shards=Path(folder), image_size=16, load_size=16, workers=2)
    loader = Loader(BatchDataset(data, "train", {"image": "pixels"}, None, seed=1), 5)
    return [
        (batch.keys, batch.inputs["image"].numpy().tobytes(), batch.labels.numpy().tobytes())
        for epoch in (0, 1)
        for batch in loader.epoch(epoch)
    ]

SplitReader(Path(sys.argv[1]), "train").read(0)  # the workers come from a process that has itself fetched something
assert batches(sys.argv[1]) == batches(sys.argv[2])
"""


def test_loader_workers_read_the_same_samples_as_from_the_local_folder(
    site: Site, tiny_shards: Path, mounted: Path
) -> None:
    """In a process of its own: the server that forks a process's workers keeps the home that it was started with."""
    subprocess.run([sys.executable, "-c", READ_BY_WORKERS, mounted, tiny_shards], check=True, timeout=120)
    assert site.requests == {shard.name: 1 for shard in load_manifest(mounted).splits["train"].shards}


def test_all_that_a_sample_has_is_the_same(tiny_shards: Path, mounted: Path) -> None:
    local, far = SplitReader(tiny_shards, "val"), SplitReader(mounted, "val")
    assert len(far) == len(local) == 12
    for position in range(len(far)):
        here, there = local.read(position), far.read(position)
        assert (there.key, there.image, there.metadata) == (here.key, here.image, here.metadata)
        assert there.labels == here.labels
    np.testing.assert_array_equal(far.positions_with(["image", "text"]), local.positions_with(["image", "text"]))


@pytest.mark.processes
def test_several_processes_that_want_a_shard_at_once_cause_one_download(site: Site, mounted: Path) -> None:
    site.faults[TAR] = ["pause"]
    code = f"print('ready', flush=True); sys.stdin.readline(); print(len(os.fdopen(open_tar({TAR!r}), 'rb').read()))"
    processes = [in_process(code, mounted) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    size = (site.folder / TAR).stat().st_size
    assert [process.communicate()[0] for process in processes] == [f"{size}\n"] * 3
    assert site.requests == {TAR: 1}


# What can go wrong on the way


@pytest.mark.parametrize("fault", ["cut", "flipped", 500, 503, 429])
def test_a_passing_fault_is_tried_again(
    site: Site, cache: Path, mounted: Path, fault: str | int, caplog: pytest.LogCaptureFixture
) -> None:
    site.faults[TAR] = [fault, fault]
    assert read_tar(mounted) == (site.folder / TAR).read_bytes()
    assert site.requests == {TAR: 3}
    assert f"{site.url}/{TAR}" in caplog.text
    assert "attempt 2 of 5" in caplog.text
    assert kept(cache) == {f"{shard_of(mounted).sha256}.tar"}


@pytest.mark.parametrize(
    ("fault", "cause"),
    [("cut", "Response payload is not completed"), ("flipped", "the sha256 is not the manifest's"), (500, "HTTP 500")],
)
def test_a_lasting_fault_is_told_with_url_cause_and_attempts(
    site: Site, cache: Path, mounted: Path, fault: str | int, cause: str
) -> None:
    site.faults[TAR] = [fault] * 9
    with pytest.raises(XmrError) as error:
        SplitReader(mounted, "train").read(8)
    assert str(error.value).startswith(f"{site.url}/{TAR}: ")
    assert cause in str(error.value)
    assert "tried 5 times" in str(error.value)
    assert site.requests == {TAR: 5}
    assert kept(cache) == set()


@pytest.mark.parametrize(("status", "cause"), [(404, "there is no such file"), (403, "HTTP 403 Forbidden")])
def test_what_waiting_does_not_mend_is_tried_once(site: Site, mounted: Path, status: int, cause: str) -> None:
    site.faults[TAR] = [status]
    with pytest.raises(XmrError, match=rf"{site.url}/{TAR}: {cause} \(tried once\)"):
        open_tar(mounted)
    assert site.requests == {TAR: 1}


@pytest.mark.parametrize("change", [b"", b"more"])
def test_a_tar_of_another_size_is_not_taken(site: Site, cache: Path, mounted: Path, change: bytes) -> None:
    content = (site.folder / TAR).read_bytes()
    (site.folder / TAR).write_bytes(content + change if change else content[:-512])
    with pytest.raises(XmrError, match=r"bytes.*the manifest says.*mount them again"):
        open_tar(mounted)
    assert kept(cache) == set()


def test_a_server_that_falls_silent_has_failed(site: Site, mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SILENCE_S", 0.2)
    site.faults[TAR] = ["stuck"]
    assert read_tar(mounted) == (site.folder / TAR).read_bytes()
    assert site.requests == {TAR: 2}


def test_nobody_listening_is_told(cache: Path, mounted: Path) -> None:
    mount = Mount(mounted, "http://127.0.0.1:9/shards", cache, 10**9)
    trust(mount.url, cache)
    with pytest.raises(XmrError, match=r"127\.0\.0\.1:9/shards/train-00001\.tar: .*Cannot connect.*tried 5 times"):
        mount.open(shard_of(mounted))


def test_what_a_killed_process_left_is_replaced(site: Site, cache: Path, mounted: Path) -> None:
    site.faults[TAR] = ["stuck"]
    process = in_process(f"open_tar({TAR!r})", mounted)
    part = cache / f"{shard_of(mounted).sha256}.part"
    wait_for(part.exists)
    wait_for(lambda: site.requests[TAR])
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert kept(cache) == {part.name}
    assert read_tar(mounted) == (site.folder / TAR).read_bytes()
    assert kept(cache) == {part.with_suffix(".tar").name}


def test_a_copy_that_was_cut_is_fetched_again(site: Site, cache: Path, mounted: Path) -> None:
    os.close(open_tar(mounted))
    copy = cache / f"{shard_of(mounted).sha256}.tar"
    os.truncate(copy, 1000)
    assert read_tar(mounted) == (site.folder / TAR).read_bytes()
    assert site.requests == {TAR: 2}


# The bound


def shard(name: str, size: int = 100) -> Shard:
    """One of which only name and size matter."""
    return Shard(f"{name}.tar", 1, size, name * 64)


def fill(size: int = 100) -> Callable[[BinaryIO], None]:
    return lambda file: file.write(bytes(size)) and None


def put(cache: Cache, name: str) -> int:
    """Open a copy; as if some time after the one before."""
    for path in cache.folder.glob("*.tar"):
        stat = path.stat()
        os.utime(path, (stat.st_mtime - 10, stat.st_mtime - 10))
    return cache.open(shard(name), fill())


def names(cache: Cache) -> str:
    return "".join(sorted(path.name[0] for path in cache.folder.iterdir() if path.suffix == ".tar"))


def test_the_copies_that_were_not_used_for_longest_make_room(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 250)
    for name in "ab":
        os.close(put(cache, name))
    os.close(put(cache, "a"))  # used again
    evicted = os.open(tmp_path / f"{'b' * 64}.tar", os.O_RDONLY)
    os.close(put(cache, "c"))
    assert names(cache) == "ac"
    assert os.pread(evicted, 1000, 0) == bytes(100), "whoever has it open goes on reading"
    os.close(evicted)


def test_other_files_in_the_folder_of_the_cache_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.tar").write_bytes(bytes(1000))
    cache = Cache(tmp_path, 150)
    for name in "ab":
        os.close(put(cache, name))
    assert names(cache) == "bp"


def test_downloads_under_way_count_and_never_exceed_the_bound(tmp_path: Path) -> None:
    """Four shards at once into a cache that holds two: all are served, and at no moment are there more than two."""
    cache = Cache(tmp_path, 250)
    taken: list[int] = []

    def slowly(file: BinaryIO) -> None:
        for _ in range(10):
            file.write(bytes(10))
            taken.append(sum(path.stat().st_size for path in tmp_path.iterdir() if path.suffix == ".part"))
            time.sleep(0.01)

    def get(name: str) -> None:
        file = cache.open(shard(name), slowly)
        assert os.pread(file, 1000, 0) == bytes(100)
        os.close(file)

    threads = [threading.Thread(target=get, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 40
    assert max(taken) == 200
    assert len(names(cache)) == 2


def test_the_rest_of_a_dead_download_of_another_shard_takes_no_room(tmp_path: Path) -> None:
    (tmp_path / f"{'d' * 64}.part").write_bytes(bytes(200))
    os.close(put(Cache(tmp_path, 250), "a"))
    assert kept(tmp_path) == {f"{'a' * 64}.tar"}


def test_a_shard_larger_than_the_cache_is_told(tmp_path: Path) -> None:
    with pytest.raises(XmrError, match=r"a\.tar has 100 bytes, more than the cache .* may hold \(99\).*--cache-gb"):
        put(Cache(tmp_path, 99), "a")


def test_a_reader_lets_evicted_tars_go_and_fetches_them_again(site: Site, cache: Path, tmp_path: Path) -> None:
    sizes = [shard.bytes for shard in load_manifest(site.folder).splits["train"].shards]
    folder = mount(site, tmp_path / "small", cache, cache_bytes=2 * max(sizes))
    local, reader = SplitReader(site.folder, "train"), SplitReader(folder, "train")
    for position in (*range(0, 40, 8), *range(0, 40, 8)):
        assert reader.read(position).image == local.read(position).image
        linked = [file for file in reader._files.values() if os.fstat(file).st_nlink]
        assert len(reader._files) <= len(linked) + 1, "what the last download has evicted is still open, no more"
        assert sum(path.stat().st_size for path in cache.glob("*.tar")) <= 2 * max(sizes)
    assert site.requests == {f"train-{number:05d}.tar": 2 for number in range(5)}


def test_reading_counts_as_use(site: Site, cache: Path, mounted: Path) -> None:
    reader = SplitReader(mounted, "train")
    reader.read(8)
    copy = cache / f"{shard_of(mounted).sha256}.tar"
    os.utime(copy, (0, 0))
    reader.read(9)
    assert copy.stat().st_mtime > 0


def test_a_full_disk_names_the_cache_and_its_options(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    try:
        with pytest.raises(XmrError, match="No space left on device") as error:
            Cache(disk, 10**9).open(shard("a", 10**6), fill(10**6))
        assert str(error.value).startswith(f"{disk}: the cache cannot take a.tar (1,000,000 bytes)")
        assert "--cache-gb" in str(error.value)
        assert kept(disk) == set()
        os.close(put(Cache(disk, 10**9), "b"))
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def write(file: BinaryIO) -> None:
        file.write(bytes(50))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(XmrError, match=r"cannot take a\.tar .*No space left on device.*another --cache"):
        Cache(tmp_path, 1000).open(shard("a"), write)
    assert kept(tmp_path) == set()


def test_the_default_cache_is_the_users_alone(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    remote.mount(site.url, tmp_path / "mounted", cache=None, cache_bytes=10**9)
    assert json.loads((tmp_path / "mounted" / "remote.json").read_bytes())["cache"] is None
    os.close(open_tar(tmp_path / "mounted"))
    cache = remote.default_cache()
    assert cache.parent == tmp_path
    assert cache.stat().st_mode & 0o777 == 0o700
    cache.chmod(0o777)
    with pytest.raises(XmrError, match=r"is not a folder of yours alone.*--cache"):
        open_tar(tmp_path / "mounted")


# Commands, which earlier versions ran


def test_a_command_does_not_run_and_is_not_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    url = f"pipe:touch {tmp_path}/ran; curl https://host/{{}} https://user:hunter2@other"
    assert main(["shards", "mount", url, str(tmp_path / "mounted")]) == 2
    error = capfd.readouterr().err
    assert "python -m http.server" in " ".join(error.split())
    assert "hunter2" not in error
    assert not list(tmp_path.iterdir())


def test_a_command_in_a_folder_that_was_mounted_before_does_not_run(
    site: Site, cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nor does one in a folder that comes from somebody else; to trust it does not help."""
    folder, ran = tmp_path / "mounted", tmp_path / "ran"
    mount(site, folder, cache)
    document = json.loads((folder / "remote.json").read_text())
    url = f"pipe:touch {ran}; cat {site.folder}/{{}}"
    (folder / "remote.json").write_text(json.dumps(document | {"url": url}))
    trust(url, cache)  # as an earlier version has noted it
    with pytest.raises(XmrError, match=r"mounted/remote\.json: .*pipe: addresses are commands, .* sftp://HOST/FOLDER"):
        open_tar(folder)
    assert main(["shards", "trust", str(folder)]) == 2
    assert "pipe: addresses are commands" in " ".join(capfd.readouterr().err.split())
    assert not ran.exists()


# What the remote manifest may say

HOSTILE: list[dict[str, Any]] = [
    {"name": "../escape.tar"},
    {"name": "/tmp/escape.tar"},
    {"name": "..tar"},
    {"name": ".hidden.tar"},
    {"name": "-option.tar"},
    {"name": "a;touch escaped;.tar"},
    {"name": "$(touch escaped).tar"},
    {"name": "`touch escaped`.tar"},
    {"name": "two words.tar"},
    {"name": "train-00001.tar\n"},
    {"name": "no_tar"},
    {"name": "train-00000.tar"},  # another shard's
    {"name": 5},
    {"sha256": "../../escape"},
    {"sha256": "A" * 64},
    {"sha256": None},
    {"bytes": -5},
    {"bytes": "many"},
    {"samples": 0},
]


@pytest.mark.parametrize("changes", HOSTILE, ids=str)
def test_a_manifest_with_anything_but_plain_names_and_checksums_is_refused(
    site: Site, cache: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    document = json.loads((site.folder / NAME).read_bytes())
    document["splits"]["train"]["shards"][1].update(changes)
    (site.folder / NAME).write_text(json.dumps(document))
    with pytest.raises(XmrError, match=f"{site.url}/manifest.json: "):
        mount(site, tmp_path / "mounted", cache)
    assert not (tmp_path / "mounted").exists()
    assert set(site.requests) == {NAME}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"name": "../../escape.tar"}, r"splits\.train\.shards\.0\.name: should be a plain name"),
        ({"sha256": "../../escape"}, r"splits\.train\.shards\.0\.sha256: "),
    ],
)
def test_a_manifest_that_was_changed_after_mounting_is_looked_at_again(
    site: Site, mounted: Path, change: dict[str, str], message: str
) -> None:
    document = json.loads((mounted / "manifest.json").read_bytes())
    document["splits"]["train"]["shards"][0] |= change
    (mounted / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(XmrError, match=message):
        SplitReader(mounted, "train")
    assert not site.requests


# Commands on a mounted folder


def test_verify_fetches_the_tars_and_names_what_is_wrong(site: Site, cache: Path, mounted: Path) -> None:
    assert verify(mounted, workers=1) == []
    assert site.requests == {path.name: 1 for path in site.folder.glob("*.tar")}

    copy = cache / f"{shard_of(mounted).sha256}.tar"
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1  # in the end mark: only the checksum can tell
    copy.write_bytes(content)
    lost = shard_of(mounted, "val-00000.tar")
    (cache / f"{lost.sha256}.tar").unlink()
    (site.folder / lost.name).unlink()
    problems = [str(problem) for problem in verify(mounted, workers=1)]
    assert any(line.startswith(f"{TAR}: the sha256 is not the manifest's") and str(copy) in line for line in problems)
    assert any(line.startswith(f"{lost.name}: {site.url}/{lost.name}: there is no such file") for line in problems)
    copy.unlink()
    assert not [line for line in map(str, verify(mounted, workers=1)) if line.startswith(TAR)]


def test_verify_can_do_with_a_cache_of_one_shard(site: Site, cache: Path, tmp_path: Path) -> None:
    largest = max(path.stat().st_size for path in site.folder.glob("*.tar"))
    assert main(["shards", "verify", str(mount(site, tmp_path / "small", cache, cache_bytes=largest))]) == 0


def test_a_mounted_folder_is_not_extended(mounted: Path) -> None:
    with pytest.raises(XmrError, match="is mounted, its tars lie elsewhere; extend them there"):
        extend_shards(mounted, "regions.safetensors", lambda records: [None] * len(records), batch=4, note="x")
    assert load_manifest(mounted)
