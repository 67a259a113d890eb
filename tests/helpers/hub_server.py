"""A stand-in for the Hugging Face hub: as much of its HTTP interface as `huggingface_hub` asks to make a repository,
upload to it (regular files within the commit, large ones by LFS) and download from it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import uvicorn
import yaml
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

WRITES, READS = "hf_writes", "hf_reads"
"""tokens of someone: one that may upload, and one that may not"""
LFS_FROM = 2000
"""bytes of a file, from which on it goes by LFS"""


@dataclass
class Repository:
    private: bool = False
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})
    lfs: set[str] = field(default_factory=set)
    """paths of what came by LFS"""

    def files(self, revision: str) -> dict[str, bytes] | None:
        """Of a branch, or of a commit that a branch is at."""
        named = self.branches.get(revision)
        commits = (files for files in self.branches.values() if commit_of(files) == revision)
        return named if named is not None else next(commits, None)


@dataclass
class Hub:
    """Its repositories, and the files that it was asked for."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """names of the files that were asked for"""
    address: str = ""

    def publish(self, name: str, folder: Path) -> None:
        """Make a repository of a folder."""
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.repositories[name] = Repository(branches={"main": files})


def commit_of(files: dict[str, bytes]) -> str:
    content = b"".join(name.encode() + data for name, data in sorted(files.items()))
    return hashlib.sha1(content).hexdigest()


@contextmanager
def serving_hub() -> Iterator[Hub]:
    """The hub at an address of this machine."""
    hub = Hub()
    server = uvicorn.Server(uvicorn.Config(_app(hub), port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.005)
        hub.address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        yield hub
    finally:
        server.should_exit = True
        thread.join(30)


def use_hub(monkeypatch: pytest.MonkeyPatch, address: str, cache: Path, token: str | None = None) -> None:
    """Make an address the hub, with nothing downloaded before, for somebody with this token."""
    for name, value in {
        "ENDPOINT": address,
        "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,  # a protocol of its own, in which files would go to another server
        "HF_TOKEN_PATH": str(cache / "token"),
    }.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)


class Refused(Exception):
    """An answer with a status of 400 or more."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        self.status, self.headers = status, {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        super().__init__(message)


def _app(hub: Hub) -> FastAPI:
    app = FastAPI()

    @app.exception_handler(Refused)
    async def refuse(request: Request, refused: Refused) -> Response:
        return JSONResponse({"error": str(refused)}, refused.status, refused.headers)

    def repository(request: Request, user: str, name: str) -> Repository:
        found = hub.repositories.get(f"{user}/{name}")
        if found is None or (found.private and not _token(request)):
            raise Refused(404, "Repository not found", "RepoNotFound")
        return found

    def files(request: Request, user: str, name: str, revision: str) -> dict[str, bytes]:
        found = repository(request, user, name).files(revision)
        if found is None:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    @app.get("/api/whoami-v2")
    async def whoami(request: Request) -> dict[str, Any]:
        if not _token(request):
            raise Refused(401, "Invalid credentials in Authorization header")
        return {"name": "someone", "type": "user", "orgs": []}

    @app.post("/api/repos/create")
    async def create(request: Request) -> Response:
        asked = await request.json()
        name = f"{asked['organization']}/{asked['name']}"
        address = {"url": f"{hub.address}/{name}", "id": name}
        if name in hub.repositories:
            return JSONResponse(address, 409)
        _require_writer(request, asked["organization"])
        hub.repositories[name] = Repository(private=asked.get("visibility") == "private")
        return JSONResponse(address)

    @app.post("/api/validate-yaml")
    async def validate(request: Request) -> Response:
        text = (await request.json())["content"]
        metadata = yaml.safe_load(text.split("---\n")[1])
        if metadata.get("license") == "none-such":
            return JSONResponse({"errors": [{"message": '"license" must be one of [apache-2.0, …]'}]}, 400)
        return JSONResponse({"errors": [], "warnings": []})

    @app.get("/api/models/{user}/{name}")
    @app.get("/api/models/{user}/{name}/revision/{revision}")
    async def model(request: Request, user: str, name: str, revision: str = "main") -> dict[str, Any]:
        found, held = repository(request, user, name), files(request, user, name, revision)
        siblings = [{"rfilename": path} for path in held]
        return {"id": f"{user}/{name}", "sha": commit_of(held), "private": found.private, "siblings": siblings}

    @app.get("/api/models/{user}/{name}/tree/{revision}")
    async def tree(request: Request, user: str, name: str, revision: str) -> list[dict[str, Any]]:
        held = files(request, user, name, revision)
        return [
            {"type": "file", "path": path, "size": len(data), "oid": _git_hash(data)} for path, data in held.items()
        ]

    @app.post("/api/models/{user}/{name}/branch/{branch}")
    async def branch(request: Request, user: str, name: str, branch: str) -> Response:
        _require_writer(request, user)
        branches = repository(request, user, name).branches
        if branch in branches:
            raise Refused(409, "Reference already exists")
        branches[branch] = dict(branches["main"])
        return JSONResponse({})

    @app.post("/api/models/{user}/{name}/preupload/{revision}")
    async def preupload(request: Request, user: str, name: str, revision: str) -> dict[str, Any]:
        _require_writer(request, user)
        held = files(request, user, name, revision)
        asked = (await request.json())["files"]
        return {"files": [_upload_of(each, held.get(each["path"])) for each in asked]}

    @app.post("/{user}/{name}.git/info/lfs/objects/batch")
    async def batch(request: Request, user: str, name: str) -> dict[str, Any]:
        _require_writer(request, user)
        objects = json.loads(await request.body())["objects"]
        places = [{"upload": {"href": f"{hub.address}/lfs/{each['oid']}"}} for each in objects]
        return {"transfer": "basic", "objects": [{**each, "actions": place} for each, place in zip(objects, places)]}

    @app.put("/lfs/{oid}")
    async def put(request: Request, oid: str) -> Response:
        content = await request.body()
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refused(400, "the content is another")
        hub.objects[oid] = content
        return Response()

    @app.post("/api/models/{user}/{name}/commit/{revision}")
    async def commit(request: Request, user: str, name: str, revision: str) -> dict[str, Any]:
        _require_writer(request, user)
        found, held = repository(request, user, name), files(request, user, name, revision)
        for line in (await request.body()).splitlines():
            _apply(json.loads(line), held, found.lfs, hub.objects)
        oid = commit_of(held)
        return {"commitOid": oid, "commitUrl": f"{hub.address}/{user}/{name}/commit/{oid}", "hookOutput": ""}

    @app.api_route("/{user}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
    async def resolve(request: Request, user: str, name: str, revision: str, path: str) -> Response:
        held = files(request, user, name, revision)
        if path not in held:
            raise Refused(404, "Entry not found", "EntryNotFound")
        if request.method == "GET":
            hub.asked.append(path)
        headers = {"ETag": f'"{_git_hash(held[path])}"', "X-Repo-Commit": commit_of(held)}
        return Response(held[path], headers=headers, media_type="application/octet-stream")

    return app


def _token(request: Request) -> str | None:
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return token if token in (WRITES, READS) else None


def _require_writer(request: Request, user: str) -> None:
    if _token(request) != WRITES or user != "someone":
        raise Refused(403, "you don't have the rights to create or change this repository")


def _upload_of(asked: dict[str, Any], held: bytes | None) -> dict[str, Any]:
    mode = "lfs" if asked["size"] >= LFS_FROM else "regular"
    return {
        "path": asked["path"],
        "uploadMode": mode,
        "shouldIgnore": False,
        **({} if held is None else {"oid": _git_hash(held)}),
    }


def _apply(line: dict[str, Any], files: dict[str, bytes], lfs: set[str], objects: dict[str, bytes]) -> None:
    kind, value = line["key"], line["value"]
    if kind == "file":
        files[value["path"]] = base64.b64decode(value["content"])
    elif kind == "lfsFile":
        files[value["path"]] = objects[value["oid"]]
        lfs.add(value["path"])
    elif kind == "deletedFile":
        del files[value["path"]]
    else:
        assert kind == "header" and value["summary"], kind


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
