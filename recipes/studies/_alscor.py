"""ALSCOR without terms of Eq. 33. The paper has no such table: these rows are our own."""

from xmr_e2e.studies import Variant

FULL = "ALSCOR"
ROWS = (
    Variant("w/o correlation", {"method.correlation": 0.0}),
    Variant("w/o classifier", {"method.discrimination": 0.0}),
    Variant("w/o adversary", {"method.adversary": 0.0}),
)
