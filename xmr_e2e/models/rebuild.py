"""The networks of a saved model, made again from its description and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xmr_e2e.bounds import check_bounds
from xmr_e2e.data.config import Data
from xmr_e2e.data.tokenizers import Tokenizer
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method, MethodConfig
from xmr_e2e.methods.heads import ClosedForm
from xmr_e2e.models.model_folder import Description
from xmr_e2e.models.weights import Shapes, read_shapes, read_weights, shapes_of
from xmr_e2e.received import first_line, shortened
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.sizes import laying_out

LARGEST_ITEM = 2**30
"""bytes that are read of a sound or a video"""
_NAMED = 3
"""of the weights that do not fit, in a message"""
_LONGEST_NAME = 200
"""characters of a weight's name in a message; in a file of others, it can have any number"""


def check_received_bounds(config: Any, where: str) -> None:
    """Raise XmrError, which begins with `where`, for the first number of a configuration that is out of its bounds."""
    try:
        check_bounds(config, "--")
    except XmrError as error:
        raise XmrError(f"{where}: {error}") from error


def check_item_sizes(data: Data, where: str) -> None:
    """Raise XmrError, which begins with `where`, for options whose product is more than a received model may ask for:
    each of them is within its bounds."""
    audio = data.audio
    sizes = {
        "sound (audio.rate, audio.seconds and audio.windows)": 4 * audio.samples * audio.windows,
        "video (video.size, load_size and video.frames)": 3 * data.frame_load_size**2 * data.video.frames,
    }
    for what, size in sizes.items():
        if size > LARGEST_ITEM:
            raise XmrError(f"{where}: {size / 1e9:,.1f} GB of each {what}; at most {LARGEST_ITEM / 1e9:.1f} are read")


def dataset_of(
    described: Description, data: Data, tokenizer: Tokenizer | None, architectures: Mapping[str, Any]
) -> DatasetInfo:
    """The dataset of a saved model, as far as its networks depend on it; without the word vectors themselves."""
    return DatasetInfo(
        len(described.classes),
        described.multi_label,
        data.image_size,
        _words(data, tokenizer),
        described.widths,
        architectures,
        frame_size=data.video.size,
        sound_rate=data.audio.rate,
    )


def _words(data: Data, tokenizer: Tokenizer | None) -> Tensor:
    """Word vectors of the right shape, (v, e), that take no memory: the true ones are among the weights. A pretrained
    tokeniser has none."""
    dim = 0 if data.tokens.kind == "transformers" else data.words.dim
    return torch.zeros(1, 1).expand(len(tokenizer) if tokenizer else 0, dim)


def rebuild(config: MethodConfig, dataset: DatasetInfo, weights: Path, description: Path) -> Method:
    """A method with the weights of a file.

    A description may ask for networks of any size. First they are laid out without memory, and compared with what the
    file holds; only what agrees with it is made.

    Args:
        dataset: with the architectures that the saved model carries.
        weights, description: the two files that have to fit each other.

    Raises:
        XmrError: they do not, or there are no such networks; or the training has not come to its closed form.
    """
    config = without_weights(config)
    held = read_shapes(weights)
    dataset = replace(dataset, shapes=held)
    try:
        with laying_out(len(held), weights.stat().st_size):
            planned = config.build(replace(dataset, words=dataset.words.to("meta")))
        require_same_shapes(shapes_of(planned), held)
        method = config.build(dataset)
        method.load_state_dict(read_weights(weights))
    except XmrError as error:
        raise XmrError(f"{weights} does not fit {description.name}: {error}") from error
    except Exception as error:  # what libraries say of sizes that fit nowhere
        raise XmrError(
            f"{description}: networks as it describes them cannot be made: {type(error).__name__}: {first_line(error)}"
        ) from error
    if any(isinstance(module, ClosedForm) and not module.fitted for module in method.modules()):
        raise XmrError(
            f"{weights}: the training has not come to its last stage, {method.stages[-1].name!r}, so images and texts "
            f"have no common space yet; go on with it (RECIPE --train.resume {weights.parent})"
        )
    return method


def without_weights(config: Any) -> Any:
    """The same configuration with every tower at random weights: for networks whose weights are about to be loaded."""
    changes = {
        field.name: "none" if field.name == "weights" else without_weights(getattr(config, field.name))
        for field in fields(config)
        if field.name == "weights" or is_dataclass(getattr(config, field.name))
    }
    return replace(config, **changes)


def require_same_shapes(described: Shapes, held: Shapes) -> None:
    """Raise XmrError unless these are the weights of the networks that are described."""
    complaints = [
        *(f"{name} is missing" for name in described if name not in held),
        *(
            f"{shortened(name, quoted=False, most=_LONGEST_NAME)} is not in the networks"
            for name in held
            if name not in described
        ),
        *(
            f"{name} is {shortened(held[name])}, not {shape}"
            for name, shape in described.items()
            if name in held and held[name] != shape
        ),
    ]
    if complaints:
        more = f", and {len(complaints) - _NAMED} more" if len(complaints) > _NAMED else ""
        raise XmrError(f"{', '.join(complaints[:_NAMED])}{more}")
