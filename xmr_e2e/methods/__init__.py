"""Papers and baselines: a configuration for each, which a recipe chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xmr_e2e.lazy import lazy_attributes

if TYPE_CHECKING:
    from xmr_e2e.methods.acmr import Acmr as Acmr
    from xmr_e2e.methods.alscor import Alscor as Alscor
    from xmr_e2e.methods.base import Method as Method
    from xmr_e2e.methods.base import MethodConfig as MethodConfig
    from xmr_e2e.methods.cca import Cca as Cca
    from xmr_e2e.methods.contrastive import Contrastive as Contrastive
    from xmr_e2e.methods.corr_ae import CorrAe as CorrAe
    from xmr_e2e.methods.dcca import Dcca as Dcca
    from xmr_e2e.methods.dccae import Dccae as Dccae
    from xmr_e2e.methods.deep_sm import DeepSm as DeepSm
    from xmr_e2e.methods.drcl import Drcl as Drcl
    from xmr_e2e.methods.dscmr import Dscmr as Dscmr
    from xmr_e2e.methods.jrl import Jrl as Jrl
    from xmr_e2e.methods.kcca import Kcca as Kcca
    from xmr_e2e.methods.mars import Mars as Mars
    from xmr_e2e.methods.mcca import Mcca as Mcca
    from xmr_e2e.methods.mrl import Mrl as Mrl
    from xmr_e2e.methods.probe import Probe as Probe
    from xmr_e2e.methods.scm import Scm as Scm
    from xmr_e2e.methods.sdcmr import Sdcmr as Sdcmr
    from xmr_e2e.methods.sdml import Sdml as Sdml
    from xmr_e2e.methods.semantic_sharing import SemanticSharing as SemanticSharing
else:  # as in xmr_e2e
    _MODULES = {
        "Acmr": "xmr_e2e.methods.acmr",
        "Alscor": "xmr_e2e.methods.alscor",
        "Cca": "xmr_e2e.methods.cca",
        "Contrastive": "xmr_e2e.methods.contrastive",
        "CorrAe": "xmr_e2e.methods.corr_ae",
        "Dcca": "xmr_e2e.methods.dcca",
        "Dccae": "xmr_e2e.methods.dccae",
        "DeepSm": "xmr_e2e.methods.deep_sm",
        "Drcl": "xmr_e2e.methods.drcl",
        "Dscmr": "xmr_e2e.methods.dscmr",
        "Jrl": "xmr_e2e.methods.jrl",
        "Kcca": "xmr_e2e.methods.kcca",
        "Mars": "xmr_e2e.methods.mars",
        "Mcca": "xmr_e2e.methods.mcca",
        "Method": "xmr_e2e.methods.base",
        "MethodConfig": "xmr_e2e.methods.base",
        "Mrl": "xmr_e2e.methods.mrl",
        "Probe": "xmr_e2e.methods.probe",
        "Scm": "xmr_e2e.methods.scm",
        "Sdcmr": "xmr_e2e.methods.sdcmr",
        "Sdml": "xmr_e2e.methods.sdml",
        "SemanticSharing": "xmr_e2e.methods.semantic_sharing",
    }
    __all__ = list(_MODULES)
    __getattr__ = lazy_attributes(__name__, _MODULES)
