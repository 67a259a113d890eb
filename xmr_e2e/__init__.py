"""End-to-end training for cross-modal retrieval from raw media.

model = xmr_e2e.load("runs/alscor_pascal/20261122-120000")
model.embed_images(["photo.jpg"]); model.embed_texts(["a dog in the snow"])
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Threads of torch and scikit-learn that wait for each other sleep instead of spinning: beside other work on two cores a
# network of ten layers trains at 243 to 323 images per second so, and at 24 to 30 with OpenMP's default. OpenMP reads
# it when torch is imported, and a user's own setting stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from xmr_e2e.models.saved_model import SavedModel as SavedModel
    from xmr_e2e.models.saved_model import load as load

__version__ = "0.1.0"
__all__ = ["SavedModel", "load"]


def __getattr__(name: str) -> Any:
    # Late, because it imports torch: builders and `xmr --help` need none of it.
    if name in __all__:
        from xmr_e2e.models import saved_model

        return getattr(saved_model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
