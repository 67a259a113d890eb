"""The web application around an index and its model: a page, a JSON API, and the API's description.

Nothing that is sent is ever taken as a path: the page's files are read at the start, pictures and previews are found
by number.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Header, HTTPException, Path, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment
from starlette.types import ASGIApp

import xmr_e2e
from xmr_e2e.data.preview_files import MEDIA_TYPES
from xmr_e2e.errors import XmrError
from xmr_e2e.extras import has_extra
from xmr_e2e.models.given import FILE_SUFFIXES, NOUNS, RAW_KINDS
from xmr_e2e.models.saved_model import SavedModel
from xmr_e2e.search.access import Access, Rules
from xmr_e2e.search.answers import (
    MAX_HITS,
    TEXT_CHARACTERS,
    About,
    Answer,
    Collection,
    Failure,
    Found,
    Limits,
    Modality,
    Playing,
)
from xmr_e2e.search.index import Index
from xmr_e2e.search.limits import (
    FAILED,
    LARGE_PIXELS,
    UPLOAD_BYTES,
    UPLOAD_PIXELS,
    BodyLimitMiddleware,
    client_of,
)
from xmr_e2e.search.queues import DecodingQueue, InferenceQueues
from xmr_e2e.search.ranges import ranged
from xmr_e2e.search.store import Item
from xmr_e2e.search.uploads import Upload
from xmr_e2e.shards.schema import MODALITIES

DEFAULT_HITS = 24
EXAMPLES, EXAMPLE_CHARACTERS = 3, 60

_PAGE = {
    "": ("index.html", "text/html; charset=utf-8"),
    "style.css": ("style.css", "text/css; charset=utf-8"),
    "players.js": ("players.js", "text/javascript; charset=utf-8"),
    "script.js": ("script.js", "text/javascript; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
"""path -> file in the package, and its media type"""

_LOG = logging.getLogger(__name__)

Hits = Annotated[int, Query(ge=1, le=MAX_HITS, description="how many of the best items")]
Finds = Annotated[tuple[Modality, ...], Query(
    description="by which of their modalities items are found; by default by all but the query's own"
)]  # fmt: skip
Number = Annotated[int, Path(ge=1, lt=2**63)]


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
        finds: Finds = (),
    ) -> Answer:
        """The items that fit a sentence best."""
        if not text.strip():
            raise HTTPException(422, "the sentence is empty")
        wanted = self._galleries("text", finds)
        return await self.work.model.do(client_of(request.client), self._find_by_text, text, wanted, k)

    async def search_file(
        self, request: Request, file: UploadFile, k: Hits = DEFAULT_HITS, finds: Finds = ()
    ) -> Answer:
        """The items that fit a picture, a sound, a video or a 3D shape best. The ending of the file's name says which
        it is, as /api/about lists them; another one stands for a picture: JPEG, PNG, WebP, GIF, BMP or TIFF."""
        upload, client = Upload(file.file, file.filename or ""), client_of(request.client)
        wanted = self._galleries(upload.modality, finds)
        queue = self.work.pictures if upload.modality == "image" else self.work.media
        found = await self._find_by_file(queue, client, upload, wanted, k, LARGE_PIXELS)
        if found is None:
            found = await self._find_by_file(self.work.large_pictures, client, upload, wanted, k, UPLOAD_PIXELS)
        assert found is not None, "no picture has more pixels than that"
        return found

    def thumbnail(self, item: Number) -> Response:
        """An item's picture, small; drawn of sounds, videos and shapes."""
        jpeg = self.index.store.pictures.thumbnail(item)
        if jpeg is None:
            raise HTTPException(404, f"no picture of an item {item}")
        return Response(jpeg, media_type="image/jpeg")

    def preview(
        self, item: Number, modality: Playing, range: Annotated[str | None, Header(include_in_schema=False)] = None
    ) -> Response:
        """A preview of an item's sound (its beginning, MP3), video (MP4) or shape (a picture that turns, WebP)."""
        content = self.index.store.pictures.preview(item, modality)
        if content is None:
            raise HTTPException(404, f"no preview of an item {item} by its {modality}")
        return ranged(content, MEDIA_TYPES[modality], range)

    def _galleries(self, query: str, finds: Sequence[str]) -> list[str]:
        """The modalities by which a query finds items; HTTPException where it is not read, or none of them is held."""
        about, noun = self.about_this, "sentence" if query == "text" else NOUNS[query]
        if query not in about.takes:
            raise HTTPException(422, f"this model cannot read a {noun}")
        asked = finds or [name for name in self.model.method.input_kinds if name != query]
        found = [name for name in about.found_by if name in asked]
        if not found:
            by = " or ".join(asked) or "anything else"
            raise HTTPException(422, f"none of the items can be found by its {by}, so that a {noun} finds nothing")
        return found

    def _find_by_text(self, text: str, finds: Sequence[str], k: int) -> Answer:
        answer = self._answer(self.model.embed_texts([text])[0], "text", finds, k)
        unknown = self.model.unknown_words(text)
        return answer.model_copy(update={"unknown": list(unknown.words), "remark": str(unknown)})

    async def _find_by_file(
        self, queue: DecodingQueue, client: str, upload: Upload, finds: Sequence[str], k: int, most_pixels: int
    ) -> Answer | None:
        """None for a picture of more pixels than it may have in this queue."""

        def find() -> Answer | None:
            decoded = upload.decode(queue.decoder, self.model.data, most_pixels)
            if decoded is None:
                return None
            return self.work.with_model(self._find_by_decoded, decoded, upload.modality, finds, k)

        return await queue.do(client, find)

    def _find_by_decoded(self, decoded: Any, query: str, finds: Sequence[str], k: int) -> Answer:
        return self._answer(self.model.embed_decoded(query, [decoded])[0], query, finds, k)

    def _answer(self, embedded: np.ndarray, query: str, finds: Sequence[str], k: int) -> Answer:
        best = self.index.best(embedded, finds, k)
        items = self.index.store.items([number for number, *_ in best])
        hits = [self._found(item, *place) for item, place in zip(items, best)]
        return Answer(query=query, finds=list(finds), hits=hits)

    def _found(self, item: Item, number: int, modality: str, score: float) -> Found:
        root = self.root_path
        return Found(
            item=number, score=score, modality=modality, source=item.source or item.key, collection=item.collection,
            split=item.split, labels=list(item.labels), texts=list(item.texts),
            thumbnail=f"{root}/thumbnails/{number}" if item.has_thumbnail else None,
            previews={name: f"{root}/previews/{number}/{name}" for name in item.previews},
        )  # fmt: skip


def create_app(index: Index, model: SavedModel, rules: Rules, *, work: InferenceQueues | None = None) -> ASGIApp:
    """The application.

    rules: who may ask it.
    """
    work = work or InferenceQueues()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await work.start()
        yield
        work.close()

    app = FastAPI(
        title="xmr serve", version=xmr_e2e.__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        redirect_slashes=False,
        description="Cross-modal search: a sentence, a picture, a sound, a video or a 3D shape finds items of other "
        "kinds.",
    )  # fmt: skip
    service = Service(index, model, work, rules.root_path)
    failures = {code: {"model": Failure} for code in (408, 413, 422, 503)}
    app.get("/api/about")(service.about)
    app.get("/api/search", responses={422: failures[422], 503: failures[503]})(service.search_text)
    app.post("/api/search", responses=failures)(service.search_file)  # type: ignore[arg-type]
    app.get("/thumbnails/{item}", response_class=Response, responses={
        200: {"content": {"image/jpeg": {}}}, 404: {"model": Failure}, 422: failures[422]
    })(service.thumbnail)  # fmt: skip
    kinds: dict[str, dict[str, Any]] = {kind: {} for kind in MEDIA_TYPES.values()}
    app.get("/previews/{item}/{modality}", response_class=Response, responses={
        200: {"content": kinds}, 206: {"content": kinds, "description": "The part that a Range header asks for"},
        404: {"model": Failure}, 416: {"model": Failure}, 422: failures[422]
    })(service.preview)  # fmt: skip
    _add_pages(app, rules)
    app.add_exception_handler(RequestValidationError, _refuse)
    app.add_exception_handler(XmrError, _fail_quietly)
    app.add_exception_handler(Exception, _fail)
    return BodyLimitMiddleware(Access(app, rules))


def _describe(index: Index, model: SavedModel) -> About:
    found_by = {name: len(index.numbers(name)) for name in MODALITIES}
    return About(
        model=model.config.title,
        run="/".join(index.run.parts[-2:]),
        similarity=model.similarity,
        exact=not index.is_approximate,
        items=len(index),
        found_by={name: count for name, count in found_by.items() if count},
        collections=[Collection(name=row[0], split=row[1], items=row[2]) for row in index.store.collections()],
        takes={name: list(FILE_SUFFIXES.get(name, ())) for name in MODALITIES if _reads(model, name)},
        examples=_examples(index),
        limits=Limits(),
    )


def _reads(model: SavedModel, modality: str) -> bool:
    """True if a sentence, or a file of this modality, can be a query."""
    is_raw = model.method.input_kinds.get(modality) == RAW_KINDS[modality]
    return is_raw and (modality in ("text", "image") or has_extra("media"))


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
