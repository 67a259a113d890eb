"""The rows of DRCL's Tables IV and V."""

from xmr_e2e.studies import Variant

FULL = "Ours"
TERMS = (
    Variant("#1", {"method.prior": "random"}),
    Variant("#2", {"method.label": 0.0}),
    Variant("w/o Eq. 5", {"method.invariance": 0.0}),
    Variant("w/o Eq. 6", {"method.discrimination": 0.0}),
)
"""a random prior; without the label loss, which is #2 by its figures; #3 and #4, not known which of them is which"""
HARDNESS = (
    Variant("#5", {"method.hardness": 0.01}),
    Variant("#6", {"method.hardness": 0.5}),
    Variant("#7", {"method.hardness": 1.0}),
    Variant("#8", {"method.hardness": 2.0}),
)
"""mu is fixed"""
MIXING = (
    Variant("#10", {"method.mix": 1.0}),
    Variant("#11", {"method.mix_of": "features"}),
)
"""without feature augmentation; with that of what the encoder reads"""
