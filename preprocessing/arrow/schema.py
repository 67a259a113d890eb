"""The content of a table's columns, as Arrow's types and the features say that `datasets` writes beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from xmr_e2e.errors import XmrError
from xmr_e2e.received import parse_json, shortened

FEATURES = b"huggingface"
"""the key of the schema's metadata under which `datasets` has its features"""
_OTHER_MEDIA = ("Audio", "Video", "Mesh", "Pdf", "Nifti")
_LISTS = ("List", "LargeList", "Sequence")


@dataclass(frozen=True)
class Schema:
    """A table's columns."""

    types: Mapping[str, pa.DataType]
    features: Mapping[str, Any]
    """column -> its feature as JSON, where `datasets` wrote the table"""

    def is_picture(self, name: str) -> bool:
        """True for pictures by their type: as `datasets` has them, or bytes."""
        if _kind(self.features.get(name)) == "Image":
            return True
        if self.is_other_media(name):
            return False
        kind = self.types[name]
        if pa.types.is_struct(kind):
            return {"bytes", "path"} <= {kind.field(place).name for place in range(kind.num_fields)}
        return _is_bytes(kind)

    def is_other_media(self, name: str) -> bool:
        """True for sounds, videos and shapes as `datasets` has them."""
        return _kind(self.features.get(name)) in _OTHER_MEDIA

    def is_text(self, name: str) -> bool:
        """True for texts and lists of texts."""
        kind = self.types[name]
        return _is_string(kind) or (_is_list(kind) and _is_string(kind.value_type))

    def is_label(self, name: str) -> bool:
        """True for class names, whole numbers, and lists of them."""
        kind = self.types[name]
        kind = kind.value_type if _is_list(kind) else kind
        return _is_string(kind) or pa.types.is_integer(kind)

    def class_names(self, name: str) -> tuple[str, ...]:
        """The names of the classes whose numbers a column holds; none where it has no such list."""
        feature: Any = self.features.get(name)
        while _kind(feature) in _LISTS:
            feature = feature.get("feature") if isinstance(feature, dict) else feature[0]
        names = feature.get("names") if _kind(feature) == "ClassLabel" else ()
        return tuple(names) if isinstance(names, list) and all(isinstance(each, str) for each in names) else ()


def read_schema(schema: pa.Schema, where: str) -> Schema:
    """The columns of Arrow's schema.

    Raises:
        XmrError: two columns of one name, or features that are no JSON object.
    """
    twice = [name for name, times in Counter(schema.names).items() if times > 1]
    if twice:
        raise XmrError(f"{where}: the column {shortened(twice[0])} is there twice; rename one")
    content = (schema.metadata or {}).get(FEATURES, b"{}")
    document = parse_json(content, f"{where}: its features (huggingface)")
    info = document.get("info") if isinstance(document, dict) else None
    features = info.get("features") if isinstance(info, dict) else None
    types = {field.name: getattr(field.type, "storage_type", field.type) for field in schema}
    return Schema(types, features if isinstance(features, dict) else {})


def _kind(feature: Any) -> str:
    """The name of a feature's type; a list in brackets is one, too."""
    if isinstance(feature, list) and len(feature) == 1:
        return "List"
    return str(feature.get("_type")) if isinstance(feature, dict) else ""


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_string(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
