"""Many runs: studies, tables of runs beside published figures, recipes. What a study's file imports is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xmr_e2e.lazy import lazy_attributes

if TYPE_CHECKING:
    from xmr_e2e.studies.study import Study as Study
    from xmr_e2e.studies.study import Sweep as Sweep
    from xmr_e2e.studies.study import Variant as Variant
    from xmr_e2e.studies.study_main import main as main
else:  # as in xmr_e2e
    _MODULES = {
        "Study": "xmr_e2e.studies.study",
        "Sweep": "xmr_e2e.studies.study",
        "Variant": "xmr_e2e.studies.study",
        "main": "xmr_e2e.studies.study_main",
    }
    __all__ = list(_MODULES)
    __getattr__ = lazy_attributes(__name__, _MODULES)
