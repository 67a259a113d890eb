"""Values of a step that are finite, in full precision."""

from __future__ import annotations

from collections.abc import Mapping

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


def check_finite(values: Mapping[str, Tensor]) -> None:
    """Raise NotFinite for the first one that is not; a single look at the device where all are."""
    values = {name: value.detach() for name, value in values.items() if value.is_floating_point()}
    if torch.stack([value.isfinite().all() for value in values.values()]).all():
        return
    what, value = next((name, value) for name, value in values.items() if not value.isfinite().all())
    raise NotFinite(what, ~value.flatten(1).isfinite().all(1) if value.dim() > 1 else None)
