"""What one sample in a shard looks like.

A shard is a plain WebDataset tar. A sample is a run of adjacent members that share one key:

    <key>.jpg    the image's bytes (or .png, .webp, .gif, .bmp, .tif: whatever the bytes really are)
    <key>.json   {"labels": [class names], "source": the id in the publisher's files, "texts": [strings]}

Keys are unique over a split, hold neither dot nor slash, and ascend within a shard and from shard to shard.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from xmr_e2e.errors import XmrError

SPLITS = ("train", "val", "test")
IMAGE_EXTENSIONS = ("jpg", "png", "webp", "gif", "bmp", "tif")
# The names by which other tools' tars call the same formats.
EXTENSION_ALIASES = {"jpeg": "jpg", "tiff": "tif"}


@dataclass(frozen=True)
class Metadata:
    """What a sample's JSON member says: its texts, its class names and its id in the publisher's files."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    source: str

    def encode(self) -> bytes:
        """Canonical JSON: the same metadata gives the same bytes."""
        document = {"labels": self.labels, "source": self.source, "texts": self.texts}
        return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def key_of(source: str) -> str:
    """The key of the sample with this source id: ASCII, at most 77 characters.

    It begins with a hash, so that key order is a fixed shuffle: each shard is a random sample of its split,
    whatever order the publisher's files have, and reading neighbours gives a well mixed batch. Where names have no
    ASCII in them, the hash alone keeps keys apart: of a billion, two collide with a chance of 3 %.
    """
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    plain = unicodedata.normalize("NFKD", source).encode("ascii", "ignore").decode()
    readable = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")
    return f"{digest}-{readable[-60:]}"


def split_member_name(name: str) -> tuple[str, str]:
    """A tar member's key and extension. WebDataset's rule: the extension begins at the first dot of the file name."""
    folder, slash, file_name = name.rpartition("/")
    stem, _, extension = file_name.partition(".")
    extension = extension.lower()
    return f"{folder}{slash}{stem}", EXTENSION_ALIASES.get(extension, extension)


def decode_metadata(members: Mapping[str, bytes], where: str) -> Metadata:
    """Read a sample's metadata from its non-image members.

    Args:
        members: extension -> bytes. Beside this project's own JSON, the members of other tools are understood:
            `txt` (a text), `cls` (a class), and a JSON with `caption` or `text`, `label` or `labels`, as img2dataset
            writes it. Class names may be numbers there; blank texts are left out.
        where: shard and key, for the error.

    Raises:
        XmrError: the members are not valid UTF-8 JSON, or their fields have the wrong type.
    """
    try:
        document = json.loads(members["json"]) if "json" in members else {}
        text = members["txt"].decode() if "txt" in members else None
        label = members["cls"].decode().strip() if "cls" in members else None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise XmrError(f"{where}: the metadata cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise XmrError(f"{where}: the JSON member must hold an object, not {type(document).__name__}")
    texts = _strings(document, ("texts", "text", "caption", "captions"), where) or _not_blank([text or ""])
    labels = _strings(document, ("labels", "label"), where) or _not_blank([label or ""])
    return Metadata(texts, tuple(dict.fromkeys(labels)), str(document.get("source") or ""))


def _strings(document: dict[str, object], names: tuple[str, ...], where: str) -> tuple[str, ...]:
    for name in names:
        value = document.get(name)
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        if not all(type(item) in (str, int) for item in values):
            raise XmrError(f'{where}: "{name}" must be a string or a list of strings')
        return _not_blank([str(item) for item in values])
    return ()


def _not_blank(values: list[str]) -> tuple[str, ...]:
    return tuple(value.strip() for value in values if value.strip())
