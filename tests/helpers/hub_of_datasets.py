"""A stand-in of the Hugging Face hub for datasets: the parts of its HTTP interface by which they are read."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PLACE = re.compile(r"/(?:api/)?datasets/(?P<name>[\w-]+/[\w-]+)(?:/(?P<what>\w[\w-]*)/(?P<commit>\w+))?/?(?P<path>.*)")


class Handler(BaseHTTPRequestHandler):
    """Answers for the datasets USER/NAME whose files lie in root/USER/NAME; everything else is not there."""

    protocol_version = "HTTP/1.1"
    root: Path
    asked: list[str]

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.asked.append(path)
        place = PLACE.fullmatch(path)
        folder = self.root / place["name"] if place else self.root
        if place is None or not folder.is_dir():
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        entries = list(entries_of(folder))
        if place["what"] == "resolve":
            return self._file(folder / place["path"])
        if place["what"] == "tree":
            recursive = "recursive=true" in self.path.lower()
            return self._json(within(entries, place["path"] or ".", recursive=recursive))
        if place["what"] == "paths-info":
            return self._json([entry for entry in entries if entry["path"] in parse_qs(body.decode())["paths"]])
        siblings = [{"rfilename": entry["path"]} for entry in entries if entry["type"] == "file"]
        return self._json({"id": place["name"], "sha": COMMIT, "siblings": siblings, "tags": [], "private": False})

    do_HEAD = do_POST = do_GET

    def _file(self, path: Path) -> None:
        if not path.is_file():
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        content = path.read_bytes()
        about = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            first, last = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
            about["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            return self._send(206, content[first : last + 1], about)
        return self._send(200, content, about)

    def _json(self, document: object) -> None:
        self._send(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def entries_of(folder: Path) -> Iterator[dict[str, Any]]:
    """Files and folders as the hub lists them."""
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        yield {
            "type": "file" if path.is_file() else "directory",
            "path": path.relative_to(folder).as_posix(),
            "size": len(content),
            "oid": hashlib.sha1(content).hexdigest(),
        }


def within(entries: list[dict[str, Any]], folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    """The entries that lie in a folder, directly or at any depth."""
    above = {entry["path"]: list(map(str, Path(entry["path"]).parents)) for entry in entries}
    return [entry for entry in entries if folder in above[entry["path"]][: None if recursive else 1]]


@contextmanager
def hub_of(root: Path) -> Iterator[tuple[str, list[str]]]:
    """The hub's address, and the paths that it is asked for."""
    asked: list[str] = []
    handler = type("Own", (Handler,), {"root": root, "asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()
