"""Check that what is installed can be used. Imports none of it before it is looked at."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator

from xmr_e2e.doctor.finding import Finding, problem

LIBRARIES = (
    "torch", "torchvision", "accelerate", "transformers", "gensim", "sentencepiece", "safetensors", "simplejpeg",
    "numpy",
)  # fmt: skip
_LISTED_BY = "their versions, and the GPUs' driver: python -m torch.utils.collect_env, accelerate env, pip list"


def versions() -> dict[str, str]:
    """Python's and the libraries', which are to be the same on all ranks; "missing" where one is not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in (*LIBRARIES, "deepspeed")}}


def check_libraries() -> Iterator[Finding]:
    """A problem for what is missing; versions are listed by other programs."""
    missing = [name for name in LIBRARIES if _version(name) == "missing"]
    if missing:
        yield problem("libraries", f"not installed: {', '.join(missing)}. Install the project again: pip install -e .")
    else:
        yield Finding("libraries", f"installed; {_LISTED_BY}")
    yield check_operators()


def check_operators() -> Finding:
    """torchvision's compiled operators, on two boxes of which one covers the other."""
    advice = "torch and torchvision are not of one build: install both at once and from the same index"
    try:
        import torch
        from torchvision.ops import nms

        boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9]])
        boxes = boxes.to("cuda" if torch.cuda.is_available() else "cpu")
        kept = nms(boxes, boxes[:, 3], 0.5)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        complaint = str(error).strip().partition("\n")[0]
        return problem("torchvision", f"its operators do not work ({complaint}): {advice}")
    if kept.tolist() != [0]:
        return problem("torchvision", f"its non-maximum suppression gives {kept.tolist()} and not [0]: {advice}")
    return Finding("torchvision", "its operators work")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
