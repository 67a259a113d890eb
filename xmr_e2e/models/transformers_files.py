"""The pretrained towers of a model, as transformers reads them: a folder for each, whatever the training changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeAlias

from tokenizers import Tokenizer as FastTokenizer
from transformers import PreTrainedTokenizerFast

from xmr_e2e.data.tokenizers import PretrainedTokens
from xmr_e2e.errors import XmrError
from xmr_e2e.files import write_atomically
from xmr_e2e.models.saved_model import SavedModel
from xmr_e2e.towers.sound_encoders import PretrainedEncoder
from xmr_e2e.towers.transformer_encoders import TextEncoder, VisionEncoder

FOLDER = "transformers"
Encoder: TypeAlias = VisionEncoder | TextEncoder | PretrainedEncoder


def require_transformers(model: SavedModel) -> None:
    """Raise XmrError where none of a model's towers is one of transformers."""
    if not _encoders(model):
        raise XmrError(
            "--transformers writes towers of the kind transformers, and this model has none: its towers are of "
            f"{', '.join(tower.kind for tower in model.config.towers.values())}"
        )


def save_transformers(model: SavedModel, folder: Path) -> list[Path]:
    """Write `folder`/transformers/MODALITY with `save_pretrained`, for `from_pretrained` of the class that config.json
    names under "architectures"; beside it the text's tokeniser, how pictures are normalised, and the feature extractor
    of sounds.

    The heads above the towers, which lead to the common space, are the method's and are not among them.

    Returns:
        the folders.
    """
    require_transformers(model)
    folders = []
    for modality, encoder in _encoders(model).items():
        own = folder / FOLDER / modality
        encoder.network.save_pretrained(own)
        if isinstance(encoder, VisionEncoder):
            _write_pictures(own, model, encoder)
        elif isinstance(encoder, PretrainedEncoder):
            encoder.extractor(model.data.audio.rate).save_pretrained(own)
        elif isinstance(model.tokenizer, PretrainedTokens):
            _write_tokenizer(own, model.tokenizer)
        folders.append(own)
    return folders


def _encoders(model: SavedModel) -> dict[str, Encoder]:
    return {name: tower for name, tower in model.method.towers.items() if isinstance(tower, Encoder)}


def _write_pictures(folder: Path, model: SavedModel, encoder: VisionEncoder) -> None:
    mean, std = encoder.renormalize.statistics()
    side = model.data.image_size
    document = {
        "image_processor_type": "CLIPImageProcessor",  # of all of them the one that resizes, crops and normalises
        "do_normalize": True,
        "image_mean": mean.tolist(),
        "image_std": std.tolist(),
        "size": {"shortest_edge": model.data.load_size},
        "crop_size": {"height": side, "width": side},
        "resample": 3 if model.data.interpolation == "bicubic" else 2,  # Pillow's numbers
    }
    write_atomically(folder / "preprocessor_config.json", (json.dumps(document, indent=1) + "\n").encode())


def _write_tokenizer(folder: Path, tokenizer: PretrainedTokens) -> None:
    longest = {} if tokenizer.longest is None else {"model_max_length": tokenizer.longest}
    own = FastTokenizer.from_str(tokenizer.tokenizer)
    PreTrainedTokenizerFast(tokenizer_object=own, **longest).save_pretrained(folder)
