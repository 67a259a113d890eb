"""The rows of DSCMR's Tables 6 and 7."""

from xmr_e2e.studies import Variant

FULL = "Full DSCMR"
ROWS = (
    Variant("DSCMR1", {"method.label": 0.0}),
    Variant("DSCMR2", {"method.common": 0.0}),
    Variant("DSCMR3", {"method.invariance": 0.0}),
    Variant("DSCMR4", {"method.common": 0.0, "method.invariance": 0.0}),
)
"""without J1; without J2; without J3; J1 alone"""
