"""Protocols on shards and runs: what they select on, and what the guard refuses."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from tests.helpers import forked
from tests.helpers.embedded import embedded_split
from xmr_e2e.data.captions import Captions
from xmr_e2e.data.config import Data
from xmr_e2e.data.loader import fit_words
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.directions import cross_modal_metrics
from xmr_e2e.methods.base import MethodConfig
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.methods.protocols import protocol
from xmr_e2e.methods.stages import Stage
from xmr_e2e.models.embed import embed_split
from xmr_e2e.models.saved_model import SavedModel, load
from xmr_e2e.runs.evaluate import evaluate, evaluate_run
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train
from xmr_e2e.runs.run import Run
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.shards.manifest import load_manifest
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn
from xmr_e2e.training.selection import check_splits, selected_on, selection_criterion

pytestmark = pytest.mark.slow
DSCMR = Dscmr(image=ImageTower("resnet10_slim", weights="none"), text=TextCnn(kernels=8), hidden=16, dim=8)


def experiment(shards: Path, runs: Path, method: MethodConfig = DSCMR, **train: Any) -> Experiment:
    return forked.tiny(shards, runs, method, **train)


def untrained(shards: Path) -> SavedModel:
    """A model with the first weights that come."""
    data = Data(shards, image_size=32, load_size=32, words=WordVectors(dim=6), workers=0)
    manifest = load_manifest(shards)
    tokenizer, words = fit_words(data)
    torch.manual_seed(0)
    method = DSCMR.build(DatasetInfo(len(manifest.classes), manifest.multi_label, 32, torch.from_numpy(words)))
    # A larger start: without a training, texts would hardly differ.
    nn.init.normal_(method.towers.text.words.weight)  # type: ignore[arg-type, union-attr]
    return SavedModel(DSCMR, data, manifest.classes, manifest.multi_label, tokenizer, {}, method, "as it began")


@pytest.fixture(scope="module")
def model(tiny_shards: Path) -> SavedModel:
    return untrained(tiny_shards)


# ---- of shards and runs


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, tiny_samples: tuple[RawSample, ...]) -> Path:
    """70 test samples with the tiny ones' pictures, of which five folds have 14 each, and their training split."""
    own = [replace(sample, source=f"{n}.jpg#fold{n // 14}", split="test") for n, sample in enumerate(2 * tiny_samples)]
    out = tmp_path_factory.mktemp("many") / "shards"
    samples = [*own[:70], *(sample for sample in tiny_samples if sample.split != "test")]
    options = BuildOptions(shard_samples=32, workers=1)
    build_shards(out, dataset="many", classes=("apple", "leaf", "sea", "sun"), samples=samples, options=options)
    return out


def test_whole_batches_leave_the_last_samples_out(many: Path) -> None:
    model = untrained(many)
    queries, _, metrics = evaluate(model, "test", protocol("released:acmr"))
    everything = embed_split(model.method, model.data, model.tokenizer, "test")
    rows = {name: everything.embeddings[name][:64] for name in ("image", "text")}
    expected = cross_modal_metrics(embedded_split(rows, everything.labels[:64], everything.keys[:64]))
    assert len(queries.keys) == 64
    assert metrics.model.directions["image_to_text"].gallery == 64
    assert metrics.model.average == pytest.approx(expected.model.average)


def test_coco1k_takes_its_folds_from_the_shards(many: Path) -> None:
    model = untrained(many)
    _, _, metrics = evaluate(model, "test", protocol("coco1k"))
    queries, _, whole = evaluate(model, "test", protocol("coco5k"))
    texts = SplitReader(many, "test")
    assert len(queries.embeddings["text"]) == sum(len(texts.metadata(place).texts) for place in range(70))
    assert (metrics.model.directions["image_to_text"].queries, whole.model.directions["image_to_text"].queries) == (
        14,
        70,
    )
    assert metrics.model.average["R@1"] > whole.model.average["R@1"]  # a fifth of the gallery


def test_a_gallery_of_test_and_train_ranks_both(tiny_shards: Path, model: SavedModel) -> None:
    queries, gallery, metrics = evaluate(model, "test", gallery="test+train")
    parts = [embed_split(model.method, model.data, model.tokenizer, split) for split in ("test", "train")]
    assert gallery is not None
    assert (len(queries.keys), len(gallery.keys)) == (12, 52)
    image = torch.nn.functional.normalize(parts[0].embeddings["image"], dim=1)
    text = torch.nn.functional.normalize(torch.cat([part.embeddings["text"] for part in parts]), dim=1)
    labels = torch.cat([part.labels for part in parts]).argmax(1)
    precisions = []
    for number in range(12):
        order = (image[number] @ text.T).argsort(descending=True, stable=True)
        hits = (labels[order] == labels[number]).double()
        precisions.append(float((hits * hits.cumsum(0) / torch.arange(1, 53)).sum() / hits.sum()))
    assert metrics.model.directions["image_to_text"].scores["mAP@all"] == pytest.approx(np.mean(precisions), abs=1e-6)


# ---- captions as items


def test_captions_are_embedded_one_by_one_in_their_order(tiny_shards: Path, model: SavedModel) -> None:
    found = embed_split(model.method, model.data, model.tokenizer, "test", captions=Captions())
    reader = SplitReader(tiny_shards, "test")
    texts = [(place, text) for place in range(12) for text in reader.metadata(place).texts]
    assert found.positions["text"].tolist() == [place for place, _ in texts]
    expected = model.embed_texts([text for _, text in texts])
    np.testing.assert_allclose(found.embeddings["text"], expected, rtol=1e-4, atol=1e-5)
    assert found.embeddings["image"].shape == (12, 8)


def test_identical_captions_are_one_item_of_the_first_sample_that_has_it(tiny_shards: Path, model: SavedModel) -> None:
    found = embed_split(model.method, model.data, model.tokenizer, "test", captions=Captions(distinct=True))
    reader = SplitReader(tiny_shards, "test")
    first: dict[str, int] = {}
    for place in range(12):
        for text in reader.metadata(place).texts:
            first.setdefault(text, place)
    assert len(first) < sum(len(reader.metadata(place).texts) for place in range(12))
    assert found.positions["text"].tolist() == list(first.values())
    np.testing.assert_allclose(found.embeddings["text"], model.embed_texts(list(first)), rtol=1e-4, atol=1e-5)


def test_only_the_first_captions_are_items_where_so_many_are_asked_for(tiny_shards: Path) -> None:
    reader = SplitReader(tiny_shards, "test")
    assert [len(texts) for texts in Captions(most=1).of(reader, range(12)).values()] == [1] * 12


def embed_on_rank(rank: int, world: int, port: int, shards: Path, out: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    model = untrained(shards)
    queries, _, metrics = evaluate(model, "test", protocol("coco5k"))
    torch.save([queries.embeddings, queries.positions, metrics.model.average], out / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.processes
def test_two_processes_embed_captions_as_one_does(many: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    context = multiprocessing.get_context("forkserver")  # that of `forked`, which has imported what takes long
    ranks = [context.Process(target=embed_on_rank, args=(rank, 2, port, many, tmp_path)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(forked.PATIENCE)
    assert [process.exitcode for process in ranks] == [0, 0]
    queries, _, metrics = evaluate(untrained(many), "test", protocol("coco5k"))
    for rank in range(2):
        embeddings, positions, average = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name in ("image", "text"):
            assert torch.equal(positions[name], queries.positions[name])
            torch.testing.assert_close(embeddings[name], queries.embeddings[name])
        assert average == pytest.approx(metrics.model.average)


# ---- the guard


@pytest.mark.parametrize("select", ["test mAP@all", "mAP@all on test", "test"])
def test_selection_on_test_is_refused_without_a_name_that_says_so(tiny_shards: Path, select: str) -> None:
    with pytest.raises(XmrError, match=r"no measurement.*--train.protocol released:dscmr"):
        check_splits(experiment(tiny_shards, Path("runs"), select=select), load_manifest(tiny_shards))


def edited(shards: Path, folder: Path, **changes: Any) -> Path:
    """A copy with another manifest: `splits` has split -> shards, the rest is set."""
    shutil.copytree(shards, folder)
    document = json.loads((folder / "manifest.json").read_text())
    for split, listed in changes.pop("splits", {}).items():
        document["splits"][split]["shards"] = listed
    (folder / "manifest.json").write_text(json.dumps(document | changes))
    return folder


def shards_of(shards: Path, split: str) -> list[dict[str, Any]]:
    return list(json.loads((shards / "manifest.json").read_text())["splits"][split]["shards"])


def test_a_validation_split_that_is_the_test_split_is_refused(tiny_shards: Path, tmp_path: Path) -> None:
    same = [{**shard, "name": shard["name"].replace("test", "val-same")} for shard in shards_of(tiny_shards, "test")]
    folder = edited(tiny_shards, tmp_path / "same", splits={"val": same})
    manifest = load_manifest(folder)
    with pytest.raises(XmrError, match=r"shares samples with the test split \(the shard val-same-00000.tar is test-"):
        check_splits(experiment(folder, tmp_path), manifest)
    for harmless in ({"select": "last"}, {"protocol": "released:dscmr"}, {"protocol": "released:semantic_sharing"}):
        check_splits(experiment(folder, tmp_path, **harmless), manifest)
    with pytest.raises(XmrError, match="shares samples"):
        check_splits(experiment(folder, tmp_path, protocol="released:drcl"), manifest)


@pytest.mark.parametrize("adopted", [False, True])
def test_samples_in_validation_and_test_are_found_by_key(tiny_shards: Path, tmp_path: Path, adopted: bool) -> None:
    """A shard of test whose bytes are others; another tool's keys, which may be numbers, tell with the sizes."""
    (first, *_) = shards_of(tiny_shards, "test")
    copied = {**first, "name": "val-copied.tar", "sha256": "0" * 64}
    folder = edited(
        tiny_shards, tmp_path / "keys", splits={"val": [*shards_of(tiny_shards, "val"), copied]}, adopted=adopted
    )
    for suffix in (".tar", ".index.safetensors"):
        shutil.copy(folder / f"test-00000{suffix}", folder / f"val-copied{suffix}")
    with pytest.raises(XmrError, match=r"\(8 of 20 samples, the first "):
        check_splits(experiment(folder, tmp_path), load_manifest(folder))


def test_another_tools_numbers_are_no_samples_in_common(tmp_path: Path) -> None:
    from xmr_e2e.shards.adopt import adopt_shards

    splits: dict[str, tuple[Path, ...]] = {}
    for number, split in enumerate(("train", "val", "test")):
        splits[split] = (write_numbered(tmp_path / f"{split}.tar", first=10 * number),)
    folder, manifest = adopt_shards(splits, dataset="numbers", workers=1)
    assert SplitReader(folder, "val").key(0) == SplitReader(folder, "test").key(0)
    check_splits(experiment(folder, tmp_path), manifest)


def write_numbered(path: Path, *, first: int) -> Path:
    """As img2dataset does: keys count from 0 in each tar."""
    import io
    import tarfile

    from PIL import Image

    with tarfile.open(path, "w") as tar:
        for number in range(3):
            picture = io.BytesIO()
            pixels = np.random.default_rng(first + number).integers(0, 256, (20 + first, 20, 3), np.uint8)
            Image.fromarray(pixels).save(picture, "PNG")
            for extension, data in (("png", picture.getvalue()), ("txt", b"words"), ("cls", b"1")):
                member = tarfile.TarInfo(f"{number:09d}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("name", "reason"),
    [("coco1k", "names no fold"), ("released:acmr", "whole batches of 64 samples only.*has 12")],
)
def test_data_that_a_protocol_cannot_measure_is_refused_before_the_training(
    tiny_shards: Path, tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(XmrError, match=reason):
        check_splits(experiment(tiny_shards, tmp_path, protocol=name), load_manifest(tiny_shards))


def test_galleries_that_make_no_sense_are_refused(many: Path) -> None:
    model = untrained(many)
    for split, name in (("val", "clean"), ("test", "coco1k"), ("test", "released:acmr")):
        with pytest.raises(XmrError, match=r"--gallery test\+train adds the training split to the whole test split"):
            evaluate(model, split, protocol(name), "test+train")


def test_what_has_chosen_the_epoch_is_told_by_stage() -> None:
    open_, by_loss, fixed = (
        Stage("a", ("image",)),
        Stage("b", ("image",), select="loss"),
        Stage("c", ("image",), select="last"),
    )
    fitted = Stage("d", ("image",), closed_form=True)
    both = ("train", "val", "test")
    dscmr, batch = Train(protocol="released:dscmr"), Train(protocol="released:semantic_sharing")
    assert [selection_criterion(stage, dscmr) for stage in (open_, by_loss, fixed, fitted)] == [
        "mAP@all",
        "loss",
        "last",
        "last",
    ]
    assert selection_criterion(open_, Train(select="mAP@50")) == "mAP@50"
    assert selection_criterion(open_, batch) == "training loss"
    assert selected_on([open_], Train(), both) == "val"
    assert selected_on([fixed, fitted], Train(), both) == "nothing"
    assert selected_on([open_], Train(select="last"), both) == "nothing"
    assert selected_on([fixed, by_loss], dscmr, both) == "test"
    assert selected_on([open_, by_loss], batch, both) == "training loss"
    assert selected_on([by_loss], Train(select="last"), ("train", "test")) == "nothing"


# ---- a training


@pytest.fixture(scope="module")
def on_test(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Experiment, Run]]:
    """Two epochs under DSCMR's released protocol; its shards have no validation split."""
    folder = tmp_path_factory.mktemp("on_test")
    shards = edited(tiny_shards, folder / "shards")
    document = json.loads((shards / "manifest.json").read_text())
    del document["splits"]["val"]
    (shards / "manifest.json").write_text(json.dumps(document))
    experiment_ = experiment(shards, folder / "runs", protocol="released:dscmr", select="mAP@50")
    ended = forked.train(experiment_, folder)
    assert ended.end() == 0, ended.printed
    assert "differs from clean: The epoch is the one with the best mAP@all on the test split itself" in ended.printed
    yield experiment_, Run(folder / "runs" / "tiny" / "run")


def test_dscmrs_protocol_selects_on_test_and_every_output_says_so(on_test: tuple[Experiment, Run]) -> None:
    _, run = on_test
    validations = [record for record in run.records() if "val" in record]
    assert [record["split"] for record in validations] == ["test", "test"]
    best = max(validations, key=lambda record: record["val"]["average mAP@all"])
    document = run.document("evaluation/test.json")
    assert document["selection"] == (
        f"epoch {best['epoch']}, the best by mAP@all on the test split (average of all directions)"
    )
    # The figure that chose the epoch is the one that is reported.
    assert document["model"]["average"]["mAP@all"] == pytest.approx(best["val"]["average mAP@all"], abs=1e-6)
    about = document["protocol"]
    assert (about["name"], about["gallery"], about["selected_on"]) == ("released:dscmr", "test", "test")
    assert "too high" in about["differences"][0]
    model = load(run.folder)
    assert (model.protocol.name, model.selected_on) == ("released:dscmr", "test")


def test_a_run_selected_on_test_is_not_measured_as_clean(on_test: tuple[Experiment, Run]) -> None:
    _, run = on_test
    for name in ("clean", "coco5k", "released:drcl"):
        with pytest.raises(XmrError, match=rf"selected on the test split .*cannot be measured as {name}"):
            evaluate_run(run, "test", protocol=name)


def test_other_galleries_and_protocols_get_files_of_their_own(on_test: tuple[Experiment, Run]) -> None:
    _, run = on_test
    before = (run.folder / "evaluation" / "test.json").read_bytes()
    evaluate_run(run, "test", gallery="test+train")
    document = run.document("evaluation/test-released-dscmr-with-train.json")
    assert document["protocol"]["gallery"] == "test+train"
    assert document["model"]["figures"]["image_to_text"]["gallery"] == 52
    evaluate_run(run, "test", protocol="released:semantic_sharing")
    document = run.document("evaluation/test-released-semantic_sharing.json")
    assert document["protocol"]["selected_on"] == "test"
    assert document["protocol"]["differences"][0].endswith("but on the test split.")
    assert (run.folder / "report-test-released-semantic_sharing.html").exists()
    assert (run.folder / "evaluation" / "test.json").read_bytes() == before


def test_a_run_is_gone_on_with_by_its_own_protocol_only(on_test: tuple[Experiment, Run]) -> None:
    experiment_, run = on_test
    run.check_same(experiment_)
    with pytest.raises(XmrError, match=r"train.protocol: 'released:dscmr' in the run, 'clean' now"):
        run.check_same(replace(experiment_, train=replace(experiment_.train, protocol="clean")))


def test_a_model_of_an_older_version_is_clean(on_test: tuple[Experiment, Run], tmp_path: Path) -> None:
    _, run = on_test
    document = run.document("model.json")
    del document["protocol"], document["selected_on"]
    shutil.copy(run.folder / "model.safetensors", tmp_path)
    (tmp_path / "model.json").write_text(json.dumps(document))
    model = load(tmp_path)
    assert (model.protocol.name, model.selected_on) == ("clean", "val")


def test_the_lowest_loss_of_a_batch_keeps_the_weights_of_that_step(tiny_shards: Path, tmp_path: Path) -> None:
    """Of 15 steps the first and the eleventh are looked at; the validation has no say."""
    own = experiment(
        tiny_shards, tmp_path / "runs", protocol="released:semantic_sharing", epochs=3,
        checkpoint_steps=4, checkpoints_kept=9,
    )  # fmt: skip
    own = replace(own, optimizer=Optimizer(lr=1e-2))
    ended = forked.train(own, tmp_path)
    assert ended.end() == 0, ended.printed
    run = Run(tmp_path / "runs" / "tiny" / "run")
    losses = {record["step"]: record["loss"]["total"] for record in run.records() if "loss" in record}
    assert len(losses) == 15
    lowest = min((1, 11), key=lambda step: losses[step])
    assert lowest == 11  # with this rate it learns
    describe_selection = "epoch 3, step 11, whose training batch had the least loss of those looked at"
    kept = [record for record in run.records() if "selected" in record]
    assert [record["step"] for record in kept] == [1, 11]
    document = run.document("evaluation/test.json")
    assert document["selection"] == kept[-1]["selected"] == describe_selection
    assert document["protocol"]["selected_on"] == "training loss"
    with pytest.raises(XmrError, match=r"selected on the loss of training batches"):
        evaluate_run(run, "test", protocol="clean")
    assert_gone_on_with_alike(own, run, tmp_path / "again")


def assert_gone_on_with_alike(own: Experiment, run: Run, folder: Path) -> None:
    """From the eighth step, after the first that was kept and before the second, the same weights are kept again."""
    shutil.copytree(run.folder, folder / "tiny" / "run")
    checkpoints = sorted((folder / "tiny" / "run" / "checkpoints").iterdir())
    eighth = next(number for number, each in enumerate(checkpoints) if each.name.endswith("epoch-0001-step-000003"))
    for later in checkpoints[eighth + 1 :]:
        shutil.rmtree(later)
    ended = forked.train(replace(own, train=replace(own.train, runs=folder)), folder)
    assert ended.end() == 0, ended.printed
    again = folder / "tiny" / "run" / "model.safetensors"
    assert again.read_bytes() == (run.folder / "model.safetensors").read_bytes()
    assert forked.result(folder / "tiny" / "run") == forked.result(run.folder)
