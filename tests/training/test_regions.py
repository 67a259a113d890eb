"""Trainings on regions that others computed, with objects and without."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preprocessing.bottom_up.command import bottom_up
from preprocessing.bottom_up.region_files import RawRegions, to_stored
from preprocessing.bottom_up.region_tsv import LXMERT
from tests.helpers.made_regions import COUNT, SIDES, WIDTH, picture, write_tsv
from tests.helpers.typed import typed
from xmr_e2e.data.batch_dataset import _stack_regions
from xmr_e2e.data.inputs import Tokens
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.methods.semantic_sharing import SemanticSharing
from xmr_e2e.shards.manifest import load_manifest
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.regions import StoredRegions

RECIPE = """
from pathlib import Path
from xmr_e2e.data.config import Data
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train
from xmr_e2e.training.launch import main
from xmr_e2e.methods.semantic_sharing import SemanticSharing
from xmr_e2e.towers.regions import StoredRegions
from xmr_e2e.towers.text import BiGruWords

def experiment() -> Experiment:
    return Experiment(
        name="stored", data=Data(Path("shards"), workers=0, image_size=32, load_size=32),
        method=SemanticSharing(image=StoredRegions(), text=BiGruWords(hidden=8), dim=16, layers=1, heads=2,
                               feedforward=16, objects=1601, masked=0.5),
        optimizer=Optimizer("adamw", lr=1e-3), train=Train(epochs=1, batch_size=20, report=False),
    )

if __name__ == "__main__":
    main(experiment)
"""


@pytest.mark.slow
def test_semantic_sharing_trains_on_the_regions_of_a_tsv(tiny_shards: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(tiny_shards, tmp_path / "shards"))
    sources = [
        reader.metadata(position).source
        for reader in (SplitReader(shards, split) for split in load_manifest(shards).splits)
        for position in range(len(reader))
    ]
    pictures = {source.removesuffix(".jpg"): picture(seed) for seed, source in enumerate(sources)}
    bottom_up(shards, (write_tsv(tmp_path / "a.tsv", pictures, LXMERT),), count=COUNT)
    (tmp_path / "recipe.py").write_text(RECIPE)
    words = ["--data.shards", str(shards), "--data.words.dim", "8", "--train.runs", str(tmp_path / "runs")]
    done = typed([str(tmp_path / "recipe.py"), *words])
    assert done.returncode == 0, done.stderr[-2000:]
    (run_folder,) = (tmp_path / "runs" / "stored").iterdir()
    lines = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    objects = [line["loss"]["object"] for line in lines if "loss" in line]
    assert objects and all(np.isfinite(value) and value > 1 for value in objects)  # log(1601) is 7.4
    assert (run_folder / "model.safetensors").exists()


def test_regions_without_classes_train_without_a_prediction_of_objects() -> None:
    torch.manual_seed(0)
    config = SemanticSharing(image=StoredRegions(), dim=8, layers=1, heads=2, feedforward=8, masked=0.9)
    model = config.build(DatasetInfo(2, True, 32, torch.zeros(9, 4), widths={"regions": WIDTH})).train()
    options: dict[str, Any] = {"count": 3, "repeat": False, "unit": "fractions", "precision": "float32"}
    raw = [RawRegions(picture(seed)["features"], picture(seed)["boxes"] / np.tile(SIDES, 2)) for seed in range(2)]
    regions = [to_stored(one, (1, 1), "w", **options) for one in raw]
    batch = _stack_regions(regions)
    assert batch.classes is None
    mixed = _stack_regions([regions[0], regions[1]._replace(classes=np.ones(3, np.int64))])
    assert mixed.classes is None
    tokens = Tokens(torch.full((2, 4), 3), torch.tensor([4, 2]))
    found = model.represent({"image": batch, "text": tokens})
    assert not found["image masked"].any() and not found["image context"].any()
    assert found["text masked"].any()
