"""End-to-end training for cross-modal retrieval from raw media.

model = xmr_e2e.load("runs/alscor_pascal/20261122-120000")
model.embed_images(["photo.jpg"]); model.embed_texts(["a dog in the snow"])

Methods are in xmr_e2e.methods, networks of one modality in xmr_e2e.towers.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from xmr_e2e.lazy import lazy_attributes

# Threads of torch and scikit-learn that wait for each other sleep instead of spinning: beside other work on two cores a
# network of ten layers trains at 243 to 323 images per second so, and at 24 to 30 with OpenMP's default. OpenMP reads
# it when torch is imported, and a user's own setting stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

if TYPE_CHECKING:
    from xmr_e2e.data.augment import Augment as Augment
    from xmr_e2e.data.config import Data as Data
    from xmr_e2e.data.tokenizers import Tokenization as Tokenization
    from xmr_e2e.data.vectors import WordVectors as WordVectors
    from xmr_e2e.errors import XmrError as XmrError
    from xmr_e2e.models.saved_model import SavedModel as SavedModel
    from xmr_e2e.models.saved_model import load as load
    from xmr_e2e.runs.experiment import Experiment as Experiment
    from xmr_e2e.runs.experiment import Optimizer as Optimizer
    from xmr_e2e.runs.experiment import Schedule as Schedule
    from xmr_e2e.runs.experiment import Train as Train
    from xmr_e2e.runs.run import open_run as open_run
    from xmr_e2e.shards.manifest import load_manifest as load_manifest
    from xmr_e2e.training.launch import main as main
    from xmr_e2e.training.launch import train as train
else:  # builders and `xmr --help` need no torch; type checkers would take every name to exist
    _MODULES = {
        "Augment": "xmr_e2e.data.augment",
        "Data": "xmr_e2e.data.config",
        "Experiment": "xmr_e2e.runs.experiment",
        "Optimizer": "xmr_e2e.runs.experiment",
        "SavedModel": "xmr_e2e.models.saved_model",
        "Schedule": "xmr_e2e.runs.experiment",
        "Tokenization": "xmr_e2e.data.tokenizers",
        "Train": "xmr_e2e.runs.experiment",
        "WordVectors": "xmr_e2e.data.vectors",
        "XmrError": "xmr_e2e.errors",
        "load": "xmr_e2e.models.saved_model",
        "load_manifest": "xmr_e2e.shards.manifest",
        "main": "xmr_e2e.training.launch",
        "open_run": "xmr_e2e.runs.run",
        "train": "xmr_e2e.training.launch",
    }
    __all__ = list(_MODULES)
    __getattr__ = lazy_attributes(__name__, _MODULES)
