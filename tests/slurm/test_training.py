"""slurm/mscoco.sh and slurm/build_shards.sh on a real Slurm: two nodes build shards and train to a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers.builders import command
from tests.helpers.launched import records, trace
from tests.helpers.raw_mscoco import coco

if TYPE_CHECKING:
    from tests.helpers.slurm_cluster import Slurm

pytestmark = pytest.mark.slow

pytest_plugins = ["tests.helpers.slurm_cluster"]

EPOCHS = 3
# Two steps of two pictures per process, a narrow encoder, random weights.
SMALL = (
    "--method.image.weights none --method.image.regions 2 --method.image.trained none --method.text.hidden 8 "
    "--method.dim 16 --method.layers 1 --method.heads 2 --method.feedforward 16 --data.words.dim 8 "
    f"--data.image-size 64 --data.load-size 64 --data.workers 1 --train.batch-size 4 --train.epochs {EPOCHS}"
).split(" ")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_training_that_was_requeued_has_the_trace_of_one_in_one_piece(
    slurm: Slurm, root: Path, tmp_path: Path
) -> None:
    built = command("mscoco", coco(tmp_path / "raw"), root / "data/shards/mscoco", "--workers", 1)
    assert built.returncode == 0, built.stderr
    runs = root / "runs/semantic_sharing_mscoco"

    whole = slurm.submit(root, "slurm/mscoco.sh", *SMALL)
    assert slurm.wait(whole) == 0, slurm.log(root, whole)
    assert "2 process(es)" in slurm.log(root, whole)
    assert json.loads((runs / f"slurm-{whole}/environment.json").read_text())["processes"] == 2
    assert (runs / f"slurm-{whole}/report.html").exists()
    assert not list(root.glob("slurm-*.out"))  # Slurm's own place for the log

    job = slurm.submit(root, "slurm/mscoco.sh", *SMALL)
    metrics = runs / f"slurm-{job}/metrics.jsonl"
    slurm.wait_for(lambda: metrics.exists() and '"val"' in metrics.read_text(), "the end of the first epoch", 240)
    slurm.command("scancel", "--signal=USR1", job)
    slurm.wait_for_requeue(job)
    assert len(trace(metrics.parent)) < len(trace(runs / f"slurm-{whole}"))
    assert slurm.wait(job) == 0, slurm.log(root, job)
    assert slurm.field(job, "Restarts") == "1"
    assert {path.name for path in runs.iterdir()} == {f"slurm-{whole}", f"slurm-{job}"}
    assert trace(metrics.parent) == trace(runs / f"slurm-{whole}")
    assert sum("loss" in record for record in records(metrics.parent)) == 2 * EPOCHS


def test_a_wrong_option_ends_the_job_with_status_2_and_is_named_in_its_log(slurm: Slurm, root: Path) -> None:
    job = slurm.submit(root, "--nodes=1", "slurm/mscoco.sh", "--train.epochz", "1")
    assert slurm.wait(job) == 2, slurm.log(root, job)
    assert "--train.epochz" in slurm.log(root, job)


def test_an_array_builds_the_shards_that_one_process_builds(slurm: Slurm, root: Path, tmp_path: Path) -> None:
    words = ["mscoco", str(coco(tmp_path / "raw")), str(root / "shards"), "--shard-samples", "3"]
    job = slurm.submit(root, "--array=1-3", "slurm/build_shards.sh", *words)
    for task in (1, 2, 3):
        assert slurm.wait(f"{job}_{task}") == 0, slurm.log(root, f"{job}_{task}")
    logs = [slurm.log(root, f"{job}_{task}") for task in (1, 2, 3)]
    assert sum("shards written to" in log for log in logs) == 1
    assert sum("still missing" in log or "another part" in log for log in logs) == 2
    plain = command(*words[:2], tmp_path / "plain", *words[3:])
    assert plain.returncode == 0, plain.stderr
    assert contents(root / "shards") == contents(tmp_path / "plain")
