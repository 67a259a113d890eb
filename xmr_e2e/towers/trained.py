"""The part of a tower that learns: all of it, its last block, LoRA beside it, or nothing."""

from __future__ import annotations

from itertools import takewhile

from torch import nn

from xmr_e2e.errors import XmrError
from xmr_e2e.towers.base import DatasetInfo, TowerConfig

_BODIES = ("features", "encoder", "layers", "blocks", "stages", "trunk_output", "layer4")
"""names of what holds the blocks of torchvision's and timm's networks, below which classifiers follow"""
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def build_tower(tower: TowerConfig, dataset: DatasetInfo, modality: str) -> nn.Module:
    """The tower's network, in which those parameters learn that its `trained` says; where that is nothing, all: the
    method keeps them still, after they have learnt what they begin with.

    Raises:
        XmrError: as its `build`; or it has no such part.
    """
    network = tower.build(dataset, modality)
    match tower.trained:
        case "last_block":
            _keep_before(network, _first_of_last_block(network, f"--method.{modality}.trained last_block"))
        case "lora" if not tower.is_pretrained:
            raise XmrError(
                f"--method.{modality}.trained lora is for transformers (--method.{modality}.kind transformers), not "
                f"for {tower.kind}: choose all, last_block or nothing"
            )
    return network


def stay_in_evaluation(tower: nn.Module) -> None:
    """Bring what stands still within a tower to evaluation mode: dropout would be noise in what it gives, and batch
    statistics would move what else does not."""
    for module in tower.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def last_block(network: nn.Module) -> str:
    """The name of a network's last block: of torchvision's and timm's networks the last one below their classifier, of
    transformers the last layer."""
    lists = [name for name, module in network.named_modules() if isinstance(module, nn.ModuleList)]
    outermost = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    named = [name for name in _BODIES if isinstance(getattr(network, name, None), nn.Module)]
    name = named[0] if named else outermost[-1] if outermost else ""
    module = network.get_submodule(name)
    while not name or name == (named or [""])[0] or isinstance(module, _CONTAINERS):
        children = [child for child, part in module.named_children() if _has_matrix(part)]
        if not children:
            break
        name = f"{name}.{children[-1]}".removeprefix(".")
        module = network.get_submodule(name)
    return name


def _has_matrix(module: nn.Module) -> bool:
    """True for what computes features, other than a normalization."""
    return any(parameter.dim() > 1 for parameter in module.parameters())


def _first_of_last_block(network: nn.Module, option: str) -> str:
    """The first parameter of a tower's network that learns with its last block; all that follow it learn too."""
    names = [name for name, _ in network.named_parameters()]
    if isinstance(getattr(network, "words", None), nn.Embedding):  # of a text, all behind its word vectors
        return next((name for name in names if not name.startswith("words.")), "")
    inner = getattr(network, "network", None)
    if not isinstance(inner, nn.Module):
        raise XmrError(f"{option}: {type(network).__name__} has no blocks; choose all or nothing")
    block = getattr(network, "last_block", None) or last_block(inner)
    return next(name for name in names if name.startswith(f"network.{block}."))


def _keep_before(network: nn.Module, first: str) -> None:
    """Let nothing learn that comes before a parameter; what did not learn anyway still does not."""
    before = takewhile(lambda item: item[0] != first, network.named_parameters())
    for _, parameter in before:
        parameter.requires_grad_(False)
