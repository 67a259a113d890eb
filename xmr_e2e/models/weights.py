"""The file of a module's weights: every parameter and buffer by name, each with storage of its own.

On CUDA the weights of an LSTM or GRU are views of one buffer (`flatten_parameters`), and tied weights are one tensor of
two names. Savers that drop "shared" tensors lose all but one of them; here each is written whole.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from xmr_e2e.errors import XmrError
from xmr_e2e.received import first_line

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""name -> shape of every parameter and buffer of a plain module"""

_WRAPPERS = ("module.", "_orig_mod.")
"""prefixes that DistributedDataParallel and torch.compile put before the names"""
_NAMED = 3
"""of the weights that are missing, in a message"""


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shapes of a module's weights. To be asked for before DeepSpeed takes the parameters apart."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def separated(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights by the names that they have in a plain module, contiguous, no two of them in one storage."""
    seen: set[int] = set()
    result = {}
    for name, value in state.items():
        storage = value.untyped_storage().data_ptr()
        whole = value.detach().contiguous()
        result[plain_name(name)] = whole.clone() if storage in seen and whole.data_ptr() == value.data_ptr() else whole
        seen.add(storage)
    return result


_FORMER = {"standardise": "standardize", "renormalise": "renormalize"}
"""modules as earlier versions called them, and now"""


def plain_name(name: str) -> str:
    """The name of a weight without what wrappers have put before it, with its modules as they are called now."""
    for wrapper in _WRAPPERS * len(_WRAPPERS):  # in either order
        name = name.removeprefix(wrapper)
    return ".".join(_FORMER.get(part, part) for part in name.split("."))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a file, by the names that they have in a plain module.

    Raises:
        XmrError: it is missing or damaged.
    """
    with _reading(path):
        return {plain_name(name): value for name, value in load_file(path).items()}


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a file's weights, by the names that they have in a plain module. Its library has compared them with
    the file's size, and nothing is read but its header.

    Raises:
        XmrError: it is missing or damaged.
    """
    with _reading(path), safe_open(path, "pt") as stream:
        return {plain_name(name): tuple(stream.get_slice(name).get_shape()) for name in stream.keys()}  # noqa: SIM118


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise XmrError(f"{path}: not a regular file")
        yield
    except (OSError, ValueError, SafetensorError, MemoryError) as error:  # the last: of a file larger than all memory
        words = (isinstance(error, OSError) and error.strerror) or first_line(error)
        raise XmrError(f"{path} is missing or damaged: {words}; copy it again") from error


def require_whole(stream: BinaryIO, shapes: Shapes, path: Path) -> None:
    """Raise XmrError unless the file of this content, which was written for a module, holds each of its weights."""
    header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    require_all({name: tuple(about["shape"]) for name, about in header.items() if name != "__metadata__"}, shapes, path)


def require_all(written: Shapes, shapes: Shapes, path: str | Path) -> None:
    """Raise XmrError unless all weights of a module are written in their shapes."""
    lost = [name for name, shape in shapes.items() if written.get(name) != shape]
    if lost:
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        raise XmrError(
            f"{path}: the weights {', '.join(lost[:_NAMED])}{more} would not be saved whole; the file is not kept. "
            "This is a fault of this program: please report it with the versions of torch and accelerate"
        )
