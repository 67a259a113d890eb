"""The scripts of slurm/ on a real Slurm of four nodes, which all are this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import draw_image
from test_builders import command, write

if TYPE_CHECKING:
    from slurm_cluster import Slurm

pytest_plugins = ["slurm_cluster"]

PROJECT = Path(__file__).parents[1]
CATEGORIES = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
SPLITS = ["train"] * 8 + ["val"] * 4 + ["test"] * 4
# Two steps of two pictures per process, a narrow encoder, random weights.
SMALL = (
    "--method.image.weights none --method.image.regions 2 --method.image.trained none --method.text.hidden 8 "
    "--method.dim 16 --method.layers 1 --method.heads 2 --method.feedforward 16 --data.words.dim 8 "
    "--data.image-size 64 --data.load-size 64 --data.workers 0 --train.batch-size 4 --train.epochs 1"
).split(" ")
# A recipe that says what it was started with.
PROBE = """
import json, os, sys
names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURMD_NODENAME"]
print(json.dumps([{name: os.environ[name] for name in names}, sys.argv[1:]]))
"""
# One that runs until SIGTERM, saves a checkpoint then, and from there on dies of SIGTERM as any program does.
STOPPED = """
import os, pathlib, signal, sys, time
def stop(*_):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(1 + 2 * int(os.environ["RANK"]))
    print("saved")
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
pathlib.Path("started-" + os.environ["RANK"]).touch()
time.sleep(120)
"""
# One whose first process fails while the others wait for it.
BROKEN = """
import os, sys, time
sys.exit("0" == os.environ["RANK"] and 2 or time.sleep(120))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder like the project's root, with runs of its own."""
    root = tmp_path / "root"
    root.mkdir()
    for name in ("slurm", "recipes"):
        (root / name).symlink_to(PROJECT / name)
    return root


def log(root: Path, job: str) -> str:
    return (root / f"runs/slurm/{job}.out").read_text()


def coco(raw: Path) -> Path:
    """MSCOCO 2014 as published, with 16 pictures: persons on red, dogs on blue."""
    images: list[dict[str, Any]] = []
    for number, split in enumerate(SPLITS):
        folder = "train2014" if split == "train" else "val2014"
        name = f"COCO_{folder}_{number:012d}.jpg"
        draw_image(raw / folder / name, colour=[(200, 40, 40), (40, 80, 200)][number % 2], size=(80, 64), seed=number)
        images.append({"filepath": folder, "filename": name, "cocoid": number, "split": split})
    write(raw / "dataset_coco.json", json.dumps({"images": images}))
    for folder in ("train2014", "val2014"):
        ids = [image["cocoid"] for image in images if image["filepath"] == folder]
        objects = [{"id": i, "image_id": i, "category_id": CATEGORIES[i % 2]["id"]} for i in ids]
        captions = [
            {"id": 5 * i + k, "image_id": i, "caption": f"a {CATEGORIES[i % 2]['name']}, said in way {k}"}
            for i in ids
            for k in range(5)
        ]
        documents = {
            "instances": {"images": [{"id": i} for i in ids], "annotations": objects, "categories": CATEGORIES},
            "captions": {"images": [{"id": i} for i in ids], "annotations": captions},
        }
        for kind, document in documents.items():
            write(raw / f"annotations/{kind}_{folder}.json", json.dumps(document))
    return raw


def test_sbatch_mscoco_trains_on_two_nodes_to_a_report(slurm: Slurm, root: Path, tmp_path: Path) -> None:
    built = command("mscoco", coco(tmp_path / "raw"), root / "data/shards/mscoco", "--workers", 1)
    assert built.returncode == 0, built.stderr
    job = slurm.submit(root, "slurm/mscoco.sh", *SMALL)
    assert slurm.wait(job) == 0, log(root, job)
    assert "2 process(es)" in log(root, job)
    (report,) = root.glob("runs/semantic_sharing_mscoco/*/report.html")
    assert json.loads((report.parent / "environment.json").read_text())["processes"] == 2
    assert not list(root.glob("slurm-*.out"))  # Slurm's own place for the log


def test_a_wrong_option_ends_the_job_with_status_2_and_is_named_in_its_log(slurm: Slurm, root: Path) -> None:
    job = slurm.submit(root, "--nodes=1", "slurm/mscoco.sh", "--train.epochz", "1")
    assert slurm.wait(job) == 2, log(root, job)
    assert "--train.epochz" in log(root, job)


@pytest.mark.parametrize(
    ("options", "ranks"),
    [
        ("--partition=gpu --nodes=2", [("g1", 0), ("g1", 1), ("g2", 0), ("g2", 1)]),  # a process on each GPU
        ("--partition=gpu --nodes=2 --ntasks-per-node=1", [("g1", 0), ("g2", 0)]),
        ("--partition=gpu --oversubscribe --gpus-per-node=1 --mem=100", [("g1", 0)]),
        ("--nodes=2", [("n1", 0), ("n2", 0)]),  # one process on each node without GPUs
    ],
)
def test_processes_know_their_places_and_get_the_recipes_options(
    slurm: Slurm, root: Path, options: str, ranks: list[tuple[str, int]]
) -> None:
    write(root / "probe.py", PROBE)
    job = slurm.submit(root, *options.split(" "), "slurm/train.sh", "probe.py", "--name", "two words", "*")
    assert slurm.wait(job) == 0, log(root, job)
    lines = [line.partition(": ")[2] for line in log(root, job).splitlines() if ': [{"RANK"' in line]
    started = sorted((json.loads(line) for line in lines), key=lambda found: int(found[0]["RANK"]))
    assert [(place["SLURMD_NODENAME"], int(place["LOCAL_RANK"])) for place, _ in started] == ranks
    assert [int(place["RANK"]) for place, _ in started] == list(range(len(ranks)))
    assert {int(place["WORLD_SIZE"]) for place, _ in started} == {len(ranks)}
    local = {int(place["LOCAL_WORLD_SIZE"]) for place, _ in started}
    assert local == {max(number for _, number in ranks) + 1}
    assert {place["MASTER_ADDR"] for place, _ in started} == {"127.0.0.1"}
    assert {int(place["MASTER_PORT"]) for place, _ in started} == {20000 + int(job)}
    assert all(arguments == ["--name", "two words", "*"] for _, arguments in started)


def test_a_stopped_training_ends_the_job_with_status_75_when_all_have_saved(slurm: Slurm, root: Path) -> None:
    write(root / "stopped.py", STOPPED)
    job = slurm.submit(root, "--nodes=2", "slurm/train.sh", "stopped.py")
    slurm.wait_for(lambda: len(list(root.glob("started-*"))) == 2, "the start of the job")
    slurm.command("scancel", "--signal=TERM", job)
    assert slurm.wait(job) == 75, log(root, job)
    assert log(root, job).count("saved") == 2


def test_one_process_that_fails_ends_the_job_with_its_status(slurm: Slurm, root: Path) -> None:
    write(root / "broken.py", BROKEN)
    job = slurm.submit(root, "--nodes=2", "slurm/train.sh", "broken.py")
    assert slurm.wait(job, seconds=60) == 2, log(root, job)


def test_without_an_active_environment_venv_is_used_and_an_output_of_sbatch_is_kept(slurm: Slurm, root: Path) -> None:
    write(root / "probe.py", "import os; print(os.environ['VIRTUAL_ENV'])")
    write(root / ".venv/bin/activate", f"export VIRTUAL_ENV=here PATH={Path(sys.executable).parent}:$PATH")
    job = slurm.submit(root, "--output=mine", "slurm/train.sh", "probe.py", path="/usr/bin:/bin")
    assert slurm.wait(job) == 0
    assert (root / "mine").read_text().endswith("0: here\n")
    assert not list((root / "runs/slurm").iterdir())
