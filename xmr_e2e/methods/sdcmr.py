"""SDCMR: semantics disentangling for cross-modal retrieval (Wang et al., 2024).

Variational encoders split each modality's features into a semantic-shared and a semantic-unrelated factor. Swapped
reconstruction, a dual adversarial mechanism and an independence constraint keep the factors apart; the shared one is
what is retrieved by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from xmr_e2e.bounds import NotNegative, Width
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method, TwoModalities, check_weights
from xmr_e2e.methods.heads import fully_connected
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.objectives.adversarial import reversal_schedule, reverse_gradient
from xmr_e2e.objectives.sdcmr import ClassifierLogits, Factor, View, sdcmr_loss
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn

HIDDEN = (2048, 1024)


@dataclass(frozen=True, kw_only=True)
class Sdcmr(TwoModalities):
    """SDCMR's towers, widths and weights. There is no released code; what the paper leaves open is an option."""

    title = "SDCMR"
    citation = (
        "Wang et al., Semantics Disentangling for Cross-Modal Retrieval, IEEE Transactions on Image "
        "Processing, 2024, doi:10.1109/TIP.2024.3374111"
    )
    has_released_code = False

    image: TowerConfig | None = ImageTower("vgg19")
    text: TowerConfig | None = TextCnn()
    dim: Width = 32
    """width of each factor (k)"""
    factors: Literal["both", "shared"] = "both"
    """the semantic-shared and the semantic-unrelated factor, or the first alone: with kl 5, and neither reconstruction,
    independence nor reversal, the beta-VAE of Table IV"""
    elbo: NotNegative = 1.0
    """weight of the bound of Eq. 4, to which Eq. 15 gives none"""
    reconstruction: NotNegative = 1.0
    """weight of the swapped reconstruction (alpha of Eq. 15)"""
    invariance: NotNegative = 5.0
    """weight of the distance between the shared factors of a pair (beta)"""
    adversary: NotNegative = 10.0
    """weight of the dual adversarial mechanism (gamma)"""
    independence: NotNegative = 1.0
    """weight of the independence constraint (eta)"""
    independence_over: Literal["samples", "batch"] = "samples"
    """Eq. 14's norm as a mean over samples, like all other terms, or as printed: the sum over a batch outweighs the
    classes, and is least where factors vanish"""
    kl: NotNegative = 1.0
    """weight of the divergences from the standard normal distribution within the bound of Eq. 4"""
    latent: Literal["mean", "sample"] = "mean"
    """a factor's value for distance, independence and classifiers: the mean of its posterior, by which is retrieved, or
    the sample that the decoders need, whose noise is most of both at first"""
    towers_learn_from: Literal["shared", "both"] = "shared"
    """the factors whose encoders send gradients on to the towers: through the unrelated one's comes the reversed
    gradient of the class, which tells the towers to make classes unreadable"""
    likelihood: Literal["mse", "gaussian"] = "mse"
    """the features' term beside the divergences in the bound: their mean squared error, or their Gaussian
    likelihood, a sum over thousands of dimensions that outweighs all other terms"""
    reversal: Literal["schedule", "constant"] = "schedule"
    """strength of the gradient reversal: rising from 0 over the training, or the largest throughout"""
    reversal_strength: NotNegative = 0.1
    """the largest strength, beside the adversary's weight, which the reversed gradients have too: at 1, the factor that
    is to tell nothing of the class grows until its loss is all that counts"""
    final_relu: bool = False
    """a ReLU after the last layer of encoders and decoders too, as the paper says literally"""
    update: Literal["joint", "literal"] = "joint"
    """all parameters minimise the total, or each only the terms that Eq. 16-20 print for it"""

    @property
    def needs_labels(self) -> bool:
        return bool(self.adversary)

    def build(self, dataset: DatasetInfo) -> SdcmrModel:
        check_weights(self, "elbo", "reconstruction", "invariance", "adversary", "independence")
        if self.factors == "shared" and self.independence:
            raise XmrError("--method.factors shared leaves no two factors to be independent: --method.independence 0")
        return SdcmrModel(self, dataset)


class SdcmrModel(Method):
    """The networks and losses of SDCMR."""

    def __init__(self, config: Sdcmr, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.config = config
        widths, (first, second), k = self.widths(), HIDDEN, config.dim
        last = nn.ReLU if config.final_relu else None
        both = config.factors == "both"
        self.unrelated = nn.ModuleDict({name: _posterior(width, k) for name, width in widths.items() if both})
        self.entrance = nn.ModuleDict({name: nn.Linear(width, first) for name, width in widths.items()})
        self.shared = _posterior(first, k, hidden=(second,))
        self.decoders = nn.ModuleDict(
            {
                name: fully_connected((2 * k if both else k, second, first, width), last=last)
                for name, width in widths.items()
            }
        )
        self.semantic = fully_connected((k, k // 2, dataset.classes))
        self.modality = fully_connected((k, k // 2, len(widths)))

    @property
    def unreached(self) -> tuple[str, ...]:
        config, is_joint = self.config, self.config.update == "joint"
        reached = {
            "decoders": config.reconstruction or (config.elbo and is_joint),
            "semantic": config.adversary,
            "modality": config.adversary,
            "unrelated": config.reconstruction
            or config.independence
            or ((config.elbo or config.adversary) and is_joint),
        }
        return tuple(name for name, weight in reached.items() if not weight)

    def embed(self, modality: str, inputs: Any) -> Tensor:
        """The mean of the semantic-shared factor."""
        return self._shared(modality, self.features(modality, inputs))[0]

    def represent(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Features, and mean and log-variance of each factor, of each modality."""
        result = {}
        for name, item in inputs.items():
            features = self.features(name, item)
            result[f"{name} features"] = features
            result[f"{name} shared"] = torch.stack(self._shared(name, features), dim=1)
            if self.config.factors == "both":
                given = features if self.config.towers_learn_from == "both" else features.detach()
                result[f"{name} unrelated"] = torch.stack(self._split(self.unrelated[name](given)), dim=1)
        return result

    def objective(
        self, representations: Mapping[str, Tensor], labels: Tensor, context: StepContext
    ) -> dict[str, Tensor]:
        """Eq. 15."""
        config = self.config
        latents = {
            key: _latent(rows, config.latent) for key, rows in representations.items() if not key.endswith("features")
        }
        schedule = reversal_schedule(context.progress) if config.reversal == "schedule" else 1.0
        strength = config.reversal_strength * schedule
        x, y = (self._view(name, representations, latents, strength) for name in self.modalities)
        return sdcmr_loss(
            x,
            y,
            labels,
            multi_label=self.multi_label,
            elbo=config.elbo,
            alpha=config.reconstruction,
            beta=config.invariance,
            gamma=config.adversary,
            eta=config.independence,
            kl=config.kl,
            likelihood=config.likelihood,
            independence_over=config.independence_over,
        )

    def _view(
        self, name: str, representations: Mapping[str, Tensor], latents: Mapping[str, _Latent], strength: float
    ) -> View:
        (opposite,) = (each for each in self.modalities if each != name)
        shared, other = latents[f"{name} shared"], latents[f"{opposite} shared"]
        unrelated = latents.get(f"{name} unrelated")
        decoder = self.decoders[name]
        parameters: dict[str, Tensor] = dict(decoder.named_parameters())
        # What the bound and the adversary see of the unrelated factor, and the decoder that the bound uses.
        bounded = unrelated
        if self.config.update == "literal":
            # Eq. 16 and 17: the unrelated factor's encoder learns from neither, the decoder not from the bound.
            bounded = _Latent(*(rows.detach() for rows in unrelated)) if unrelated else None
            parameters = {key: parameter.detach() for key, parameter in parameters.items()}
        reconstruction = swapped = None
        if self.config.elbo:
            reconstruction = functional_call(decoder, parameters, (_code(bounded, shared),))
        if self.config.reconstruction:
            swapped = decoder(_code(unrelated, other))
        return View(
            # What is to be reconstructed stands still: towers could make it easy by making all features alike.
            features=representations[f"{name} features"].detach(),
            reconstruction=reconstruction,
            swapped=swapped,
            shared=self._factor(shared, strength, against="modality"),
            unrelated=self._factor(bounded, strength, against="semantic", latent=unrelated.latent)
            if bounded and unrelated
            else None,
        )

    def _factor(
        self,
        seen: _Latent,
        strength: float,
        *,
        against: Literal["semantic", "modality"],
        latent: Tensor | None = None,
    ) -> Factor:
        """A factor with both classifiers' logits, of which its encoder learns against one.

        latent: of the distance and the independence, where it is not what the bound and the classifiers see.
        """
        guesses = None
        if self.config.adversary:
            guesses = ClassifierLogits(
                self.semantic(reverse_gradient(seen.latent, strength) if against == "semantic" else seen.latent),
                self.modality(reverse_gradient(seen.latent, strength) if against == "modality" else seen.latent),
            )
        return Factor(seen.mean, seen.log_variance, seen.latent if latent is None else latent, guesses)

    def _shared(self, modality: str, features: Tensor) -> tuple[Tensor, Tensor]:
        return self._split(self.shared(self.entrance[modality](features).relu()))

    def _split(self, posterior: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance; the latter within bounds that no sensible posterior leaves."""
        mean, log_variance = posterior.chunk(2, dim=1)
        return mean.relu() if self.config.final_relu else mean, log_variance.clamp(-10, 10)


class _Latent(NamedTuple):
    """A factor's posterior, a sample of it, and which of mean and sample stands for it, (n, k) each."""

    mean: Tensor
    log_variance: Tensor
    sample: Tensor
    latent: Tensor


def _code(unrelated: _Latent | None, shared: _Latent) -> Tensor:
    """The input of a decoder: samples of the factors side by side."""
    return torch.cat([unrelated.sample, shared.sample], dim=1) if unrelated else shared.sample


def _latent(posterior: Tensor, latent: Literal["mean", "sample"]) -> _Latent:
    """posterior: (n, 2, k), mean and log-variance."""
    mean, log_variance = posterior.unbind(1)
    sample = mean + torch.randn_like(mean) * (log_variance / 2).exp()
    return _Latent(mean, log_variance, sample, mean if latent == "mean" else sample)


def _posterior(width: int, k: int, hidden: tuple[int, ...] = HIDDEN) -> nn.Sequential:
    """An encoder that gives mean and log-variance side by side, (n, 2 k)."""
    return fully_connected((width, *hidden, 2 * k))
