"""A fixed basis of orthonormal class vectors."""

from __future__ import annotations

import torch
from torch import Tensor


def orthogonal_prior(d: int, c: int, seed: int) -> Tensor:
    """(d, c) fp32, the first c columns of a random orthogonal d x d matrix: SDML's P, MARS's W.

    Uniformly distributed, and up to rounding the same on any machine: drawn and orthogonalised in fp64 on the CPU.

    Raises ValueError for more classes than dimensions: so many columns cannot be orthogonal.
    """
    if c > d:
        raise ValueError(f"{c} orthogonal columns in {d} dimensions")
    draw = torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    q, r = torch.linalg.qr(draw)
    # A positive diagonal of R makes the decomposition unique: implementations of LAPACK differ in the signs.
    return (q * r.diagonal().sign())[:, :c].float()
