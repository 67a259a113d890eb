"""Relevance by labels: the items that share labels with each query."""

from __future__ import annotations

import torch
from torch import Tensor

from xmr_e2e.evaluation.scores import Array


class LabelPair:
    """The labels of n queries and N items, in the same form: (n,) integer classes or (n, c) multi-hot; (n, 0) of data
    without labels, in which no item is relevant.

    Raises ValueError for labels of any other form.
    """

    def __init__(self, queries: Array, gallery: Array, device: torch.device) -> None:
        self.queries, self.gallery = _labels(queries, device), _labels(gallery, device)
        if self.queries.shape[1:] != self.gallery.shape[1:]:
            shapes = tuple(self.queries.shape), tuple(self.gallery.shape)
            raise ValueError(f"labels of queries {shapes[0]} and gallery {shapes[1]} do not match")
        if all(labels.ndim == 2 and bool((labels.sum(1) == 1).all()) for labels in (self.queries, self.gallery)):
            # Numbers that are compared: products over thousands of classes take longer than the rankings.
            self.queries, self.gallery = self.queries.argmax(1), self.gallery.argmax(1)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.queries), len(self.gallery)

    @property
    def are_there(self) -> bool:
        """False where there are no classes, (n, 0)."""
        return self.queries.ndim == 1 or self.queries.shape[1] > 0

    @property
    def most(self) -> int:
        """A bound of the number that a query and an item share."""
        if self.queries.ndim == 1:
            return 1
        if not self.are_there:
            return 0
        return int(min(self.queries.sum(1).max(), self.gallery.sum(1).max()))

    def shared(self, rows: slice, items: slice) -> Tensor:
        """(rows, items) int32: the number of shared labels."""
        asked, ranked = self.queries[rows], self.gallery[items]
        if asked.ndim == 1:
            return (asked[:, None] == ranked).int()
        with torch.autocast(asked.device.type, enabled=False):  # in bf16, 257 is 256
            return (asked.float() @ ranked.float().T).int()


def _labels(values: Array, device: torch.device) -> Tensor:
    labels = torch.as_tensor(values, device=device).detach()
    if labels.ndim == 1 and len(labels) and not labels.is_floating_point():
        return labels.long()
    if labels.ndim == 2 and len(labels) and bool(((labels == 0) | (labels == 1)).all()):
        return labels
    raise ValueError(f"labels must be (n,) integers or (n, c) of 0 and 1, got {tuple(labels.shape)} {labels.dtype}")
