"""The files of a trained model: those of a run, and those of the Hugging Face layout.

    a run folder            model.safetensors  model.json
    an exported model       model.safetensors  config.json  README.md
                            modules.json  config_sentence_transformers.json     for sentence-transformers alone
                            vocab.txt, tokenizer.model or tokenizer.json    the tokeniser, as its own library reads it
    both                    towers/<modality>/config.json                   the architecture of a pretrained transformer

`config.json` says what `model.json` says, but for the tokeniser, which lies beside it. Whoever made them, they are read
as data: within bounds, and with nothing from elsewhere.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

from pydantic import AliasChoices, Field
from safetensors.torch import save
from torch import Tensor

from xmr_e2e.bounds import LARGE
from xmr_e2e.data.text import SPECIALS
from xmr_e2e.data.tokenizer_documents import LARGEST_MODEL
from xmr_e2e.errors import XmrError, describe_os_error
from xmr_e2e.escape import shell
from xmr_e2e.evaluation.protocol import CLEAN, SelectedOn
from xmr_e2e.files import read_json, write_atomically
from xmr_e2e.methods.base import MethodConfig
from xmr_e2e.models.sentence_transformer_files import MODULES, SETTINGS
from xmr_e2e.models.weights import Shapes, require_whole, separated
from xmr_e2e.received import first_line, own_path, parse, read_bytes, shortened

if TYPE_CHECKING:  # transformers takes seconds to import
    from transformers import PretrainedConfig

    from xmr_e2e.towers.pretrained import PretrainedText, PretrainedVision

    PretrainedTower: TypeAlias = PretrainedText | PretrainedVision

WEIGHTS = "model.safetensors"
RUN_DESCRIPTION = "model.json"
DESCRIPTION = "config.json"
CARD = "README.md"
TOWERS = "towers"
RUNS_SHOWN = 5
LIBRARY = "xmr_e2e"
"""mark that tells an exported model's config.json from a run's, which is the training's"""


@dataclass(frozen=True)
class Description:
    """The content of `model.json` or `config.json`."""

    config: dict[str, Any]
    data: dict[str, Any]
    classes: Annotated[tuple[str, ...], Field(max_length=2**20)]
    multi_label: bool
    widths: dict[str, Annotated[int, Field(ge=1, le=LARGE)]]
    """modality -> width of the dataset's published features"""
    tokenizer: Annotated[dict[str, Any] | None, Field(validation_alias=AliasChoices("tokenizer", "tokeniser"))]
    """in files of earlier versions under the second name"""
    selection: str
    protocol: str = CLEAN.name
    """older models, which do not say it, were all trained so"""
    selected_on: SelectedOn = CLEAN.selected_on


@dataclass(frozen=True)
class _TokenizerFile:
    """The file that holds the bulk of a tokeniser's document in an exported model."""

    key: str
    name: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def _write_words(words: Iterable[str]) -> bytes:
    return "".join(f"{word}\n" for word in (*SPECIALS, *words)).encode()


def _read_words(data: bytes) -> list[str]:
    return data.decode().splitlines()[len(SPECIALS) :]


_TOKENIZER_FILES = {
    "words": _TokenizerFile("words", "vocab.txt", _write_words, _read_words),
    "sentencepiece": _TokenizerFile(
        "model", "tokenizer.model", base64.b64decode, lambda data: base64.b64encode(data).decode("ascii")
    ),
    "transformers": _TokenizerFile("tokenizer", "tokenizer.json", str.encode, bytes.decode),
}
FILES = (WEIGHTS, DESCRIPTION, CARD, *(file.name for file in _TOKENIZER_FILES.values()), f"{TOWERS}/*/{DESCRIPTION}")
"""All that an exported model consists of, as patterns."""
OFFERED_FILES = (MODULES, SETTINGS, "onnx/*", "transformers/*/*")
"""What lies beside it for other programs, and is not read here, as patterns."""


def require_free(folder: Path) -> None:
    """Raise XmrError if the folder holds a model already."""
    if any((folder / name).exists() for name in (WEIGHTS, RUN_DESCRIPTION, DESCRIPTION)):
        raise XmrError(f"{folder} holds a model already; choose another folder")


def without_places(document: Any) -> Any:
    """A configuration in which a file or folder of this machine is its name alone."""
    if isinstance(document, dict):
        return {key: without_places(value) for key, value in document.items()}
    if isinstance(document, list):
        return [without_places(value) for value in document]
    is_place = isinstance(document, str) and (document.startswith(("/", "~")) or ".." in Path(document).parts)
    return Path(document).name if is_place else document


def write_run_model(
    run: Path,
    document: Mapping[str, Any],
    state: Mapping[str, Tensor],
    shapes: Shapes,
    architectures: Mapping[str, PretrainedConfig],
) -> None:
    """Write a run's files, the weights first, so that a reader never sees a description without its weights."""
    write_weights(run, state, shapes)
    _write_architectures(run, architectures)
    write_atomically(run / RUN_DESCRIPTION, (json.dumps(document, ensure_ascii=False) + "\n").encode())


def write_exported_model(
    folder: Path,
    document: Mapping[str, Any],
    state: Mapping[str, Tensor],
    shapes: Shapes,
    texts: Mapping[str, str],
    architectures: Mapping[str, PretrainedConfig],
) -> None:
    """Write an exported model's files; the description comes last, and without it there is no model.

    texts: by their names: the card, and what other programs read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder, state, shapes)
    for name, text in texts.items():
        write_atomically(folder / name, text.encode())
    _write_architectures(folder, architectures)
    tokenizer = document["tokenizer"] and _write_tokenizer(folder, document["tokenizer"])
    described = {"library_name": LIBRARY, **document, "tokenizer": tokenizer}
    write_atomically(folder / DESCRIPTION, to_text(described).encode())


def to_text(document: Any) -> str:
    """JSON for people, too."""
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


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


def read_description(path: Path) -> Description:
    """A model's description, with its whole tokeniser in it.

    Raises:
        XmrError: a file is missing or damaged, or holds something else; names it and the key.
    """
    try:
        described = parse(Description, read_bytes(path), str(path))
        tokenizer = described.tokenizer
        if not tokenizer or "file" not in tokenizer:
            return described
        kind = _TOKENIZER_FILES.get(str(tokenizer.get("kind")))
        if kind is None:
            raise XmrError(f"{path}: tokeniser.kind: {shortened(tokenizer.get('kind'))} is none that is known here")
        file = path.parent / kind.name
        try:
            content = kind.decode(read_bytes(file, most=LARGEST_MODEL))
        except ValueError as error:
            raise XmrError(f"{file} is damaged: {first_line(error)}") from error
        return replace(described, tokenizer={**tokenizer, kind.key: content})
    except OSError as error:
        raise XmrError(f"{describe_os_error(error)}; copy the whole folder again") from error


def read_architectures(folder: Path, config: MethodConfig) -> dict[str, PretrainedConfig]:
    """The architectures of a model's pretrained towers, by modality: from its own folder, or where a run of an earlier
    version lacks them, from what this machine has. Nobody is asked for them.

    Raises:
        XmrError: one is nowhere, or is none; says how to get it.
    """
    return {modality: _read_architecture(folder, modality, tower) for modality, tower in _pretrained(config)}


def _read_architecture(folder: Path, modality: str, tower: PretrainedTower) -> PretrainedConfig:
    from xmr_e2e.towers.architecture import find_architecture, read_architecture  # seconds to import

    own = folder / TOWERS / modality / DESCRIPTION
    path = own if own.exists() else find_architecture(tower.name, tower.revision)
    if path is None:
        revision = ["--revision", tower.revision] if tower.revision else []
        raise XmrError(
            f"{own} does not exist: an earlier version saved the model without the architecture of its {modality} "
            f"tower, {shortened(tower.name)}, and loading a model asks nobody for it. If you trust that name, fetch it "
            "once "
            f"({shell('hf', 'download', tower.name, DESCRIPTION, *revision)}), or copy its {DESCRIPTION} to that place"
        )
    try:
        return read_architecture(path)
    except OSError as error:
        raise XmrError(describe_os_error(error)) from error


def _pretrained(config: MethodConfig) -> list[tuple[str, PretrainedTower]]:
    found = [(modality, tower) for modality, tower in config.towers.items() if tower.is_pretrained]
    return cast(list[tuple[str, "PretrainedTower"]], found)


def _write_architectures(folder: Path, architectures: Mapping[str, PretrainedConfig]) -> None:
    for modality, architecture in architectures.items():
        from xmr_e2e.towers.architecture import to_json

        path = own_path(folder, f"{TOWERS}/{modality}/{DESCRIPTION}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, to_json(architecture))


def _write_tokenizer(folder: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    """Write the tokeniser's file; returns what is left of the document, with the file's name."""
    kind = _TOKENIZER_FILES[document["kind"]]
    write_atomically(folder / kind.name, kind.encode(document[kind.key]))
    return {"file": kind.name, **{name: value for name, value in document.items() if name != kind.key}}


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON file's object; an empty one where it is damaged, is none or cannot be read."""
    try:
        return read_json(path)
    except (XmrError, OSError):
        return {}


def _is_ours(path: Path) -> bool:
    try:
        return read_json(path).get("library_name") == LIBRARY
    except XmrError:
        return True  # damaged, as its reader will say
