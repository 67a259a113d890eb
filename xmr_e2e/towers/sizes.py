"""Networks laid out without memory: the shapes of all that they consist of, before any of it is made.

A description of a few bytes can ask for networks of any size. What a description would have made is compared with the
weights that lie beside it first.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules import module as hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xmr_e2e.errors import XmrError

LARGEST = 2 * 2**30
"""bytes of what a network computes from one sample in one place, at most, unless its weights are large themselves"""
MODULES_PER_WEIGHT = 20
SPARE = 1000
"""weights that a network may have beyond those that are saved, as it drops the layers of another training"""
SPARE_BYTES = 2**30
_ANY = 2**62
_ANSWERS = {
    torch.ops.aten._local_scalar_dense.default: 1,
    torch.ops.aten.is_nonzero.default: True,
    torch.ops.aten.equal.default: False,
}
"""to questions about values, which there are none of: any will do, where all that is asked for are shapes"""


@contextmanager
def laying_out(weights: int, size: int) -> Iterator[None]:
    """Whatever networks are built meanwhile have shapes alone; they take neither memory nor, to speak of, time.

    Args:
        weights, size: number and bytes of the weights that lie in a file for the networks.

    Raises:
        XmrError: they would have many more.
    """
    count = {"weights": 0, "bytes": 0, "modules": 0}
    thread = threading.get_ident()  # others may build networks at the same time

    def see_weight(module: nn.Module, name: str, weight: Tensor | None) -> None:
        if weight is not None and threading.get_ident() == thread:
            count["weights"] += 1
            count["bytes"] += weight.nbytes
            if count["weights"] > 2 * weights + SPARE or count["bytes"] > 2 * size + SPARE_BYTES:
                raise XmrError("the networks would be much larger than their weights are")

    def see_module(module: nn.Module, name: str, child: nn.Module | None) -> None:
        count["modules"] += threading.get_ident() == thread
        if count["modules"] > MODULES_PER_WEIGHT * (weights + SPARE):
            raise XmrError("the networks would have many more layers than there are weights for")

    registered = [
        hooks.register_module_parameter_registration_hook(see_weight),
        hooks.register_module_buffer_registration_hook(see_weight),
        hooks.register_module_module_registration_hook(see_module),
    ]
    try:
        with torch.device("meta"), _Sizes(max(LARGEST, 4 * size)):
            yield
    finally:
        for handle in registered:
            handle.remove()


def run_on_sizes(network: nn.Module, example: Callable[[], Any]) -> Tensor:
    """The output of a network on an example, as a shape alone: nothing is computed, however large it is."""
    named = itertools.chain(network.named_parameters(), network.named_buffers())
    state = {name: value.detach().to("meta") for name, value in named}
    with torch.no_grad(), torch.device("meta"), _Sizes(_ANY):
        output: Tensor = functional_call(network, state, (example(),))
    return output


class _Sizes(TorchDispatchMode):
    """Computing with shapes.

    Args:
        most: bytes of one result, beyond which it is refused.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _ANSWERS and args[0].is_meta:
            return _ANSWERS[func]
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and (size := value.untyped_storage().nbytes()) > self._most:
                raise XmrError(
                    f"the networks would need {size / 2**30:,.1f} GB in one place: the size of the images, or a width, "
                    "is far beyond what it can be"
                )
        return result
