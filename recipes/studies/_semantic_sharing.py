"""The rows of Semantic Sharing's Table 1."""

from typing import Any

from xmr_e2e.studies import Variant

FULL = "Ours"
WITHOUT_REGIONS: dict[str, Any] = {"method.inputs": "global", "method.encoder": "layer", "method.context": 0.0}
WITHOUT_CONTEXT: dict[str, Any] = {"method.context": 0.0, "method.masked": 0.0}
WITHOUT_LABELS: dict[str, Any] = {"method.label": 0.0, "method.embedding": "states"}
ROWS = (
    Variant("ST", {"method.shared": False, **WITHOUT_CONTEXT}),
    Variant("IMC", {"method.consistency": 1.0, **WITHOUT_LABELS, **WITHOUT_CONTEXT}),
    Variant("w/o R", WITHOUT_REGIONS),
    Variant("w/o T", {"method.encoder": "layer"}),
    Variant("w/o C", WITHOUT_CONTEXT),
    Variant("w/o L", WITHOUT_LABELS),
    Variant("Ours+Con", {"method.consistency": 1.0}),
)
