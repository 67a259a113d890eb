"""A device on the CPU that counts each wait of the host for it, so that a machine without a GPU sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("cuda", 0)
_GPUS = torch.cuda.device_count()
"""of this machine, also where a test hides them later"""
_READS = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "unique_dim")
"""operators whose results the host needs before it can go on"""
DECOMPOSITIONS = ("_linalg_check_errors", "_linalg_svd", "_linalg_eigh", "linalg_pinv")
"""operators of linear algebra that look whether they succeeded"""


class OnDevice(Tensor):
    """A tensor that says it is on a GPU; its numbers are on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        make: Any = Tensor._make_wrapper_subclass  # type: ignore[attr-defined,unused-ignore]  # declared since torch 2.14
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made: OnDevice = make(cls, held.shape, device="meta", **layout)
        made.held = held
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE

    def new_tensor(self, data: Any, **options: Any) -> Tensor:  # type: ignore[override,unused-ignore]
        return torch.tensor(data, **{"dtype": self.dtype, "device": DEVICE, **options})

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment,unused-ignore]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override,unused-ignore]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise AssertionError("a tensor of the simulated device is used outside of it")


class SimulatedDevice(TorchDispatchMode):
    """Runs what is asked of the device on the CPU, and counts in `waits` what a host would have to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self._pinned: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), function.overloadpacket.__name__
        tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        is_there = any(isinstance(tensor, OnDevice) for tensor in tensors)
        if name in ("is_pinned", "_pin_memory"):
            return self._pin(name, tensors[0])
        named = kwargs.get("device")
        goes_there = is_there if named is None else torch.device(named).type in ("cuda", "meta")
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        kwargs.pop("pin_memory", None)
        self._count(name, args, kwargs, tensors, goes_there)
        result = function(*_held(args), **_held(kwargs))
        if torch.Tag.inplace_view in function.tags and is_there:
            with no_dispatch():  # the tensor's own sizes, as those of what it holds
                function(*args, **kwargs)
        return _wrapped(result, tensors, goes_there)

    def _pin(self, name: str, tensor: Tensor) -> Any:
        if name == "is_pinned":
            return tensor.untyped_storage()._cdata in self._pinned
        copy = tensor.clone()
        self._pinned.add(copy.untyped_storage()._cdata)
        return copy

    def _count(self, name: str, args: Any, kwargs: Any, tensors: list[Tensor], goes_there: bool) -> None:
        is_there = [isinstance(tensor, OnDevice) for tensor in tensors]
        if name in (*_READS, *DECOMPOSITIONS) and any(is_there):
            self.waits[name] += 1
        if name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(is_there):
            masks = [each for each in args[1] if each is not None and each.dtype in (torch.bool, torch.uint8)]
            self.waits["mask as index"] += len(masks)
        if name == "_to_copy" and is_there[0] != goes_there:
            self._cross(tensors[0], bool(kwargs.get("non_blocking")), goes_there)
        if name == "copy_" and is_there[0] != is_there[1]:
            self._cross(tensors[int(is_there[0])], len(args) > 2 and bool(args[2]), is_there[0])

    def _cross(self, source: Tensor, non_blocking: bool, goes_there: bool) -> None:
        pinned = not goes_there or source.untyped_storage()._cdata in self._pinned
        if not (non_blocking and pinned):
            self.waits["to the device" if goes_there else "from the device"] += 1


def _held(value: Any) -> Any:
    return tree_map(lambda leaf: leaf.held if isinstance(leaf, OnDevice) else leaf, value)


def _wrapped(result: Any, tensors: list[Tensor], goes_there: bool) -> Any:
    """The result as the caller sees it: what was changed in place is the tensor that he has already."""
    own = {id(tensor.held): tensor for tensor in tensors if isinstance(tensor, OnDevice)}

    def wrap(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or isinstance(leaf, OnDevice):
            return leaf
        return own.get(id(leaf), OnDevice(leaf) if goes_there else leaf)

    return tree_map(wrap, result)


class Event:
    """A moment of the device, for which a host may wait."""

    def __init__(self, device: SimulatedDevice) -> None:
        self._device = device

    def record(self) -> None:
        """It is now."""

    def synchronize(self) -> None:
        self._device.waits["event"] += 1


def put_there(module: nn.Module) -> None:
    """Give the module parameters and buffers on the simulated device."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                moved = nn.Parameter(OnDevice(parameter.detach()), requires_grad=parameter.requires_grad)
                part._parameters[name] = moved
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else OnDevice(buffer)


@contextmanager
def simulated_device() -> Iterator[SimulatedDevice]:
    """The device, for as long as something runs on it."""
    with ExitStack() as patches, SimulatedDevice() as device:
        if not _GPUS:
            # A device's name is enough for it to be called.
            patches.enter_context(patch.object(torch.cuda, "_lazy_init", lambda: None))
            patches.enter_context(patch.object(torch.cuda, "Event", lambda **options: Event(device)))
        before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # tensors of plain numbers cross as well
        try:
            yield device
        finally:
            torch._C._set_only_lift_cpu_tensors(before)
