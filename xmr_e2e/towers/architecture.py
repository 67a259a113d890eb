"""Architectures of pretrained transformers, as a saved model carries them: read as data, whoever wrote them.

transformers' own readers ask the hub, and may ask to run code that lies beside a model. Here a file is read, and a
class that is part of transformers is made from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from transformers import PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from xmr_e2e.errors import XmrError
from xmr_e2e.received import first_line, parse_json, read_bytes, shortened

NAME = "config.json"
_BYTES = 16 * 2**20
"""of a file, at most: those with the names of 21,000 classes have 1 MB"""
_MOST_COUNTED = 100_000
"""layers, heads, classes, …: of each number that is one of things"""
_COUNTED = re.compile("^num_|^n_|layer|depth|labels|stages")
_CODE = (
    "auto_map",
    "quantization_config",
    "backbone",
    "use_timm_backbone",
    "use_pretrained_backbone",
    "custom_pipelines",
)
"""keys of what would have to be had from elsewhere, code or weights"""
_ATTENTION = ("eager", "sdpa")
"""the kinds that are torch's own; others name kernels, which would be downloaded"""
_IGNORED = ("dtype", "torch_dtype")
"""keys that say nothing of the architecture"""


def read_architecture(path: Path) -> PretrainedConfig:
    """The architecture of a config.json: of a kind that transformers has itself, and without anything from elsewhere.

    Raises:
        XmrError: it is none, or would need more than itself.
    """
    document = parse_json(read_bytes(path, most=_BYTES), str(path))
    if not isinstance(document, dict):
        raise XmrError(f"{path} holds no JSON object")
    for key, value in _items(document):
        _check(key, value, f"{path}: {shortened(key, quoted=False)}")
    kind = document.pop("model_type", None)
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise XmrError(f"{path}: model_type: {shortened(kind)} is none that the installed transformers knows")
    try:
        found: PretrainedConfig = CONFIG_MAPPING[kind].from_dict(_without(document, _IGNORED))
    except Exception as error:  # each kind has checks of its own
        raise XmrError(
            f"{path}: no architecture of the kind {kind}: {type(error).__name__}: {first_line(error)}"
        ) from error
    return found


def find_architecture(name: str, revision: str) -> Path | None:
    """The config.json of a model in a folder of this name, or among the hub's models that were downloaded before."""
    try:
        if Path(name).is_dir():
            return Path(name, NAME) if Path(name, NAME).is_file() else None
        found = try_to_load_from_cache(name, NAME, revision=revision or "main")
    except (OSError, HFValidationError, ValueError):  # the first: of a name that is too long for a file's
        return None
    return Path(found) if isinstance(found, str) else None


def to_json(architecture: PretrainedConfig) -> bytes:
    """The file that `read_architecture` reads."""
    document = _without(json.loads(architecture.to_json_string(use_diff=True)), (*_IGNORED, *_CODE))
    return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()


def _items(document: Any) -> Iterator[tuple[str, Any]]:
    """All keys and values, at any depth."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield key, value
            yield from _items(value)
    elif isinstance(document, list):
        for value in document:
            yield from _items(value)


def _check(key: str, value: Any, where: str) -> None:
    if key in _CODE and value:
        raise XmrError(f"{where}: names code or weights that lie elsewhere, which a saved model must not need")
    if key.endswith("_implementation") and value is not None and value not in _ATTENTION:
        raise XmrError(f"{where}: should be {' or '.join(_ATTENTION)}, not {shortened(value)}")
    if key == "model_type" and isinstance(value, str) and value.startswith("timm"):
        raise XmrError(f"{where}: {shortened(value)} names a model that lies elsewhere")
    if isinstance(value, int) and abs(value) > (_MOST_COUNTED if _COUNTED.search(key) else 2**31):
        raise XmrError(f"{where}: {shortened(value)} is beyond any architecture")


def _without(document: Any, keys: tuple[str, ...]) -> Any:
    if isinstance(document, dict):
        return {key: _without(value, keys) for key, value in document.items() if key not in keys}
    return [_without(item, keys) for item in document] if isinstance(document, list) else document
