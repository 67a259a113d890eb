"""The files of a trained model: those of a run, and those of the Hugging Face layout.

    a run folder            model.safetensors  model.json
    an exported model       model.safetensors  config.json  README.md
                            vocab.txt, tokenizer.model or tokenizer.json    the tokeniser, as its own library reads it
                            towers/<modality>/config.json                   the architecture of a pretrained transformer

`config.json` says what `model.json` says, but for the tokeniser, which lies beside it.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from xmr_e2e.data.text import SPECIALS
from xmr_e2e.engine.weights import Shapes, require_whole, separated
from xmr_e2e.errors import XmrError
from xmr_e2e.files import write_atomically
from xmr_e2e.methods.base import MethodConfig

WEIGHTS = "model.safetensors"
RUN_DESCRIPTION = "model.json"
DESCRIPTION = "config.json"
CARD = "README.md"
TOWERS = "towers"
RUNS_SHOWN = 5
LIBRARY = "xmr_e2e"
"""by which an exported model's config.json is told from a run's, which is the training's"""


@dataclass(frozen=True)
class _TokeniserFile:
    """Where the bulk of a tokeniser's document lies in an exported model."""

    key: str
    name: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def _write_words(words: Iterable[str]) -> bytes:
    return "".join(f"{word}\n" for word in (*SPECIALS, *words)).encode()


def _read_words(data: bytes) -> list[str]:
    return data.decode().splitlines()[len(SPECIALS) :]


_TOKENISER_FILES = {
    "words": _TokeniserFile("words", "vocab.txt", _write_words, _read_words),
    "sentencepiece": _TokeniserFile(
        "model", "tokenizer.model", base64.b64decode, lambda data: base64.b64encode(data).decode("ascii")
    ),
    "transformers": _TokeniserFile("tokenizer", "tokenizer.json", str.encode, bytes.decode),
}
FILES = (WEIGHTS, DESCRIPTION, CARD, *(file.name for file in _TOKENISER_FILES.values()), f"{TOWERS}/*/{DESCRIPTION}")
"""All that an exported model consists of, as patterns."""


def require_free(folder: Path) -> None:
    """Raise XmrError if the folder holds a model already."""
    if any((folder / name).exists() for name in (WEIGHTS, RUN_DESCRIPTION, DESCRIPTION)):
        raise XmrError(f"{folder} holds a model already; choose another folder")


def write_run_model(run: Path, document: Mapping[str, Any], state: Mapping[str, Tensor], shapes: Shapes) -> None:
    """Write a run's two files, the weights first, so that a reader never sees a description without its weights."""
    write_weights(run, state, shapes)
    write_atomically(run / RUN_DESCRIPTION, (json.dumps(document, ensure_ascii=False) + "\n").encode())


def write_exported_model(
    folder: Path,
    document: Mapping[str, Any],
    state: Mapping[str, Tensor],
    shapes: Shapes,
    card: str,
    config: MethodConfig,
) -> None:
    """Write an exported model's files; the description comes last, and without it there is no model."""
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder, state, shapes)
    write_atomically(folder / CARD, card.encode())
    _write_architectures(folder, config)
    tokeniser = document["tokeniser"] and _write_tokeniser(folder, document["tokeniser"])
    described = {"library_name": LIBRARY, **document, "tokeniser": tokeniser}
    write_atomically(folder / DESCRIPTION, (json.dumps(described, ensure_ascii=False, indent=1) + "\n").encode())


def write_weights(folder: Path, state: Mapping[str, Tensor], shapes: Shapes) -> None:
    """Write the file of the weights, which has all that a module of these shapes wants.

    Raises:
        XmrError: it would lack some.
    """
    content = save(separated(state))
    require_whole(io.BytesIO(content), shapes, folder / WEIGHTS)
    write_atomically(folder / WEIGHTS, content)


def find_description(folder: Path) -> Path:
    """The file that describes the model of a run folder, or of an exported one.

    Raises:
        XmrError: there is none.
    """
    own, exported = folder / RUN_DESCRIPTION, folder / DESCRIPTION
    if own.exists():
        return own
    if exported.exists() and _is_ours(exported):
        return exported
    refuse_folder_of_runs(folder)
    raise XmrError(
        f"{own} does not exist: not a run folder, or no epoch of the run is finished yet; nor is there the "
        f"{DESCRIPTION} of an exported model"
    )


def refuse_folder_of_runs(folder: Path) -> None:
    """Raise XmrError, which names them, for a folder that is no run and holds runs: a recipe's, or that of all."""
    if (folder / DESCRIPTION).exists() or not folder.is_dir():
        return
    descriptions = [*folder.glob(f"*/{DESCRIPTION}"), *folder.glob(f"*/*/{DESCRIPTION}")]
    runs = [path.parent for path in descriptions if "train" in _read_object(path)]
    if runs:
        newest_first = sorted(runs, key=lambda run: (run / DESCRIPTION).stat().st_mtime, reverse=True)
        more = f", and {len(runs) - RUNS_SHOWN} more" if len(runs) > RUNS_SHOWN else ""
        listed = ", ".join(f"{run}{'' if (run / WEIGHTS).exists() else ' (no epoch finished)'}"
                           for run in newest_first[:RUNS_SHOWN])  # fmt: skip
        raise XmrError(
            f"{folder} is no run, but holds runs; name one of them, here with the newest first: {listed}{more}"
        )


def read_description(path: Path) -> dict[str, Any]:
    """A model's document, with its whole tokeniser in it.

    Raises:
        OSError, ValueError, KeyError: a file is missing or damaged.
    """
    document: dict[str, Any] = json.loads(path.read_bytes())
    tokeniser = document["tokeniser"]
    if tokeniser and "file" in tokeniser:
        kind = _TOKENISER_FILES[tokeniser["kind"]]
        content = kind.decode((path.parent / kind.name).read_bytes())
        document["tokeniser"] = {**tokeniser, kind.key: content}
    return document


def own_architectures(config: MethodConfig, folder: Path) -> MethodConfig:
    """The configuration with each pretrained transformer named by its folder in the exported model, where it has one:
    neither the hub nor the files of the training are asked for it."""
    own = {name: folder / TOWERS / name for name in config.towers}
    changes: dict[str, Any] = {
        name: replace(config.towers[name], name=str(path))  # type: ignore[call-arg]
        for name, path in own.items()
        if (path / DESCRIPTION).exists()
    }
    return replace(config, **changes) if changes else config


def _write_architectures(folder: Path, config: MethodConfig) -> None:
    from transformers import AutoConfig  # seconds to import

    from xmr_e2e.towers.pretrained import PretrainedText, PretrainedVision

    for name, tower in config.towers.items():
        if isinstance(tower, PretrainedText | PretrainedVision):
            AutoConfig.from_pretrained(tower.name).save_pretrained(folder / TOWERS / name)


def _write_tokeniser(folder: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    """Write the tokeniser's file; returns what is left of the document, with the file's name."""
    kind = _TOKENISER_FILES[document["kind"]]
    write_atomically(folder / kind.name, kind.encode(document[kind.key]))
    return {"file": kind.name, **{name: value for name, value in document.items() if name != kind.key}}


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON file's object; an empty one where it is damaged, is none or cannot be read."""
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, OSError):
        return {}
    return document if isinstance(document, dict) else {}


def _is_ours(path: Path) -> bool:
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        return True  # damaged, as its reader will say
    return isinstance(document, dict) and document.get("library_name") == LIBRARY
