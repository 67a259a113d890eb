"""SDCMR: semantics disentangling for cross-modal retrieval (Wang et al., 2024).

Variational encoders split each modality's features into a semantic-shared and a semantic-unrelated factor. Swapped
reconstruction, a dual adversarial mechanism and an independence constraint keep the factors apart; the shared one is
what is retrieved by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from xmr_e2e.methods.base import Method, MethodConfig, Moment
from xmr_e2e.methods.heads import fully_connected
from xmr_e2e.objectives.adversarial import reversal_schedule, reverse_gradient
from xmr_e2e.objectives.sdcmr import Factor, Guesses, View, sdcmr_loss
from xmr_e2e.towers.base import Dataset, Tower
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn

HIDDEN = (2048, 1024)
OTHER = {"image": "text", "text": "image"}


@dataclass(frozen=True, kw_only=True)
class Sdcmr(MethodConfig):
    """SDCMR's towers, widths and weights. There is no released code; what the paper leaves open is an option."""

    image: Tower = ImageTower("vgg19")
    text: Tower = TextCnn()
    dim: int = 32
    """width of each factor (k)"""
    reconstruction: float = 1.0
    """weight of the swapped reconstruction (alpha of Eq. 15)"""
    invariance: float = 5.0
    """weight of the distance between the shared factors of a pair (beta)"""
    adversary: float = 10.0
    """weight of the dual adversarial mechanism (gamma)"""
    independence: float = 1.0
    """weight of the independence constraint (eta)"""
    kl: float = 1.0
    """weight of the divergences from the standard normal distribution within the bound of Eq. 4"""
    likelihood: Literal["mse", "gaussian"] = "mse"
    """of the features in the bound: their mean squared error, or the Gaussian likelihood, dim / 2 times as large"""
    reversal: Literal["schedule", "constant"] = "schedule"
    """strength of the gradient reversal: from 0 to 1 over the training, or 1 throughout"""
    final_relu: bool = False
    """a ReLU after the last layer of encoders and decoders too, as the paper says literally"""
    update: Literal["joint", "literal"] = "joint"
    """all parameters minimise the total, or each only the terms that Eq. 16-20 print for it"""

    def build(self, dataset: Dataset) -> SdcmrModel:
        return SdcmrModel(self, dataset)


class SdcmrModel(Method):
    """The networks and losses of SDCMR."""

    def __init__(self, config: Sdcmr, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.config = config
        widths, (first, second), k = self.widths(), HIDDEN, config.dim
        last = nn.ReLU if config.final_relu else None
        self.unrelated = nn.ModuleDict({name: _posterior(width, k) for name, width in widths.items()})
        self.entrance = nn.ModuleDict({name: nn.Linear(width, first) for name, width in widths.items()})
        self.shared = _posterior(first, k, hidden=(second,))
        self.decoders = nn.ModuleDict(
            {name: fully_connected((2 * k, second, first, width), last=last) for name, width in widths.items()}
        )
        self.semantic = fully_connected((k, k // 2, dataset.classes))
        self.modality = fully_connected((k, k // 2, len(widths)))

    def embed(self, modality: str, inputs: Any) -> Tensor:
        """The mean of the semantic-shared factor."""
        return self._shared(modality, self.features(modality, inputs))[0]

    def represent(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Features, and mean and log-variance of both factors, of each modality."""
        result = {}
        for name, item in inputs.items():
            features = self.features(name, item)
            result[f"{name} features"] = features
            result[f"{name} shared"] = torch.stack(self._shared(name, features), dim=1)
            result[f"{name} unrelated"] = torch.stack(self._split(self.unrelated[name](features)), dim=1)
        return result

    def objective(self, representations: Mapping[str, Tensor], labels: Tensor, moment: Moment) -> dict[str, Tensor]:
        """Eq. 15."""
        config = self.config
        posteriors = {key: rows.unbind(1) for key, rows in representations.items() if not key.endswith("features")}
        samples = {key: mean + torch.randn_like(mean) * (log / 2).exp() for key, (mean, log) in posteriors.items()}
        strength = reversal_schedule(moment.progress) if config.reversal == "schedule" else 1.0
        views = [self._view(name, representations, posteriors, samples, strength) for name in ("image", "text")]
        return sdcmr_loss(
            *views,
            labels,
            multi_label=self.multi_label,
            alpha=config.reconstruction,
            beta=config.invariance,
            gamma=config.adversary,
            eta=config.independence,
            kl=config.kl,
            likelihood=config.likelihood,
        )

    def _view(
        self,
        name: str,
        representations: Mapping[str, Tensor],
        posteriors: Mapping[str, tuple[Tensor, ...]],
        samples: Mapping[str, Tensor],
        strength: float,
    ) -> View:
        shared, unrelated = samples[f"{name} shared"], samples[f"{name} unrelated"]
        other = samples[f"{OTHER[name]} shared"]
        unrelated_posterior = posteriors[f"{name} unrelated"]
        decoder = self.decoders[name]
        swapped = decoder(torch.cat([unrelated, other], dim=1))
        bounded = unrelated  # the sample that the bound and the adversary see
        parameters = dict(decoder.named_parameters())
        if self.config.update == "literal":
            # Eq. 16 and 17: encoders of the unrelated factor and decoders learn nothing from the bound, the former
            # nothing from the adversary either.
            bounded = unrelated.detach()
            unrelated_posterior = tuple(rows.detach() for rows in unrelated_posterior)
            parameters = {key: parameter.detach() for key, parameter in parameters.items()}
        return View(
            # What is to be reconstructed stands still: towers could make it easy by making all features alike.
            features=representations[f"{name} features"].detach(),
            reconstruction=functional_call(decoder, parameters, (torch.cat([bounded, shared], dim=1),)),
            swapped=swapped,
            shared=Factor(
                *posteriors[f"{name} shared"],
                shared,
                Guesses(self.semantic(shared), self.modality(reverse_gradient(shared, strength))),
            ),
            unrelated=Factor(
                *unrelated_posterior,
                unrelated,
                Guesses(self.semantic(reverse_gradient(bounded, strength)), self.modality(bounded)),
            ),
        )

    def _shared(self, modality: str, features: Tensor) -> tuple[Tensor, Tensor]:
        return self._split(self.shared(self.entrance[modality](features).relu()))

    def _split(self, posterior: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance; the latter within bounds that no sensible posterior leaves."""
        mean, log_variance = posterior.chunk(2, dim=1)
        return mean.relu() if self.config.final_relu else mean, log_variance.clamp(-10, 10)


def _posterior(width: int, k: int, hidden: tuple[int, ...] = HIDDEN) -> nn.Sequential:
    """An encoder that gives mean and log-variance side by side, (n, 2 k)."""
    return fully_connected((width, *hidden, 2 * k))
