"""The format of one sample in a shard.

A shard is a plain WebDataset tar. A sample is a run of adjacent members that share one key:

    <key>.json   {"labels": [class names], "source": the id in the publisher's files, "texts": [strings]}
    <key>.jpg    the image's bytes (or .png, .webp, .gif, .bmp, .tif: whatever the bytes really are)
    <key>.wav    raw audio (or .flac, .mp3, .ogg, .m4a), as it is
    <key>.mp4    raw video (or .webm, .avi, .mov, .mkv), as it is
    <key>.off    a 3D shape (or .obj, .ply, .stl, .glb, .pcd), as it is
    <key>.audio.safetensors      published features of a modality, here audio
    <key>.regions.safetensors    what a detector found in the image

A sample has at least one modality. `shards.features` says what the last two hold. Keys are unique over a split, hold
neither dot nor slash, and ascend within a shard and from shard to shard.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from xmr_e2e.errors import XmrError

SPLITS = ("train", "val", "test")
MODALITIES = ("image", "text", "audio", "video", "shape3d")
IMAGE_EXTENSIONS = ("jpg", "png", "webp", "gif", "bmp", "tif")
MEDIA_EXTENSIONS = {
    "audio": ("wav", "flac", "mp3", "ogg", "m4a"),
    "video": ("mp4", "webm", "avi", "mov", "mkv"),
    "shape3d": ("off", "obj", "ply", "stl", "glb", "pcd"),
}
"""of the raw media that are carried as they are"""
# The names by which other tools' tars call the same formats.
EXTENSION_ALIASES = {"jpeg": "jpg", "jpe": "jpg", "jfif": "jpg", "tiff": "tif"}
IMAGE_SUFFIXES = tuple(f".{extension}" for extension in (*IMAGE_EXTENSIONS, *EXTENSION_ALIASES))
"""by which a file is taken for a picture, wherever an ending decides; compared in lower case"""
FOREIGN_IMAGE_SUFFIXES = tuple(
    ".heic .heif .hif .avif .jxl .jp2 .j2k .jpx .jpf .jxr .apng .svg .ico .tga .psd .xcf .ppm .pgm .pbm .pnm .exr .hdr"
    " .dng .raw .cr2 .cr3 .crw .nef .nrw .arw .orf .rw2 .raf .pef .srw".split()
)
"""of pictures that are not read here: they are counted and named where they are passed over"""
FEATURE_MEMBERS = {modality: f"{modality}.safetensors" for modality in MODALITIES}
"""modality -> extension of the member with its published features"""
REGIONS_MEMBER = "regions.safetensors"
COCO_CLASSES = 91
"""of COCO's objects, by torchvision's numbers; 0 is background"""
MEMBERS: dict[str, tuple[str, ...]] = {
    "image": (*IMAGE_EXTENSIONS, FEATURE_MEMBERS["image"], REGIONS_MEMBER),
    "text": (FEATURE_MEMBERS["text"],),
    **{name: (*raw, FEATURE_MEMBERS[name]) for name, raw in MEDIA_EXTENSIONS.items()},
}
"""modality -> the extensions of which one makes a sample have it; text is also had by texts in the metadata"""


@dataclass(frozen=True)
class Metadata:
    """The content of a sample's JSON member: its texts, its class names and its id in the publisher's files."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    source: str

    def encode(self) -> bytes:
        """Canonical JSON: the same metadata gives the same bytes."""
        document = {"labels": self.labels, "source": self.source, "texts": self.texts}
        return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def is_litter(name: str) -> bool:
    """True for files and folders not the user's: hidden (`._0.jpg` of a Mac, `.DS_Store`), or left by a system."""
    return name.startswith(".") or name.lower() in ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir")


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


def modalities_of(extensions: Collection[str], texts: int) -> tuple[str, ...]:
    """The modalities of a sample with these members and this many texts, in the order of MODALITIES."""
    return tuple(
        name for name in MODALITIES if not set(MEMBERS[name]).isdisjoint(extensions) or (name == "text" and texts)
    )


def split_member_name(name: str) -> tuple[str, str]:
    """A tar member's key and extension. WebDataset's rule: the extension begins at the first dot of the file name."""
    folder, slash, file_name = name.rpartition("/")
    stem, _, extension = file_name.partition(".")
    extension = extension.lower()
    return f"{folder}{slash}{stem}", EXTENSION_ALIASES.get(extension, extension)


def decode_metadata(members: Mapping[str, bytes], where: str) -> Metadata:
    """Read a sample's metadata from its json, txt and cls members.

    Args:
        members: extension -> bytes. Beside this project's own JSON, the members of other tools are understood:
            `txt` (a text), `cls` (a class), and a JSON with `caption` or `text`, `label` or `labels`, as img2dataset
            writes it: the first of them that is not blank counts. Class names may be whole numbers there; blank texts
            are left out, and null and NaN, which tables have where a value is missing, are blank, too.
        where: shard and key, for the error.

    Raises:
        XmrError: the members are not valid JSON or text in UTF-8 or, with a byte order mark, UTF-16; or their fields
            have the wrong type.
    """
    try:
        # Not received.parse_json, which refuses halves of characters: crawled captions hold them, and lose only these.
        document = json.loads(members["json"]) if "json" in members else {}
        text, label = (_decode_text(members.get(extension, b"")) for extension in ("txt", "cls"))
    except (ValueError, RecursionError) as error:  # the latter: of JSON that is nested without end
        raise XmrError(f"{where}: the metadata cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise XmrError(f"{where}: the JSON member must hold an object, not {type(document).__name__}")
    texts = _strings(document, ("texts", "text", "caption", "captions"), where) or _not_blank([text])
    labels = _strings(document, ("labels", "label"), where) or _not_blank([label])
    return Metadata(texts, tuple(dict.fromkeys(labels)), _as_source(document.get("source")))


def _decode_text(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    text = data.decode("utf-8-sig")
    if "\0" in text:
        raise ValueError("the text holds zero bytes, as UTF-16 without a byte order mark does; save it as UTF-8")
    return text


def _strings(document: dict[str, object], names: tuple[str, ...], where: str) -> tuple[str, ...]:
    """The values of the first of these names that has any which is not blank."""
    for name in names:
        value = document.get(name)
        values = value if isinstance(value, list) else [value]
        try:
            found = _not_blank([_as_text(item) for item in values])
        except TypeError as error:
            raise XmrError(f'{where}: "{name}" must be a string or a list of strings, not {error}') from error
        if found:
            return found
    return ()


def _as_text(value: object) -> str:
    """A string, or a whole number in its digits; 3.0 is 3, as tables write it that have gaps elsewhere."""
    if value is None or value != value:  # the latter: NaN
        return ""
    if type(value) in (str, int):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    try:
        raise TypeError(json.dumps(value)[:40])
    except RecursionError as error:  # of what is nested nearly as deep as can be read
        raise TypeError(type(value).__name__) from error


def _as_source(value: object) -> str:
    """The id as a text; of what is no id, nothing is kept."""
    return _sound(str(value)) if isinstance(value, (str, int, float)) and value else ""


def _not_blank(values: list[str]) -> tuple[str, ...]:
    return tuple(_sound(value.strip()) for value in values if value.strip())


def _sound(text: str) -> str:
    """The text without halves of characters, which JSON can hold and UTF-8 cannot, such as a cut emoji's."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
