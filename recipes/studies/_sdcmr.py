"""The rows of SDCMR's Table III, and one more."""

from xmr_e2e.studies import Variant

FULL = "SDCMR"
ROWS = (
    Variant("w/o L_rec", {"method.reconstruction": 0.0}),
    Variant("w/o L_sim", {"method.invariance": 0.0}),
    Variant("w/o L_ad", {"method.adversary": 0.0}),
    Variant("w/o L_ind", {"method.independence": 0.0}),
)
WITHOUT_BOUND = Variant("w/o the bound", {"method.elbo": 0.0})
"""not in the paper"""
