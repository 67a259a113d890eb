"""The parts of the engine: gradients in pieces and across processes, schedules, checkpoints, saved models."""

from __future__ import annotations

import importlib
import json
import shutil
import weakref
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn

import xmr_e2e
from recipes import dscmr_flickr8k
from tests import ROOT
from tests.helpers.classes import is_of_the_package
from tests.helpers.forked import free_port, run_ranks
from tests.helpers.ranks import METHOD, assert_same, batch, losses_and_gradients, method, run_rank
from xmr_e2e.bounds import Bounds
from xmr_e2e.configuration import from_document, to_document
from xmr_e2e.data.augment import Augment, prepare_training
from xmr_e2e.data.batch_dataset import BatchDataset
from xmr_e2e.data.config import Data
from xmr_e2e.data.loader import Loader, fit_words
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.data.tokenizers import Tokenization
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.distributed import gather
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import MethodConfig
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.models.embed import embed_split
from xmr_e2e.models.saved_model import SavedModel
from xmr_e2e.runs.environment import environment
from xmr_e2e.runs.experiment import Experiment, Optimizer, Schedule, Train
from xmr_e2e.runs.run import Run
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.training.launch import parse


@pytest.fixture(scope="module")
def whole() -> dict[str, Tensor]:
    """Losses and gradients of one process with the whole batch."""
    return losses_and_gradients(Accelerator(cpu=True), method(), batch(), 1)


def test_gradients_reach_the_first_convolution_and_the_word_vectors(whole: dict[str, Tensor]) -> None:
    assert all(gradient is not None for gradient in whole.values())
    assert whole["towers.image.network.features.0.weight"].abs().max() > 1e-6
    assert whole["towers.text.words.weight"].abs().max() > 1e-6


@pytest.mark.parametrize("micro_batches", [2, 3, 14])
def test_a_batch_in_pieces_gives_the_gradients_of_the_whole_batch(whole: dict[str, Tensor], micro_batches: int) -> None:
    assert_same(losses_and_gradients(Accelerator(cpu=True), method(), batch(), micro_batches), whole)


def most_saved(micro_batches: int) -> int:
    """The largest number of bytes that wait for the backward pass at a time, parameters left out."""
    bytes_now = most = 0

    class Saved:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal bytes_now, most
            self.tensor = tensor
            size = 0 if isinstance(tensor, nn.Parameter) else tensor.nbytes
            bytes_now += size
            most = max(most, bytes_now)
            weakref.finalize(self, self.forget, size)

        @staticmethod
        def forget(size: int) -> None:
            nonlocal bytes_now
            bytes_now -= size

    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        losses_and_gradients(Accelerator(cpu=True), method(), batch(), micro_batches)
    return most


def test_pieces_take_the_memory_of_one_piece() -> None:
    assert most_saved(7) < 1.2 * most_saved(1) / 7


def test_dropout_is_the_same_in_both_passes_over_a_piece() -> None:
    """With one piece's dropout drawn again, the surrogate's gradient would not be that of the loss."""
    model, accelerator = method(dropout=True), Accelerator(cpu=True)
    found = losses_and_gradients(accelerator, model, batch(), 2)
    again = losses_and_gradients(accelerator, method(dropout=True), batch(), 2)
    assert_same(found, again)
    step = 1e-3 * found["projections.image.weight"].sign()
    values = []
    for sign in (-1, 1):
        moved = method(dropout=True)
        with torch.no_grad():
            moved.projections.image.weight += sign * step  # type: ignore[union-attr, operator]
        terms = losses_and_gradients(accelerator, moved, batch(), 2)
        values.append(float(terms["loss total"]))
    expected = 2e-3 * float(found["projections.image.weight"].abs().sum())
    assert (values[1] - values[0]) == pytest.approx(expected, rel=0.05)


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize(("world", "micro_batches"), [(2, 1), (2, 2), (4, 1)])
def test_several_processes_give_the_losses_and_gradients_of_one(
    whole: dict[str, Tensor], tmp_path: Path, world: int, micro_batches: int
) -> None:
    run_ranks(run_rank, (world, free_port(), micro_batches, str(tmp_path)), world)
    for rank in range(world):
        assert_same(torch.load(tmp_path / f"{rank}.pt", weights_only=True), whole)


def test_gather_is_the_identity_on_one_process() -> None:
    rows = torch.randn(3, 2)
    assert gather(rows) is rows


# Optimizer and schedule


def test_parts_have_their_own_learning_rates() -> None:
    model = method()
    parts = {"towers.image": 0.1, "towers.image.network.features": 0.01, "second:classifier": 5.0}
    optimizer = Optimizer("sgd", lr=1.0, lr_overrides=parts)
    optimizer.check(model, ["first", "second"])
    groups = optimizer.build(model, "first").param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        expected = (
            0.01 if name.startswith("towers.image.network.features.") else 0.1 if "towers.image." in name else 1.0
        )
        assert rates[id(parameter)] == expected
    second = {id(p): group["lr"] for group in optimizer.build(model, "second").param_groups for p in group["params"]}
    assert second == rates | {id(parameter): 5.0 for parameter in model.classifier.parameters()}  # type: ignore[operator]


def test_a_part_that_is_nowhere_is_an_error() -> None:
    with pytest.raises(XmrError, match="no parameter's name begins with 'picture'; they begin with classifier"):
        Optimizer("adamw", lr_overrides={"picture": 0.1}).check(method(), ["training"])


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_first_step_that_overflows_in_fp16_is_skipped(kind: Literal["sgd", "adamw"]) -> None:
    """torch's fused SGD began its momentum with uninitialised memory after such a step."""
    layer = nn.Linear(64, 64)
    before = layer.weight.detach().clone()
    optimizer, scaler = Optimizer(kind, lr=1e-3, momentum=0.8).build(layer, ""), torch.amp.GradScaler("cpu")
    for factor in (float("inf"), 1.0, 1.0):
        optimizer.zero_grad()
        scaler.scale((layer(torch.ones(1, 64)) * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert 0 < (layer.weight - before).abs().max() < 0.01


def test_schedules() -> None:
    cosine = Schedule("cosine", warmup=0.1)
    assert [cosine.factor(p) for p in (0.0, 0.05, 0.1)] == pytest.approx([0, 0.5, 1])
    assert cosine.factor(0.55) == pytest.approx(0.5)
    assert cosine.factor(0.9999) == pytest.approx(0, abs=1e-6)
    step = Schedule("step", drop_every=0.4)
    assert [step.factor(p) for p in (0.0, 0.39, 0.41, 0.81)] == pytest.approx([1, 1, 0.1, 0.01])
    assert Schedule().factor(0.7) == 1


# Files


def experiment(folder: Path) -> Experiment:
    data = Data(folder, 48, 48, words=WordVectors(dim=8), augment=Augment(min_area=0.5), workers=0)
    return Experiment(
        "tiny",
        data,
        METHOD,
        Optimizer("sgd", lr=0.1, lr_overrides={"image": 0.01}),
        train=Train(epochs=2, runs=Path("r")),
    )


CONFIGURATIONS = [
    importlib.import_module(f"recipes.{path.stem}").experiment() for path in sorted((ROOT / "recipes").glob("[!_]*.py"))
]


def classes_of(kind: type[Any]) -> set[type[Any]]:
    """A class and all that derive from it."""
    return {kind}.union(*(classes_of(each) for each in kind.__subclasses__()))


def number_types(hint: Any) -> Iterator[Any]:
    """The int and float within a field's type, with what they are annotated with."""
    if get_origin(hint) is Annotated or hint in (int, float):
        yield hint
    elif get_origin(hint) is not Literal:
        for inner in get_args(hint):
            yield from number_types(inner)


def test_every_number_option_has_bounds() -> None:
    parts = {type(part) for experiment in CONFIGURATIONS for part in vars(experiment).values() if is_dataclass(part)}
    parts |= {Tokenization, WordVectors, Augment}
    parts |= {each for kind in (TowerConfig, MethodConfig) for each in classes_of(kind)}
    parts = set(filter(is_of_the_package, parts))
    found = {
        f"{part.__name__}.{name}": hint
        for part in parts
        for name, declared in get_type_hints(part, include_extras=True).items()
        if name in {field.name for field in fields(part)}
        for hint in number_types(declared)
    }
    assert len(found) > 80 and "TextCnn.widths" in found and "Data.extra_shards" in found and "Train.clip_norm" in found
    for name, hint in found.items():
        assert get_origin(hint) is Annotated, f"{name} has no bounds"
        (bounds,) = (item for item in hint.__metadata__ if isinstance(item, Bounds))
        assert bounds.limits and all(bounds.complaint(value) for value in (-(10**9), float("nan"), float("inf"))), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--optimizer.lr -1", "--optimizer.lr must be at least 0, not -1"),
        ("--optimizer.lr nan", "--optimizer.lr must be a finite number, not nan"),
        ("--optimizer.weight-decay -1", "--optimizer.weight-decay must be at least 0, not -1"),
        ("--optimizer.betas 0.9 1", "--optimizer.betas must be below 1, not 1"),
        (
            "--optimizer.lr-overrides towers.text -0.1",
            "--optimizer.lr-overrides towers.text must be at least 0, not -0.1",
        ),
        ("--data.workers -1", "--data.workers must be at least 0, not -1"),
        ("--data.extra-shards extra inf", "--data.extra-shards extra must be a finite number, not inf"),
        ("--data.max-tokens 0", "--data.max-tokens must be at least 1, not 0"),
        ("--data.load-size 1000000", "--data.load-size must be at most 10,000, not 1000000"),
        ("--data.words.window 0", "--data.words.window must be at least 1, not 0"),
        ("--train.batch-classes 0", "--train.batch-classes must be at least 1, not 0"),
        ("--train.clip-norm 0", "--train.clip-norm must be above 0, not 0"),
        ("--train.timeout-minutes 0", "--train.timeout-minutes must be above 0, not 0"),
        (f"--train.seed {2**70}", f"--train.seed must be at most 4,294,967,295, not {2**70}"),
        ("--train.name ..", "--train.name '..' must be the name of a folder"),
        ("--schedule.warmup 2", "--schedule.warmup must be at most 1, not 2"),
        ("--schedule.drop-every 0", "--schedule.drop-every must be at least 0.001, not 0"),
        ("--method.text.dropout 1", "--method.text.dropout must be below 1, not 1"),
        ("--method.text.widths 3 0", "--method.text.widths must be at least 1, not 0"),
        ("--method.text.widths", "--method.text.widths needs at least one value"),
    ],
)
def test_a_number_out_of_bounds_is_refused_by_its_option(options: str, message: str) -> None:
    with pytest.raises(XmrError) as error:
        parse(dscmr_flickr8k.experiment, options.split(" "))
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("name", ["", " ", "a/b", ".", "a\nb", "\udcff"])
def test_a_run_has_a_name_that_can_be_seen(name: str) -> None:
    with pytest.raises(XmrError, match=r"^--train\.name "):
        parse(dscmr_flickr8k.experiment, ["--train.name", name])


def test_runs_of_earlier_versions_had_an_empty_name_and_any_numbers() -> None:
    """A model is read whatever it was trained with; `Experiment` alone looks at the numbers."""
    document = to_document(Train()) | {"name": "", "clip_norm": -1.0}
    assert from_document(Train, document, "config.json") == Train(name="", clip_norm=-1.0)


def test_a_configuration_survives_its_json_document() -> None:
    original = experiment(Path("somewhere"))
    assert from_document(Experiment, json.loads(json.dumps(to_document(original))), "here") == original


@pytest.mark.parametrize("name", ["os:system", "subprocess:Popen", "xmr_e2e.files:sha256_of", "xmr_e2e.nowhere:X", "x"])
def test_a_document_cannot_name_arbitrary_code(name: str) -> None:
    with pytest.raises(XmrError, match="is no configuration of this package"):
        from_document(MethodConfig, {"type": name}, "model.json")


def test_a_document_of_another_version_is_refused() -> None:
    document = to_document(Schedule()) | {"shape": "round"}
    with pytest.raises(XmrError, match=r"model.json: .*Schedule has no field 'shape'"):
        from_document(Schedule, document, "model.json")


def test_options_that_came_after_a_run_have_their_defaults_also_beside_a_method_of_somebodys_own(
    tiny_shards: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run")
    run.start(experiment(tiny_shards), environment(experiment(tiny_shards), 1))
    document = run.document("config.json")
    del document["data"]["tokens"]["revision"]
    (run.folder / "config.json").write_text(json.dumps(document))
    run.check_same(experiment(tiny_shards))
    document["method"]["type"] = "laboratory.method:Own"
    (run.folder / "config.json").write_text(json.dumps(document))
    with pytest.raises(XmrError) as different:
        run.check_same(experiment(tiny_shards))
    (line,) = [line for line in str(different.value).splitlines() if line.startswith("  ")]
    assert line.startswith("  method.type: 'laboratory.method:Own' in the run, ")


def test_changed_data_is_not_resumed(tiny_shards: Path, tmp_path: Path) -> None:
    folder, run = tmp_path / "shards", Run(tmp_path / "run")
    shutil.copytree(tiny_shards, folder)
    run.start(experiment(tiny_shards), environment(experiment(tiny_shards), 1))
    run.check_same(experiment(folder))  # the same shards elsewhere
    (folder / "manifest.json").write_text((folder / "manifest.json").read_text() + " ")
    with pytest.raises(XmrError, match="holds other data than the run began with"):
        run.check_same(experiment(folder))


@pytest.fixture(scope="module")
def saved_model(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SavedModel]:
    """An untrained model, saved."""
    run = tmp_path_factory.mktemp("run")
    data = experiment(tiny_shards).data
    vocabulary, vectors = fit_words(data)
    torch.manual_seed(0)
    built = METHOD.build(DatasetInfo(4, False, 48, torch.from_numpy(vectors)))
    original = SavedModel(METHOD, data, ["a", "b", "c", "d"], False, vocabulary, {}, built)
    original.save(run, built.state_dict(), "untrained")
    return run, original


def test_a_loaded_model_embeds_as_the_saved_one(saved_model: tuple[Path, SavedModel], tmp_path: Path) -> None:
    run, original = saved_model
    loaded = xmr_e2e.load(run)
    reader = SplitReader(loaded.data.shards, "test")
    records = [reader.read(position) for position in range(len(reader))]
    file = tmp_path / "é ü.jpg"
    file.write_bytes(records[0].image)
    images = loaded.embed_images([file, *(record.image for record in records[1:])])
    texts = loaded.embed_texts(" ".join(record.metadata.texts) for record in records)
    assert images.shape == texts.shape == (12, 4)
    assert images.dtype == np.float32
    for modality, rows in (("image", images), ("text", texts)):
        np.testing.assert_allclose(rows, original.embed_split("test", modality), rtol=1e-4, atol=1e-5)


def test_pictures_embed_alike_as_files_bytes_and_pil_images(
    saved_model: tuple[Path, SavedModel], make_image: Callable[..., Path], tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [
        make_image(tmp_path / "turned.jpg", exif=exif, size=(90, 60)),
        make_image(tmp_path / "cmyk.jpg", mode="CMYK"),
        make_image(tmp_path / "grey.png", mode="L"),
        make_image(tmp_path / "clear.png", mode="RGBA"),
    ]
    model = saved_model[1]
    expected = model.embed_images(files)
    np.testing.assert_allclose(model.embed_images(file.read_bytes() for file in files), expected, atol=1e-6)
    pictures = [Image.open(file) for file in files]
    np.testing.assert_allclose(model.embed_images(pictures), expected, rtol=1e-2, atol=1e-2)


def test_a_split_is_embedded_in_order_of_position(saved_model: tuple[Path, SavedModel]) -> None:
    _, model = saved_model
    embedded = embed_split(model.method, model.data, model.tokenizer, "val")
    reader = SplitReader(model.data.shards, "val")
    assert embedded.keys == tuple(reader.key(p) for p in range(12))
    assert [row.nonzero().flatten().tolist() for row in embedded.labels] == [list(reader.labels(p)) for p in range(12)]


def embed_on_rank(rank: int, world: int, port: int, run: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    model = xmr_e2e.load(run)
    embedded = embed_split(model.method, model.data, model.tokenizer, "train")
    torch.save({**embedded.embeddings, "labels": embedded.labels}, f"{out}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.processes
@pytest.mark.slow
def test_several_processes_embed_each_sample_once(saved_model: tuple[Path, SavedModel], tmp_path: Path) -> None:
    run, model = saved_model
    run_ranks(embed_on_rank, (3, free_port(), str(run), str(tmp_path)), 3)
    expected = embed_split(model.method, model.data, model.tokenizer, "train")
    for rank in range(3):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert torch.equal(found["labels"], expected.labels)
        for modality, rows in expected.embeddings.items():
            torch.testing.assert_close(found[modality], rows, rtol=1e-4, atol=1e-5)


def test_a_missing_picture_or_model_is_named(saved_model: tuple[Path, SavedModel], tmp_path: Path) -> None:
    with pytest.raises(XmrError, match=r"cat\.jpg: cannot be read: No such file"):
        saved_model[1].embed_images([tmp_path / "cat.jpg"])
    with pytest.raises(XmrError, match=r"model\.json does not exist"):
        xmr_e2e.load(tmp_path)


def test_precision_of_the_towers_does_not_reach_the_objective() -> None:
    model, part = method().float(), batch()
    part = replace(part, inputs={**part.inputs, "image": part.inputs["image"].float()})
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = model(part, StepContext(progress=0.3))
    with torch.no_grad():
        full = model(part, StepContext(progress=0.3))
    assert all(term.dtype == torch.float32 for term in low.values())
    for name in ("discrimination", "adversary"):
        assert float(low[name]) == pytest.approx(float(full[name]), rel=0.05)


def test_diverged_representations_are_an_error_that_says_what_to_do() -> None:
    model = method()
    with torch.no_grad():
        model.projections["text"].weight[0] = float("nan")  # type: ignore[index]
    with pytest.raises(XmrError, match=r"NaN .* in the text representations: .* Lower --optimizer\.lr"):
        model(batch(), StepContext(progress=0.3))


def test_multi_label_data_trains_too() -> None:
    model = method(multi_label=True)
    several = replace(batch(), labels=(torch.rand(14, 4) > 0.5).float())
    assert model(several, StepContext(progress=0.3))["total"].isfinite()


def test_training_crops_keep_the_batch_on_its_device(tiny_shards: Path) -> None:
    data = experiment(tiny_shards).data
    first = next(Loader(BatchDataset(data, "train", METHOD.input_kinds, fit_words(data)[0], seed=0), 8).epoch())
    ready = prepare_training(first.inputs["image"], 48, data.augment, seed=0, epoch=0, positions=first.positions)
    assert ready.shape == (8, 3, 48, 48) and ready.dtype == torch.float32
