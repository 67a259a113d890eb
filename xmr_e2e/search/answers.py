"""The answers of the API, as they are described at /docs."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import BaseModel, Field

from xmr_e2e.search.limits import UPLOAD_BYTES, UPLOAD_PIXELS
from xmr_e2e.search.uploads import MEDIA_BOUNDS

Modality: TypeAlias = Literal["image", "text", "audio", "video", "shape3d"]
Playing: TypeAlias = Literal["audio", "video", "shape3d"]
TEXT_CHARACTERS = 1000
MAX_HITS = 100


class Collection(BaseModel):
    """A dataset's split, or a folder of files."""

    name: str
    split: str = Field(description="empty for a folder of files")
    items: int


class Limits(BaseModel):
    """Limits on the content of a request."""

    upload_bytes: int = UPLOAD_BYTES
    upload_pixels: int = Field(default=UPLOAD_PIXELS, description="of a picture")
    upload_seconds: float = Field(default=MEDIA_BOUNDS.max_seconds, description="of a sound or a video")
    upload_frame_pixels: int = Field(
        default=MEDIA_BOUNDS.max_frame_pixels, description="decoded pixels x frames of a video"
    )
    upload_faces: int = Field(default=MEDIA_BOUNDS.max_faces, description="triangles of a mesh")
    upload_points: int = Field(default=MEDIA_BOUNDS.max_points, description="vertices of a mesh, or points of a cloud")
    text_characters: int = TEXT_CHARACTERS
    hits: int = MAX_HITS


class About(BaseModel):
    """The items that are searched, and the model that searches them."""

    model: str = Field(description="the method's name")
    run: str = Field(description="the last two folders of the run")
    similarity: str = Field(description="what the scores are; higher is better")
    exact: bool = Field(description="every item is compared; a large index is searched by a graph, which may miss some")
    items: int
    found_by: dict[str, int] = Field(description="modality: items that are found by theirs")
    collections: list[Collection]
    takes: dict[str, list[str]] = Field(description="modalities of the queries that can be answered: the endings of "
                                        "their files, none for sentences")  # fmt: skip
    examples: list[str] = Field(description="texts of some of the items")
    limits: Limits


class Found(BaseModel):
    """An item that was found."""

    item: int = Field(description="its number in the index")
    score: float
    modality: str = Field(description="by which of its modalities it was found")
    source: str = Field(description="its name in the files that it came from")
    collection: str
    split: str
    labels: list[str]
    texts: list[str]
    thumbnail: str | None = Field(description="path of its picture, if it has one")
    previews: dict[str, str] = Field(description="modality: path of the preview of its sound, video or shape")


class Answer(BaseModel):
    """The items found, best first."""

    query: str = Field(description="the query's modality")
    finds: list[str] = Field(description="the modalities by which items were looked for")
    hits: list[Found]
    unknown: list[str] = Field(default=[], description="words of the sentence that the model does not know")
    remark: str = Field(default="", description="the same for a person; says where no word is known, so that the hits "
                        "do not depend on the sentence")  # fmt: skip


class Failure(BaseModel):
    """The reason why there is no answer."""

    detail: str
