"""Values of a step that are finite, in full precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from xmr_e2e.errors import XmrError


class NotFinite(XmrError):
    """NaN or infinite values in a step.

    Args:
        what: where they are, such as "the loss term 'label'".
        rows: (n,) bool, which samples of the global batch have them; None where that cannot be told.
    """

    def __init__(self, what: str, rows: Tensor | None = None) -> None:
        super().__init__(
            f"NaN or infinite values in {what}: the training has diverged. Lower --optimizer.lr, set "
            "--train.clip-norm, use bf16 instead of fp16, or leave such steps out with --train.max-skipped-steps"
        )
        self.what = what
        self.rows = rows


def full_precision(rows: Tensor) -> Tensor:
    """At least fp32; integers and booleans as they are."""
    return rows.to(torch.promote_types(rows.dtype, torch.float32)) if rows.is_floating_point() else rows


@contextmanager
def exact_products() -> Iterator[None]:
    """Products of fp32 in fp32, wherever the networks' are in TF32; not those of a backward pass that comes later."""
    before = torch.get_float32_matmul_precision()
    if before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class FiniteChecks:
    """Values of a step that have to be finite: the device looks at them, and a host may ask later whether they are."""

    def __init__(self) -> None:
        self._values: dict[str, Tensor] = {}
        self._parts: dict[str, tuple[list[str], Tensor]] = {}
        self._flags: list[Tensor] = []

    def look_at(self, values: Mapping[str, Tensor]) -> Tensor:
        """True, a boolean of no dimension on their device, where all of these are finite and so were all before."""
        values = {name: value.detach() for name, value in values.items() if value.is_floating_point()}
        self._values |= values
        self._flags += [value.isfinite().all() for value in values.values()]
        return self.are_finite

    def look_at_norms(self, what: str, names: Sequence[str], norms: Tensor) -> Tensor:
        """As `look_at`, of the norms (p,) of tensors of these names, which need not be kept themselves."""
        self._parts[what] = list(names), norms
        self._flags.append(norms.isfinite().all())
        return self.are_finite

    @property
    def are_finite(self) -> Tensor:
        return torch.stack(self._flags).all()

    def error(self) -> NotFinite:
        """Of the first value that is not finite. Waits for the device."""
        for what, value in self._values.items():
            if not value.isfinite().all():
                return NotFinite(what, ~value.flatten(1).isfinite().all(1) if value.dim() > 1 else None)
        bad = [f"{what} of {_named(*found)}" for what, found in self._parts.items() if not found[1].isfinite().all()]
        return NotFinite(", ".join(bad))


def look_at(values: Mapping[str, Tensor], checks: FiniteChecks | None) -> Tensor:
    """Look at values that have to be finite; true, on their device, where they are.

    Args:
        checks: which are asked later; None to know at once.

    Raises:
        NotFinite: they are not, and nothing could be asked later.
    """
    looked = checks or FiniteChecks()
    are_finite = looked.look_at(values)
    if checks is None and not are_finite:
        raise looked.error()
    return are_finite


def zero_unless(found: Tensor, rows: Tensor) -> Tensor:
    """The rows; zeros where it was found on the device that the batch holds values that are not finite."""
    return rows.where(found, 0) if rows.is_floating_point() else rows


def _named(names: Sequence[str], norms: Tensor) -> str:
    """The first three whose norms are not finite."""
    finite = norms.isfinite().tolist()
    return ", ".join([name for name, is_finite in zip(names, finite) if not is_finite][:3])
