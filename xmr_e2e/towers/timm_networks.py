"""Any network of timm by name, `timm:NAME`, less its classification layer; with what its weights were trained on."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from xmr_e2e.errors import XmrError
from xmr_e2e.extras import require_extra
from xmr_e2e.received import first_line

PREFIX = "timm:"
"""of the names of networks that are timm's"""


def create(name: str, *, pretrained: bool, ways_out: str) -> tuple[nn.Module, tuple[str, ...], int]:
    """The network, the names of classification layers that it does not have, and the width of its output.

    Args:
        name: with PREFIX; with or without the tag of its weights ("timm:resnet18.a1_in1k").
        pretrained: with timm's own weights, downloaded once.
        ways_out: for errors, where these cannot be had.

    Raises:
        XmrError: timm is not installed, has no network of this name, or its weights cannot be had.
    """
    check_name(name)
    import timm

    try:
        network: Any = timm.create_model(name.removeprefix(PREFIX), pretrained=pretrained, num_classes=0)
    except XmrError:
        raise
    except Exception as error:  # of a download, each library has errors of its own
        said = f"{type(error).__name__}: {first_line(error)}"
        if not pretrained:
            raise XmrError(f"--method.image.name {name}: cannot be made: {said}") from error
        raise XmrError(f"The pretrained weights of {name} cannot be had: {said}. {ways_out}") from error
    head = network.pretrained_cfg.get("classifier") or ()  # of distilled ones there are two
    width = int(getattr(network, "head_hidden_size", 0) or network.num_features)
    return network, (head,) if isinstance(head, str) else tuple(head), width


def check_name(name: str) -> None:
    """Raise XmrError where timm is not installed, or the name is none of its networks, as those of a hub are none."""
    require_extra("timm", f"--method.image.name {name}")
    from timm.models import is_model, list_models

    own = name.removeprefix(PREFIX)
    if not is_model(own):
        close = get_close_matches(own, list_models())
        hint = f"did you mean {' or '.join(PREFIX + other for other in close)}?" if close else "timm lists its own."
        raise XmrError(f"--method.image.name {name}: timm has no such network; {hint}")


def published(name: str) -> Any:
    """timm's record of a network's weights: mean, std, input_size, crop_pct, interpolation. Asks nobody."""
    check_name(name)
    import timm

    return timm.get_pretrained_cfg(name.removeprefix(PREFIX))


def statistics(name: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, (3,), of the pictures that its weights were trained on."""
    found = published(name)
    return torch.tensor(found.mean), torch.tensor(found.std)


def fit_image_size(network: nn.Module, name: str, image_size: int) -> None:
    """Let a network of positions take pictures of another size, with its position embeddings interpolated.

    Raises:
        XmrError: it cannot.
    """
    own = published(name).input_size[-1]
    if image_size == own or not hasattr(network, "set_input_size"):
        return
    try:
        network.set_input_size(img_size=(image_size, image_size))  # type: ignore[operator]
    except Exception as error:  # each network has checks of its own
        raise XmrError(
            f"{name} cannot take images of {image_size} pixels ({first_line(error)}); set --data.image-size {own}"
        ) from error


def untraced() -> dict[str, list[Any]]:
    """Options of torch.fx's tracer: timm's modules and functions that it is not to look into."""
    from timm.models import get_notrace_functions, get_notrace_modules

    return {"leaf_modules": list(get_notrace_modules()), "autowrap_functions": list(get_notrace_functions())}
