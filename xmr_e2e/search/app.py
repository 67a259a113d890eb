"""The web application around an index and its model: a page, a JSON API, and the API's description.

Nothing that is sent is ever taken as a path: the page's files are read at the start, pictures are found by number.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, BinaryIO

import numpy as np
from fastapi import FastAPI, HTTPException, Path, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment
from PIL import Image
from pydantic import BaseModel, Field
from starlette.types import ASGIApp

import xmr_e2e
from xmr_e2e.data.images import load_square
from xmr_e2e.errors import XmrError
from xmr_e2e.models.saved_model import SavedModel
from xmr_e2e.search.access import Access, Rules
from xmr_e2e.search.index import Index
from xmr_e2e.search.limits import (
    FAILED,
    LARGE_PIXELS,
    UPLOAD_BYTES,
    UPLOAD_PIXELS,
    BodyLimitMiddleware,
    InferenceQueues,
    client_of,
)
from xmr_e2e.search.query import shorten
from xmr_e2e.shards.media import UnusableImage, count_pixels

TEXT_CHARACTERS = 1000
MAX_HITS = 100
DEFAULT_HITS = 24
EXAMPLES, EXAMPLE_CHARACTERS = 3, 60
NAME_CHARACTERS = 100
"""of an uploaded file's name, in an answer"""

_PAGE = {
    "": ("index.html", "text/html; charset=utf-8"),
    "style.css": ("style.css", "text/css; charset=utf-8"),
    "script.js": ("script.js", "text/javascript; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
"""path -> file in the package, and its media type"""

_LOG = logging.getLogger(__name__)

Hits = Annotated[int, Query(ge=1, le=MAX_HITS, description="how many of the best items")]


class Collection(BaseModel):
    """A dataset's split, or a folder of pictures."""

    name: str
    split: str = Field(description="empty for a folder of pictures")
    items: int


class Limits(BaseModel):
    """Limits on the content of a request."""

    upload_bytes: int = UPLOAD_BYTES
    upload_pixels: int = UPLOAD_PIXELS
    text_characters: int = TEXT_CHARACTERS
    hits: int = MAX_HITS


class About(BaseModel):
    """The items that are searched, and the model that searches them."""

    model: str = Field(description="the method's name")
    run: str = Field(description="the last two folders of the run")
    similarity: str = Field(description="what the scores are; higher is better")
    exact: bool = Field(description="every item is compared; a large index is searched by a graph, which may miss some")
    items: int
    pictures: int = Field(description="items that a sentence can find")
    texts: int = Field(description="items that a picture can find")
    collections: list[Collection]
    takes: list[str] = Field(description='queries that the model can read: "text", "picture"')
    examples: list[str] = Field(description="texts of some of the items")
    limits: Limits


class Found(BaseModel):
    """An item that was found."""

    item: int = Field(description="its number in the index")
    score: float
    source: str = Field(description="its name in the files that it came from")
    collection: str
    split: str
    labels: list[str]
    texts: list[str]
    thumbnail: str | None = Field(description="path of its picture, if it has one")


class Answer(BaseModel):
    """The items found, best first."""

    finds: str = Field(description='by what the items were found: "image" or "text"')
    hits: list[Found]
    unknown: list[str] = Field(default=[], description="words of the sentence that the model does not know")
    remark: str = Field(default="", description="the same for a person; says where no word is known, so that the hits "
                        "do not depend on the sentence")  # fmt: skip


class Failure(BaseModel):
    """The reason why there is no answer."""

    detail: str


class Service:
    """The routes, and what they need."""

    def __init__(self, index: Index, model: SavedModel, work: InferenceQueues, root_path: str = "") -> None:
        self.index = index
        self.model = model
        self.work = work
        self.root_path = root_path
        self.about_this = _describe(index, model)

    def about(self) -> About:
        """The items that are searched, and the model that searches them."""
        return self.about_this

    async def search_text(
        self,
        request: Request,
        text: Annotated[str, Query(max_length=TEXT_CHARACTERS, description="a sentence")],
        k: Hits = DEFAULT_HITS,
    ) -> Answer:
        """The pictures that fit a sentence best."""
        if not text.strip():
            raise HTTPException(422, "the sentence is empty")
        self._require("text", "image")
        return await self.work.model.do(client_of(request.client), self._find_pictures, text, k)

    async def search_picture(self, request: Request, picture: UploadFile, k: Hits = DEFAULT_HITS) -> Answer:
        """The texts that fit a picture best: JPEG, PNG, WebP, GIF, BMP or TIFF, whatever its name."""
        self._require("picture", "text")
        client, given = client_of(request.client), (picture.file, picture.filename or "", k)
        found = await self.work.pictures.do(client, self._find_texts, *given, LARGE_PIXELS)
        if found is None:
            found = await self.work.large_pictures.do(client, self._find_texts, *given, UPLOAD_PIXELS)
        assert found is not None, "no picture has more pixels than that"
        return found

    def thumbnail(self, item: Annotated[int, Path(ge=1, lt=2**63)]) -> Response:
        """An item's picture, small."""
        jpeg = self.index.store.pictures.thumbnail(item)
        if jpeg is None:
            raise HTTPException(404, f"no picture of an item {item}")
        return Response(jpeg, media_type="image/jpeg")

    def _require(self, query: str, finds: str) -> None:
        """Raise HTTPException for a query that the model cannot read, or to which no item can be the answer."""
        if query not in self.about_this.takes:
            raise HTTPException(422, f"this model cannot read a {query}")
        if not len(self.index.numbers(finds)):
            raise HTTPException(422, f"none of the items can be found by its {finds}, so that a {query} finds nothing")

    def _find_pictures(self, text: str, k: int) -> Answer:
        answer = self._answer(self.model.embed_texts([text])[0], "image", k)
        unknown = self.model.unknown_words(text)
        return answer.model_copy(update={"unknown": list(unknown.words), "remark": str(unknown)})

    def _find_texts(self, file: BinaryIO, name: str, k: int, most_pixels: int) -> Answer | None:
        """None for a picture of more pixels than it may have here.

        The file is read by the thread that decodes it: what waits for its turn lies on the disk.
        """
        file.seek(0)
        content = file.read()
        try:
            if count_pixels(content, max_pixels=UPLOAD_PIXELS) > most_pixels:
                return None
            side, how = self.model.data.load_size, self.model.data.interpolation
            square = load_square(content, side, where="", max_pixels=UPLOAD_PIXELS, interpolation=how)
        except (UnusableImage, XmrError) as error:
            reason = str(error).removeprefix(": the image ")
            raise HTTPException(
                422, f"{shorten(name, NAME_CHARACTERS) or 'this file'} cannot be used: {reason}"
            ) from error
        decoded = Image.fromarray(square.permute(1, 2, 0).numpy())
        return self.work.with_model(self._find_texts_of, decoded, k)

    def _find_texts_of(self, decoded: Image.Image, k: int) -> Answer:
        return self._answer(self.model.embed_images([decoded])[0], "text", k)

    def _answer(self, embedded: np.ndarray, finds: str, k: int) -> Answer:
        found = self.index.nearest(embedded, finds, k)
        items = self.index.store.items([number for number, _ in found])
        return Answer(finds=finds, hits=[
            Found(
                item=number, score=score, source=item.source or item.key, collection=item.collection, split=item.split,
                labels=list(item.labels), texts=list(item.texts),
                thumbnail=f"{self.root_path}/thumbnails/{number}" if item.has_thumbnail else None,
            )
            for (number, score), item in zip(found, items)
        ])  # fmt: skip


def create_app(index: Index, model: SavedModel, rules: Rules, *, work: InferenceQueues | None = None) -> ASGIApp:
    """The application.

    rules: who may ask it.
    """
    work = work or InferenceQueues()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        work.close()

    app = FastAPI(
        title="xmr serve", version=xmr_e2e.__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        redirect_slashes=False,
        description="Cross-modal search: a sentence finds pictures, a picture finds texts.",
    )  # fmt: skip
    service = Service(index, model, work, rules.root_path)
    failures = {code: {"model": Failure} for code in (408, 413, 422, 503)}
    app.get("/api/about")(service.about)
    app.get("/api/search", responses={422: failures[422], 503: failures[503]})(service.search_text)
    app.post("/api/search", responses=failures)(service.search_picture)  # type: ignore[arg-type]
    app.get("/thumbnails/{item}", response_class=Response, responses={
        200: {"content": {"image/jpeg": {}}}, 404: {"model": Failure}, 422: failures[422]
    })(service.thumbnail)  # fmt: skip
    _add_pages(app, rules)
    app.add_exception_handler(RequestValidationError, _refuse)
    app.add_exception_handler(XmrError, _fail_quietly)
    app.add_exception_handler(Exception, _fail)
    return BodyLimitMiddleware(Access(app, rules))


def _describe(index: Index, model: SavedModel) -> About:
    reads = model.method.input_kinds
    return About(
        model=model.config.title,
        run="/".join(index.run.parts[-2:]),
        similarity=model.similarity,
        exact=not index.is_approximate,
        items=len(index),
        pictures=len(index.numbers("image")),
        texts=len(index.numbers("text")),
        collections=[Collection(name=row[0], split=row[1], items=row[2]) for row in index.store.collections()],
        takes=["text"] * (reads.get("text") == "tokens") + ["picture"] * (reads.get("image") == "pixels"),
        examples=_examples(index),
        limits=Limits(),
    )


def _examples(index: Index) -> list[str]:
    """A text of a few items, spread over the index."""
    numbers = index.numbers("text")
    spread = numbers[np.linspace(0, len(numbers) - 1, 5 * EXAMPLES).astype(int)] if len(numbers) else numbers
    texts = [item.texts[0] for item in index.store.items(np.unique(spread).tolist()) if item.texts]
    short = [text for text in dict.fromkeys(texts) if len(text) <= EXAMPLE_CHARACTERS]
    return short[:: max(1, len(short) // EXAMPLES)][:EXAMPLES]


def _add_pages(app: FastAPI, rules: Rules) -> None:
    folder = files("xmr_e2e.search") / "page"
    for path, (name, media_type) in _PAGE.items():
        app.add_api_route(f"/{path}", _constant((folder / name).read_bytes(), media_type), include_in_schema=False)
    template = Environment(autoescape=True).from_string((folder / "docs.html").read_text("utf-8"))

    def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(
            template.render(
                api=app.openapi(),
                address=f"{request.headers['host']}{rules.root_path}",
                needs_token=bool(rules.token),
                upload_mb=UPLOAD_BYTES // 2**20,
            )
        )

    app.add_api_route("/docs", docs, include_in_schema=False)


def _constant(content: bytes, media_type: str):  # type: ignore[no-untyped-def]
    return lambda: Response(content, media_type=media_type)


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    """Answer with what does not fit the parameters, in one sentence; FastAPI's own answer repeats what was sent."""
    assert isinstance(error, RequestValidationError)
    reasons = [f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors()]
    return JSONResponse({"detail": "; ".join(reasons)}, 422)


async def _fail_quietly(request: Request, error: Exception) -> JSONResponse:
    """An XmrError is for whoever runs the server: it names files and folders."""
    _LOG.error("%s", error)
    return JSONResponse({"detail": FAILED}, 500)


async def _fail(request: Request, error: Exception) -> JSONResponse:
    """The traceback is the console's."""
    return JSONResponse({"detail": FAILED}, 500)
