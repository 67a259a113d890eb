"""KCCA: kernel canonical correlation analysis (Hardoon et al., 2004), a baseline.

CCA in the space of a kernel, with a penalty on the directions' norms. The directions are sums over training samples,
the landmarks, which are kept with the model: all of the training split, or as many of it as an option allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from xmr_e2e.bounds import Bounds, Count, Positive, Seed, Width
from xmr_e2e.methods.fitted import FittedMethod, FittedOptions, check_finite_rows
from xmr_e2e.methods.heads import ClosedForm
from xmr_e2e.methods.stages import Stage
from xmr_e2e.objectives.cca import linear_cca
from xmr_e2e.objectives.kernel import Kernel, KernelSpace, kernel_matrix, kernel_space
from xmr_e2e.towers.base import DatasetInfo


@dataclass(frozen=True, kw_only=True)
class Kcca(FittedOptions):
    """KCCA's towers and options."""

    title = "KCCA"
    citation = (
        "Hardoon et al., Canonical Correlation Analysis: An Overview with Application to Learning Methods, Neural "
        "Computation, 2004"
    )
    most_modalities = 2

    dim: Width = 10
    """number of canonical variates"""
    kernel: Kernel = "rbf"
    """exp(-|x - z|^2 / (2 s^2)) of features x and z (rbf), or their inner product (linear)"""
    bandwidth: Positive = 1.0
    """s of the rbf kernel, as a multiple of the median distance between landmarks"""
    ridge: Annotated[float, Bounds(float, least=1e-6)] = 1e-3
    """penalty on the squared norms of the directions in the kernel's space, as a share of the variance there; without
    one everything correlates with everything"""
    landmarks: Count = 1000
    """training samples of which directions are made: all of a training split that has no more, so that KCCA is exact;
    of a larger one so many by chance. They are kept with the model; time grows with their cube"""
    landmark_seed: Seed = 0
    """of that choice"""

    def build(self, dataset: DatasetInfo) -> KccaModel:
        return KccaModel(self, dataset)


class KccaModel(FittedMethod):
    """Towers, their classifiers and the projections of kernels. Stages: labels, correlation."""

    def __init__(self, config: Kcca, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.config = config
        self.canonical = nn.ModuleDict({name: KernelProjection(width, config) for name, width in self.widths().items()})

    def embed(self, modality: str, inputs: Any) -> Tensor:
        embedding: Tensor = self.canonical[modality](self.features(modality, inputs))
        return embedding

    def fit(self, stage: Stage, embeddings: Mapping[str, Tensor], labels: Tensor) -> None:
        """Linear CCA in the kernels' spaces, which is KCCA: there a direction's norm is its penalty.

        Raises:
            XmrError: NaN or infinite rows.
        """
        check_finite_rows(embeddings, "KCCA")
        config = self.config
        chosen = self._landmarks(embeddings)
        spaces = [
            kernel_space(rows, chosen, config.kernel, bandwidth=config.bandwidth, least=config.dim)
            for rows in embeddings.values()
        ]
        views = [space.coordinates(rows) for space, rows in zip(spaces, embeddings.values())]
        fitted = linear_cca(views[0], views[1], config.dim, ridge=config.ridge)
        for name, space, mean, projection in zip(embeddings, spaces, fitted.means, fitted.projections):
            self.canonical[name].keep(space, mean, projection)  # type: ignore[operator]

    def _landmarks(self, embeddings: Mapping[str, Tensor]) -> Tensor:
        """Their positions: all, or as many as the option allows by chance, the same on every rank and device."""
        rows = next(iter(embeddings.values()))
        draw = torch.Generator().manual_seed(self.config.landmark_seed)
        return torch.randperm(len(rows), generator=draw)[: self.config.landmarks].to(rows.device)


class KernelProjection(ClosedForm):
    """Rows of a modality to their canonical variates by the kernel with landmarks; until `keep`, they pass as they
    are."""

    mean: Tensor
    bandwidth: Tensor
    landmarks: Tensor
    weight: Tensor
    offset: Tensor

    def __init__(self, width: int, config: Kcca) -> None:
        super().__init__()
        self.kernel = config.kernel
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("bandwidth", torch.ones(()))
        # Of one size whatever the number of samples: a landmark that there is not weighs 0.
        self.register_buffer("landmarks", torch.zeros(config.landmarks, width))
        self.register_buffer("weight", torch.zeros(config.landmarks, config.dim))
        self.register_buffer("offset", torch.zeros(config.dim))

    def forward(self, rows: Tensor) -> Tensor:
        """(n, width) -> (n, dim)."""
        if not self.fitted:
            return rows
        values = kernel_matrix(rows.to(self.mean) - self.mean, self.landmarks, self.kernel, self.bandwidth)
        return values @ self.weight - self.offset

    def keep(self, space: KernelSpace, mean: Tensor, projection: Tensor) -> None:
        """Take over a kernel's space, and in it the mean (r,) and the projection (r, dim)."""
        self.mean.copy_(space.mean)
        self.bandwidth.copy_(space.bandwidth)
        for buffer, values in ((self.landmarks, space.landmarks), (self.weight, space.root @ projection)):
            buffer.zero_()[: len(values)] = values
        self.offset.copy_(mean @ projection)
        self.fitted.fill_(True)
