"""Functions that several objectives share: full precision, cosines, the likelihood of pairs, norms of rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST_NORM_PRODUCT = 1e-6
"""a cosine's divisor is at least this, so that rows of zeros have cosine 0: as in DSCMR's and DRCL's released code"""


@contextmanager
def full_precision(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The tensors in the widest of their floating types, at least fp32, with autocast switched off."""
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
    with torch.autocast(tensors[0].device.type, enabled=False):
        yield tuple(tensor.to(dtype) for tensor in tensors)


def cosine_similarity(x: Tensor, y: Tensor) -> Tensor:
    """Cosine of each row of x with each row of y: (n, d) and (m, d) -> (n, m).

    The product of the two norms counts as 1e-6 where it is smaller. Gradients are finite for rows of zeros.
    """
    norms = torch.outer(torch.linalg.vector_norm(x, dim=1), torch.linalg.vector_norm(y, dim=1))
    return x @ y.T / norms.clamp(min=SMALLEST_NORM_PRODUCT)


def pair_negative_log_likelihood(x: Tensor, y: Tensor, similar: Tensor, *, scale: float) -> Tensor:
    """Mean over all pairs of log(1 + exp(t_ij)) - S_ij t_ij with t_ij = scale * cos(x_i, y_j).

    x: (n, d), y: (m, d). similar: (n, m), S: 1 for pairs that belong together, else 0. It is the negative log of the
    likelihood that has sigmoid(t_ij) as the probability of S_ij = 1 (DSCMR, Eq. 2 and 3, scale 1/2; MARS, scale 2).
    """
    return F.binary_cross_entropy_with_logits(scale * cosine_similarity(x, y), similar)


def mean_row_norm(x: Tensor) -> Tensor:
    """Mean over rows of the Euclidean norm (not squared): (n, d) -> scalar. A row of zeros has gradient zero."""
    norms: Tensor = torch.linalg.vector_norm(x, dim=1)
    return norms.mean()
