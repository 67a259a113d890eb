"""Models and run folders of strangers: no code of theirs runs, nobody is asked, nothing outside is written, and what
they describe takes no more than their files do."""

from __future__ import annotations

import base64
import copy
import gzip
import json
import os
import pickle
import resource
import shutil
import socket
import struct
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

import xmr_e2e
from tests.helpers.fuzzing import damaged, fuzzed, hostile
from tests.helpers.made_models import make_model, pretrained, save_transformers
from tests.helpers.references import as_if_fitted
from xmr_e2e.cli import main
from xmr_e2e.configuration import from_document, to_document
from xmr_e2e.data.config import Data
from xmr_e2e.data.tokenizer_documents import tokenizer_from_document
from xmr_e2e.data.tokenizers import load_pretrained_tokens
from xmr_e2e.data.vector_files import read_vectors
from xmr_e2e.errors import XmrError
from xmr_e2e.files import crc32_of
from xmr_e2e.methods.base import MethodConfig
from xmr_e2e.methods.cca import Cca
from xmr_e2e.methods.drcl import Drcl
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.methods.mars import Mars
from xmr_e2e.methods.sdml import Sdml
from xmr_e2e.methods.semantic_sharing import SemanticSharing
from xmr_e2e.runs.checkpoint import open_checkpoint
from xmr_e2e.runs.experiment import Experiment, Optimizer
from xmr_e2e.runs.run import Run
from xmr_e2e.towers.architecture import read_architecture
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.pretrained import PretrainedText, PretrainedVision
from xmr_e2e.towers.regions import FasterRcnn, GridRegions
from xmr_e2e.towers.text import BiGru, BiGruWords, BiLstmCnn, TextCnn
from xmr_e2e.towers.vector import VectorTower
from xmr_e2e.watchdog import Watchdog

pytestmark = pytest.mark.slow

SMALL = Dscmr(image=ImageTower("resnet10_slim", "none"), text=TextCnn(kernels=8), hidden=8, dim=4)
TEXTS = ["a picture of apple", "the sea", "…"]
SECONDS, MEGABYTES = 20, 500
"""what refusing a model may take, at most, with libraries that are imported meanwhile"""


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Whom is asked over a network, which must be nobody; with a token, as one who uses the hub has it."""
    asked: list[Any] = []

    def refuse(*arguments: Any, **options: Any) -> Any:
        asked.append(arguments)
        raise OSError("there is no network here")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr("builtins.input", refuse)
    yield asked
    assert asked == []


@pytest.fixture
def modest() -> Iterator[None]:
    """Neither much time nor much memory is taken."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.monotonic() - began < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1000 * MEGABYTES


def saved(model: xmr_e2e.SavedModel, folder: Path) -> Path:
    folder.mkdir(parents=True)
    model.save(folder, model.method.state_dict(), "epoch 1")
    return folder


@pytest.fixture(scope="module")
def run(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of networks of this package alone."""
    return saved(make_model(tiny_shards, SMALL), tmp_path_factory.mktemp("hostile") / "run")


@pytest.fixture(scope="module")
def transformer_run(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of pretrained towers, whose origin is gone."""
    folder = tmp_path_factory.mktemp("transformers")
    run = saved(pretrained(tiny_shards, save_transformers(folder / "hub")), folder / "run")
    shutil.rmtree(folder / "hub")
    return run


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """Copies a model, and changes its description."""

    def make(source: Path, change: Callable[[Any], Any], name: str = "model.json") -> Path:
        folder = tmp_path / "changed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        document = json.loads((folder / name).read_bytes())
        replaced = change(document)
        (folder / name).write_text(json.dumps(document if replaced is None else replaced))
        return folder

    return make


def put(document: Any, place: str, value: Any) -> None:
    *parents, last = place.split(".")
    for key in parents:
        document = document[key]
    document[last] = value


# ---- nobody is asked, and no code runs


def test_a_saved_model_carries_the_architecture_of_its_towers(transformer_run: Path, nobody: list[Any]) -> None:
    model = xmr_e2e.load(transformer_run)
    assert len(model.embed_texts(TEXTS)) == 3
    assert sorted(path.name for path in (transformer_run / "towers").iterdir()) == ["image", "text"]


def test_its_embeddings_are_those_of_the_model_that_was_saved(tiny_shards: Path, tmp_path: Path) -> None:
    folder = save_transformers(tmp_path / "hub")
    transformers.CLIPImageProcessor(image_mean=[0.1] * 3, image_std=[0.4] * 3).save_pretrained(folder)
    model = pretrained(tiny_shards, folder)
    run = saved(model, tmp_path / "run")
    shutil.rmtree(folder)
    image = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        expected = model.method.embed("image", image)
        torch.testing.assert_close(xmr_e2e.load(run).method.cpu().embed("image", image), expected)
    assert main(["export", str(run), str(tmp_path / "out")]) == 0
    exported = json.loads((tmp_path / "out" / "config.json").read_bytes())
    assert Path(exported["config"]["image"]["name"]).name == "hub"  # where the training had it from
    assert xmr_e2e.load(tmp_path / "out").fingerprint == xmr_e2e.load(run).fingerprint == model.fingerprint


@pytest.fixture
def earlier(transformer_run: Path, changed: Callable[..., Path]) -> Path:
    """A run of an earlier version, which names a model of the hub and has no architecture of its own."""

    def name(document: Any) -> None:
        for tower in ("image", "text"):
            document["config"][tower]["name"] = "stranger/phone-home"
            del document["config"][tower]["revision"]

    folder = changed(transformer_run, name)
    shutil.rmtree(folder / "towers")
    return folder


def test_a_model_of_an_earlier_version_asks_nobody_for_its_architecture(earlier: Path, nobody: list[Any]) -> None:
    with pytest.raises(XmrError, match=r"towers/image/config\.json does not exist: .*hf download stranger/phone-home"):
        xmr_e2e.load(earlier)


@pytest.mark.parametrize(
    ("name", "revision", "command"),
    [
        ("stranger/phone-home", "0123abc", "(hf download stranger/phone-home config.json --revision 0123abc)"),
        ("stranger/$(touch victim)", "", "(hf download 'stranger/$(touch victim)' config.json)"),
        ("x" * 5000, "", "(hf download xxx"),  # longer than the name of any file
    ],
)
def test_an_architecture_that_is_nowhere_is_said_whatever_it_is_called(
    name: str, revision: str, command: str, earlier: Path, nobody: list[Any]
) -> None:
    document = json.loads((earlier / "model.json").read_bytes())
    for tower in ("image", "text"):
        document["config"][tower] |= {"name": name, "revision": revision}
    (earlier / "model.json").write_text(json.dumps(document))
    with pytest.raises(XmrError) as refused:
        xmr_e2e.load(earlier)
    assert command in str(refused.value)


def test_but_takes_it_from_what_was_downloaded_before(
    earlier: Path, transformer_run: Path, nobody: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "cache" / "models--stranger--phone-home"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    shutil.copy(transformer_run / "towers" / "image" / "config.json", snapshot)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.file_download.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    loaded = xmr_e2e.load(earlier)
    np.testing.assert_array_equal(loaded.embed_texts(TEXTS), xmr_e2e.load(transformer_run).embed_texts(TEXTS))


MISLEADING = {
    "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"},
    "model_type": ["evil", 5, None, "timm_wrapper", "x" * 10_000, "__class__"],
    "vision_config.auto_map": {"AutoModel": "evil.Model"},
    "vision_config.model_type": ["timm_backbone"],
    "vision_config._attn_implementation": ["stranger/kernel", "kernels-community/flash-attn", "flash_attention_2"],
    "attn_implementation": ["stranger/kernel", {"": "stranger/kernel"}],
    "quantization_config": {"quant_method": "bitsandbytes"},
    "backbone": ["stranger/model"],
    "vision_config.num_hidden_layers": [10**9, 10**5, -1, 0, 2**70, "12", 1e9, None, [2]],
    "vision_config.hidden_size": [10**9, 2**30, -5, "wide", [], {}],
    "vision_config.num_attention_heads": [0, -2, 10**8, 7],
    "vision_config.image_size": [10**9, 0, -3, 10**6],
    "vision_config.patch_size": [0, -1, 10**9],
    "vision_config.num_labels": [10**9],
    "text_config.vocab_size": [10**9, 2**31, -1],
    "text_config.max_position_embeddings": [10**9, 0],
    "num_labels": [10**9],
}


@pytest.mark.parametrize("place", MISLEADING)
def test_an_architecture_is_one_of_transformers_own_and_no_larger_than_its_weights(
    place: str, transformer_run: Path, changed: Callable[..., Path], nobody: list[Any], modest: None, tmp_path: Path
) -> None:
    values = MISLEADING[place]
    for value in values if isinstance(values, list) else [values]:
        folder = changed(transformer_run, partial(put, place=place, value=value), "towers/image/config.json")
        code = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
        for place_of_code in (folder, folder / "towers" / "image"):
            (place_of_code / "evil.py").write_text(code + "class Config: pass\nclass Model: pass\n")
        try:
            model = xmr_e2e.load(folder)
        except XmrError as error:
            assert len(str(error)) < 1500, str(error)
        else:  # what no weight depends on, such as the number of heads
            assert sum(value.numel() for value in model.method.parameters()) < 1e6
        assert not (tmp_path / "ran").exists()


def with_code(folder: Path, trace: Path) -> str:
    """A model as the hub has it, with code of its own beside it; and its weights as a pickle that is a program."""
    folder.mkdir()
    (folder / "evil.py").write_text(f"import pathlib\npathlib.Path({str(trace)!r}).touch()\n")
    names = ("AutoConfig", "AutoModel", "AutoTokenizer")
    mapped = {"auto_map": {name: "evil.Thing" if name != "AutoTokenizer" else ["evil.A", "evil.B"] for name in names}}
    (folder / "config.json").write_text(json.dumps({"model_type": "unheard", **mapped}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Unheard", **mapped}))
    return str(folder)


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_is_named_for_training_brings_no_code(tmp_path: Path, nobody: list[Any]) -> None:
    folder = with_code(tmp_path / "named", tmp_path / "ran")
    towers: tuple[Any, ...] = (PretrainedVision(folder), PretrainedText(folder), PretrainedText(folder, "none"))
    for tower in towers:
        with pytest.raises(XmrError, match="the model cannot be had"):
            tower.build(DatasetInfo(2, False, 32, torch.zeros(9, 0)), "text")
    with pytest.raises(XmrError, match="the tokeniser cannot be had"):
        load_pretrained_tokens(folder)
    assert not (tmp_path / "ran").exists()


class Program:
    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self._trace,)


@pytest.mark.filterwarnings("ignore")
def test_weights_that_are_pickled_are_not_read(tmp_path: Path, nobody: list[Any]) -> None:
    folder = Path(save_transformers(tmp_path / "named"))
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"text_model": Program(tmp_path / "ran")}))
    with pytest.raises(XmrError, match=r"no file named model\.safetensors"):
        PretrainedText(str(folder)).build(DatasetInfo(2, False, 32, torch.zeros(9, 0)), "text")
    assert not (tmp_path / "ran").exists()


def test_the_revision_of_a_model_is_passed_on(monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    asked = {}

    def snapshot(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(run)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    xmr_e2e.SavedModel.from_pretrained("someone/model", revision="a" * 40)
    assert (asked["name"], asked["revision"]) == ("someone/model", "a" * 40)
    with pytest.raises(XmrError, match="revisions are of models on the Hugging Face hub"):
        xmr_e2e.SavedModel.from_pretrained(run, revision="main")

    def options_of(name: str, **options: Any) -> Any:
        raise OSError(f"{name} at {options['revision']}")

    for cls in (transformers.AutoConfig, transformers.AutoTokenizer):
        monkeypatch.setattr(cls, "from_pretrained", options_of)
    with pytest.raises(XmrError, match="someone/clip at bee"):
        PretrainedText("someone/clip", revision="bee").build(DatasetInfo(2, False, 32, torch.zeros(9, 0)), "text")
    with pytest.raises(XmrError, match="someone/clip at bee"):
        load_pretrained_tokens("someone/clip", "bee")


# ---- descriptions


WRONG: dict[str, list[Any]] = {
    "config.dim": [10**9, 2**20, -1, 0, "4", None, 4.0, True, 10**400],
    "config.text.kernels": [10**9, 2**20, 9],
    "config.text.widths": [[], [0], [3] * 9000, [3] * 20_000, [10**6], "345", [None], {"0": 3}],
    "config.text.dropout": [2, float("nan"), "0.5"],
    "config.image.name": ["nowhere", "vit_h_14", "", None, "../x", "\x1b[2J", "regnet_y_128gf"],
    "config.image": [None, {}, [], "text", 5],
    "config.type": [
        5, [], "os:system", "xmr_e2e.methods.cca:Cca.build", "xmr_e2e.methods.base:MethodConfig",
        "accelerate:Accelerator",
        "xmr_e2e.towers.text:TextCnn", "xmr_e2e.evaluation.protocol:CLEAN", "xmr_e2e.shards.remote.mount:Cache",
        "xmr_e2e.training.processes:InitProcessGroupKwargs", "xmr_e2e.methods.cca:ImageTower", "xmr_e2e.cli:main",
        "xmr_e2e.methods.:Cca", "xmr_e2e.methods.cca:", ":", "xmr_e2e.methods.mars:Mars", "xmr_e2e.data.config:Data",
    ],
    "config.ridge": [float("inf"), -1.0, "1"],
    "data.words.dim": [10**12, -8, 9],
    "data.image_size": [10**9, 10_000, 0, "32"],
    "data.load_size": [10**9, -1],
    "data.shards": [5, None, "a\0b"],
    "data.extra_shards": [[], {"x": "y"}, {"x": -1}],
    "data.augment": [[], {"type": "xmr_e2e.data.config:Data", "shards": "x"}],
    "data.tokens.kind": ["transformers", "letters", 7, []],
    "classes": ["apple", [1, 2, 3, 4], [[]], [], ["x"], ["c"] * 5000, None, {"a": 1}],
    "widths": [[], {"image": -1}, {"image": 10**30}, {"image": "5"}],
    "multi_label": ["yes", 1],
    "selection": [None, 5, ["x"]],
    "selected_on": ["moon", 1],
    "protocol": [5],
    "tokenizer": [None, [], 5, {}, {"kind": 5}, {"kind": "words"}, {"kind": "words", "file": "../../etc/passwd"},
                  {"kind": "../x", "file": "x"}],
    "tokenizer.words": ["abc", [1], ["a", "a"], [["a"]], ["x" * 10**6], [], [""]],
}  # fmt: skip


@pytest.mark.parametrize("place", WRONG)
def test_a_description_that_fits_nothing_is_refused_by_its_key(
    place: str, run: Path, changed: Callable[..., Path], nobody: list[Any], modest: None
) -> None:
    for value in WRONG[place]:
        folder = changed(run, partial(put, place=place, value=value))
        with pytest.raises(XmrError) as caught:
            xmr_e2e.load(folder)
        assert str(caught.value).startswith(str(folder)) and len(str(caught.value)) < 1500


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b"9" * 10_000])
@pytest.mark.parametrize("name", ["model.json", "config.json"])
def test_a_description_that_is_none_is_refused(name: str, content: bytes, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(run, folder)
    (folder / "model.json").rename(folder / name)
    (folder / name).write_bytes(content)
    with pytest.raises(XmrError, match=f"{folder}/"):
        xmr_e2e.load(folder)


@pytest.mark.parametrize("make", [Sdml, Drcl, Mars])
def test_a_fixed_projection_is_not_drawn_for_a_model_whose_weights_have_it(
    make: Any, tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the square of a width in memory, and its third power in time."""
    model = make_model(tiny_shards, make(image=SMALL.image, text=SMALL.text, dim=8))
    run = saved(model, tmp_path / "run")
    monkeypatch.setattr("xmr_e2e.methods.heads.orthogonal_prior", None)
    assert xmr_e2e.load(run).fingerprint == model.fingerprint


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        Cca(image=ImageTower("alexnet_paper", "none"), text=BiLstmCnn(hidden=4, kernels=8), dim=4),
        Cca(image=ImageTower("regnet_x_400mf", "none"), text=BiGru(hidden=4), dim=4),
        Cca(image=ImageTower("vit_b_32", "none"), text=BiGru(hidden=4), dim=4),
        Cca(image=ImageTower("inception_v3", "none"), text=BiGru(hidden=4), dim=4),
        SemanticSharing(image=GridRegions("resnet10_slim", "none", cells=2), text=BiGruWords(hidden=8), dim=8, heads=2),
        SemanticSharing(image=FasterRcnn("none", trained="box_head"), text=BiGruWords(8, "random"), dim=8, heads=2),
        Cca(image=VectorTower(), text=TextCnn(kernels=8), dim=4),
    ],
    ids=lambda config: type(config.image).__name__ + getattr(config.image, "name", ""),
)
@pytest.mark.filterwarnings("ignore")
def test_every_kind_of_network_is_laid_out_as_it_is_made(config: MethodConfig, tiny_shards: Path) -> None:
    from xmr_e2e.models.weights import shapes_of
    from xmr_e2e.towers.sizes import laying_out

    side = 96 if getattr(config.image, "name", "") in ("alexnet_paper", "inception_v3", "vit_b_32") else 32
    dataset = DatasetInfo(4, False, side, torch.zeros(20, 6), {"image": 7}, {})
    torch.manual_seed(0)
    made = config.build(dataset)
    size = sum(value.nbytes for value in made.state_dict().values())
    with laying_out(len(made.state_dict()), size):
        planned = config.build(dataset)
    assert sum(value.nbytes for value in planned.state_dict().values() if not value.is_meta) < 1e5
    assert shapes_of(planned) == shapes_of(made)


def test_weights_that_are_none_are_refused(run: Path, changed: Callable[..., Path], modest: None) -> None:
    folder = changed(run, lambda document: None)
    path = folder / "model.safetensors"
    sound = path.read_bytes()
    size = int.from_bytes(sound[:8], "little")
    header = json.loads(sound[8 : 8 + size])
    name = next(key for key in header if key != "__metadata__")
    for change in ({"shape": [2**60]}, {"shape": [-1]}, {"dtype": "F9"}, {"data_offsets": [0, 2**60]}, {"shape": "x"}):
        document = json.dumps(header | {name: header[name] | change}).encode()
        path.write_bytes(len(document).to_bytes(8, "little") + document + sound[8 + size :])
        with pytest.raises(XmrError, match=r"model\.safetensors is missing or damaged"):
            xmr_e2e.load(folder)
    save_file({f"w{number}": torch.zeros(1) for number in range(50_000)}, path)
    with pytest.raises(XmrError, match=r"does not fit model\.json"):
        xmr_e2e.load(folder)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(XmrError, match="not a regular file"):
        xmr_e2e.load(folder)


# ---- configurations


def test_a_run_of_an_earlier_version_goes_on_with_options_that_came_later() -> None:
    config = Cca(image=PretrainedVision("someone/clip"), text=PretrainedText("someone/clip"))
    document = to_document(config)
    del document["image"]["revision"], document["text"]["revision"]
    assert from_document(MethodConfig, document, "config.json") == config  # type: ignore[type-abstract]


def test_only_configurations_are_imported(tmp_path: Path) -> None:
    before = set(sys.modules)
    for name in (
        "xmr_e2e.doctor.examine:Examined",
        "preprocessing.folder.command:x",
        "recipes.dscmr_flickr8k:x",
        "this:s",
    ):
        with pytest.raises(XmrError, match="is no configuration of this package"):
            from_document(MethodConfig, {"type": name}, "config.json")  # type: ignore[type-abstract]
    assert set(sys.modules) == before


class Lazy(types.ModuleType):
    """A module that imports another when it is asked for a name that it does not have."""

    def __getattr__(self, name: str) -> Any:
        pytest.fail(f"{name} was asked for")


def test_classes_of_imported_modules_are_taken_only_where_they_are_made_for_the_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = Lazy("lent")
    module.Config, module.Borrowed, module.text = MethodConfig, Cca, "Cca"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lent", module)
    monkeypatch.setitem(sys.modules, "none", None)
    before = set(sys.modules)
    for name in (
        "os:system", "subprocess:Popen", "pathlib:Path", "builtins:dict", "dataclasses:Field", "fractions:Fraction",
        "torch.nn:Linear", "tests.models.test_hostile_models:Lazy", "tests.models.test_hostile_models:Cca",
        "xmr_e2e.runs.experiment:Experiment",
        "xmr_e2e.data.config:Data", "xmr_e2e.towers.text:TextCnn", "transformers:BertConfig", "__main__:Cca",
        "lent:Config", "lent:Borrowed", "lent:text", "lent:Absent", "lent:__dict__", "none:Cca", "Lent:Cca",
    ):  # fmt: skip
        with pytest.raises(XmrError, match="is no configuration of this package"):
            from_document(MethodConfig, {"type": name}, "config.json")  # type: ignore[type-abstract]
    assert set(sys.modules) == before


def test_a_module_that_is_not_imported_is_named_for_whoever_trusts_it() -> None:
    with pytest.raises(XmrError, match=r"If you have the module my\.own and trust it as a program.*--import my\.own"):
        from_document(MethodConfig, {"type": "my.own:Method"}, "config.json")  # type: ignore[type-abstract]
    for name in ("os:system", "xmr_e2e.methods.new:New", "my own:Method"):
        with pytest.raises(XmrError) as caught:
            from_document(MethodConfig, {"type": name}, "config.json")  # type: ignore[type-abstract]
        assert "--import" not in str(caught.value)


# ---- tokenisers


def test_a_tokenisers_document_is_read_as_declared(tiny_shards: Path, modest: None) -> None:
    words = {"kind": "words", "words": ["a", "b"]}
    assert len(tokenizer_from_document(words)) == 4
    whole = json.loads(LETTERS)
    bombs = [copy.deepcopy(whole) for _ in range(2)]
    doubling = [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 60
    bombs[0]["normalizer"] = {"type": "Sequence", "normalizers": doubling}
    bombs[1]["normalizer"] = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10**6}
    wrong: list[Any] = [
        None, [], {}, {"kind": None}, {"kind": []}, {"kind": "letters"}, words | {"words": None},
        words | {"words": ["a", 5]},
        {"kind": "sentencepiece"}, {"kind": "sentencepiece", "model": 5}, {"kind": "sentencepiece", "model": "!"},
        {"kind": "sentencepiece", "model": ""},
        {"kind": "sentencepiece", "model": base64.b64encode(b"x" * 999).decode()},
        PRETRAINED | {"tokenizer": "{}"}, PRETRAINED | {"tokenizer": "[" * 10**5}, PRETRAINED | {"longest": -1},
        PRETRAINED | {"longest": "9"}, PRETRAINED | {"longest": True}, PRETRAINED | {"empty": -1},
        PRETRAINED | {"empty": 2**70}, *(PRETRAINED | {"tokenizer": json.dumps(bomb)} for bomb in bombs),
    ]  # fmt: skip
    for document in wrong:
        with pytest.raises(XmrError, match=r"^here: "):
            tokenizer_from_document(document, "here")


def _trie(replacement: bytes) -> bytes:
    """A table that replaces "e", as sentencepiece has it."""
    units = [0] * 512
    units[0], node = 256 << 10, 256 ^ ord("e")
    units[node], units[node ^ 1] = ord("e") | 1 << 8 | 1 << 10, 1 << 31
    return struct.pack("<513I", 4 * len(units), *units) + replacement + b"\0"


_LETTERED = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
_BETWEEN = {"type": "Replace", "pattern": {"Regex": ""}, "content": "a"}
_TABLE = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(_trie(b"e" * 10**7)).decode()}
_BERT = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
_WHOLE = {"Sequence": {"id": "A", "type_id": 0}}
_TEMPLATE = {"type": "TemplateProcessing", "single": [_WHOLE], "pair": [_WHOLE], "special_tokens": {}}
_SPECIAL = {"a": {"id": "a", "ids": [1] * 10**6, "tokens": ["a"] * 10**6}}
_WORDS = {"type": "WordPiece", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]", "max_input_chars_per_word": 10**9}


def _steps(step: Mapping[str, Any], times: int) -> dict[str, Any]:
    return {"normalizer": {"type": "Sequence", "normalizers": [step] * times}}


_GROWING: dict[str, dict[str, Any]] = {
    "letters of bytes": _steps({"type": "ByteLevel"}, 30),
    "words of bytes": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [_LETTERED] * 30}},
    "between letters": _steps(_BETWEEN, 30),
    "characters": {"normalizer": _TABLE},
    "the text again": {"post_processor": _TEMPLATE | {"single": [_WHOLE] * 10**6}},
    "special tokens": {"post_processor": _TEMPLATE | {"special_tokens": _SPECIAL}},
    "parts of words": {"model": _WORDS | {"continuing_subword_prefix": "#" * 10**7}},
    "many steps": _steps({"type": "BertNormalizer", **_BERT}, 10**5),
}


@pytest.mark.parametrize("part", _GROWING)
def test_a_tokeniser_that_makes_texts_grow_without_bound_is_refused(part: str, modest: None) -> None:
    document = json.dumps(json.loads(LETTERS) | _GROWING[part])
    with pytest.raises(XmrError, match=r"^here: no transformers tokeniser: (it |more than 100 parts)"):
        tokenizer_from_document(PRETRAINED | {"tokenizer": document}, "here")


@pytest.mark.parametrize("longest", [18, 10**7])
def test_subwords_that_make_texts_grow_without_bound_are_refused(longest: int, modest: None) -> None:
    table = _trie(b"e" * longest)
    spec = b"\x12" + _varint(len(table)) + table
    model = PIECES + b"\x1a" + _varint(len(spec)) + spec
    document = {"kind": "sentencepiece", "model": base64.b64encode(model).decode()}
    if longest == 18:  # as many as the standard form of a character has
        assert "".join(tokenizer_from_document(document).pieces("e")).count("e") == longest
    else:
        with pytest.raises(XmrError, match="up to 10,000,000 times as long"):
            tokenizer_from_document(document)


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + _varint(number >> 7)


def _letters() -> str:
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers, processors

    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "a", "b", "##b", "text"])}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence(  # type: ignore[assignment]
        [normalizers.NFKC(), normalizers.Replace("ç", "c"), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A", special_tokens=[("[CLS]", 2)]
    )
    return str(tokenizer.to_str())


LETTERS = _letters()
PRETRAINED = {"kind": "transformers", "tokenizer": LETTERS, "longest": 30, "empty": 1}


def _pieces() -> bytes:
    from xmr_e2e.data.tokenizers import _fit_subwords

    return _fit_subwords(["a picture of apple", "the sea and the sun", "one leaf and two"] * 5, 30).model


PIECES = _pieces()


def try_tokeniser(document: Any) -> None:
    try:
        tokenizer = tokenizer_from_document(document, "here")
        for text in ("a leaf b", "", "ça 数据 \ud800"[:5], "x" * 300):
            tokenizer.encode(text, max_tokens=20)
            tokenizer.pieces(text)
            tokenizer.lookup(text)
    except XmrError as error:
        assert len(str(error)) < 1000


@fuzzed
@given(hostile({"kind": "words", "words": ["a", "b", "c d"]}))
def test_any_words_end_in_a_tokeniser_or_an_error(content: bytes) -> None:
    parsed(content, try_tokeniser)


@fuzzed
@given(damaged(PIECES))
def test_any_sentencepiece_model_ends_in_a_tokeniser_or_an_error(content: bytes) -> None:
    try_tokeniser({"kind": "sentencepiece", "model": base64.b64encode(content).decode()})


@fuzzed
@given(hostile(json.loads(LETTERS)))
def test_any_tokenizer_json_ends_in_a_tokeniser_or_an_error(content: bytes) -> None:
    try_tokeniser(PRETRAINED | {"tokenizer": content.decode(errors="replace")})


def parsed(content: bytes, use: Callable[[Any], Any]) -> None:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return
    use(document)


# ---- word vectors


WORDS = frozenset({"sea", "sun", "new"})
NUMBERS = np.arange(8, dtype="<f4").tobytes()
VECTORS = {
    "text": b"3 2\nsea 0.5 1\nsun 1e-3 -2\nnew york 3 4\n",
    "glove": b"sea 0.5 1 2\nsun 1 2 3\n. 4 5 6\n",
    "binary": b"2 8\nsea " + NUMBERS + b"\nsun " + NUMBERS + b"\n",
}


@fuzzed
@given(content=damaged(*VECTORS.values(), *(gzip.compress(each, mtime=0) for each in VECTORS.values())))
def test_any_file_of_vectors_is_read_or_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "vectors"
    path.write_bytes(content)
    try:
        found = read_vectors(path, WORDS)
        assert set(found.vectors) <= WORDS and all(np.isfinite(row).all() for row in found.vectors.values())
    except XmrError as error:
        assert str(path) in str(error)


def test_a_file_of_vectors_takes_the_memory_of_what_is_asked_of_it(tmp_path: Path, modest: None) -> None:
    path = tmp_path / "vectors"
    for content, message in (
        (b"1000000000000 1000000000\nsea " + NUMBERS, "at most 1,048,576 numbers are read"),
        (b"1 " + b"9" * 10_000 + b"\nsea " + NUMBERS, "at most 1,048,576 numbers are read"),
        (b"9" * 10_000 + b" 2\nsea 1 2", "at most 1,048,576 numbers are read"),
        (b"1000000000000 1000000\nsea " + NUMBERS, "ends within vector 1"),
        (b"1000000000 2\nsea 1 2\n", "ends after 1 vectors, and its header announces 1,000,000,000"),
    ):
        path.write_bytes(content)
        with pytest.raises(XmrError, match=message):
            read_vectors(path, WORDS)
    with gzip.open(path, "wb", compresslevel=1) as stream:  # a line that does not end
        stream.write(b"2 2\nsea 1 2\nsun ")
        for _ in range(1024):
            stream.write(b"1" * 2**20)
    with pytest.raises(XmrError, match="line 3 has no end within"):
        read_vectors(path, WORDS)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(XmrError, match="not a regular file"):
        read_vectors(path, WORDS)


# ---- all of it, fuzzed


@pytest.fixture(scope="module")
def small_run(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As small as models get, to be loaded many times."""
    model = make_model(tiny_shards)
    config = Cca(image=VectorTower(), text=TextCnn(kernels=2, widths=(2,)), dim=2)
    dataset = DatasetInfo(4, False, 32, torch.zeros(len(model.tokenizer or ()), 8), {"image": 3})
    method = as_if_fitted(config.build(dataset))
    small = xmr_e2e.SavedModel(
        config, model.data, model.classes, False, model.tokenizer, {"image": 3}, method, "epoch 1"
    )
    return saved(small, tmp_path_factory.mktemp("small") / "run")


def loads_or_errs(folder: Path) -> None:
    try:
        model = xmr_e2e.load(folder)
        model.embed_texts(["a picture"])
    except XmrError as error:
        assert len(str(error)) < 3000


@pytest.fixture(scope="module")
def sound(small_run: Path) -> dict[str, bytes]:
    """The files of a run and of the model that is exported from it, as they were."""
    xmr_e2e.load(small_run).save_pretrained(small_run.with_name("out"))
    names = ("run/model.json", "run/model.safetensors", "out/config.json", "out/vocab.txt")
    return {name: (small_run.parent / name).read_bytes() for name in names}


def try_model(folder: Path, name: str, content: bytes, sound: dict[str, bytes]) -> None:
    """With another content of one of its files."""
    path = folder.parent / name
    path.write_bytes(content)
    try:
        model = xmr_e2e.load(path.parent)
        model.embed_texts(["a picture"])
    except XmrError as error:
        assert len(str(error)) < 3000
    finally:
        path.write_bytes(sound[name])


@pytest.mark.parametrize("name", ["run/model.json", "out/config.json"])
@fuzzed
@given(data=st.data())
def test_any_description_ends_in_a_model_or_an_error(
    name: str, small_run: Path, sound: dict[str, bytes], data: st.DataObject
) -> None:
    try_model(small_run, name, data.draw(hostile(json.loads(sound[name]))), sound)


@pytest.mark.parametrize("name", ["run/model.safetensors", "out/vocab.txt"])
@fuzzed
@given(data=st.data())
def test_any_weights_and_words_end_in_a_model_or_an_error(
    name: str, small_run: Path, sound: dict[str, bytes], data: st.DataObject
) -> None:
    try_model(small_run, name, data.draw(damaged(sound[name])), sound)


@fuzzed
@given(data=st.data())
def test_any_header_of_weights_ends_in_a_model_or_an_error(
    small_run: Path, sound: dict[str, bytes], data: st.DataObject
) -> None:
    weights = sound["run/model.safetensors"]
    size = int.from_bytes(weights[:8], "little")
    header = data.draw(hostile(json.loads(weights[8 : 8 + size])))
    content = len(header).to_bytes(8, "little") + header + weights[8 + size :]
    try_model(small_run, "run/model.safetensors", content, sound)


ARCHITECTURE = {"model_type": "clip", "text_config": {"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 9},
                "vision_config": {"hidden_size": 16, "num_attention_heads": 2, "patch_size": 8}}  # fmt: skip


@fuzzed
@given(content=hostile(ARCHITECTURE, {"model_type": "vit", "id2label": {"0": "a"}, "num_hidden_layers": 2}))
def test_any_architecture_is_read_or_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "architecture.json"
    path.write_bytes(content)
    try:
        read_architecture(path)
    except XmrError as error:
        assert str(error).startswith(str(path))


EXPERIMENT = to_document(
    Experiment(
        "tiny", Data(Path("shards")), Cca(image=ImageTower(), text=TextCnn()), Optimizer(lr_overrides={"towers": 0.1})
    )
)


@fuzzed
@given(hostile(EXPERIMENT))
def test_any_configuration_is_restored_or_refused(content: bytes) -> None:
    def restore(document: Any) -> None:
        try:
            assert isinstance(from_document(Experiment, document, "config.json"), Experiment)
        except XmrError as error:
            assert str(error).startswith("config.json")

    parsed(content, restore)


# ---- run folders


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A folder and a file in it of the user's, which stay as they are."""
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    yield folder
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    assert (folder / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["lock", "checkpoints", "evaluation", "words", "towers", "heartbeats", "metrics.jsonl"]
)
def test_a_training_does_not_go_on_through_links(
    name: str, run: Path, changed: Callable[..., Path], victim: Path
) -> None:
    folder = changed(run, lambda document: None)
    shutil.rmtree(folder / name, ignore_errors=True)
    (folder / name).symlink_to(victim / "thesis.txt" if name in ("lock", "metrics.jsonl") else victim)
    with pytest.raises(XmrError, match=f"{folder / name} is a link, and nothing is written"), Run(folder).in_use():
        pass


def test_clearing_a_run_leaves_what_its_links_lead_to(run: Path, changed: Callable[..., Path], victim: Path) -> None:
    folder = changed(run, lambda document: None)
    (folder / "checkpoints").symlink_to(victim)
    Run(folder).clear()
    assert not list(folder.iterdir())


def test_figures_are_not_written_through_links(
    run: Path, changed: Callable[..., Path], victim: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = changed(run, lambda document: None)
    (folder / "evaluation").symlink_to(victim)
    with monkeypatch.context() as patch:
        patch.setattr("xmr_e2e.runs.evaluate.evaluate", lambda *_: pytest.fail("measured for nothing"))
        assert main(["eval", str(folder)]) == 2
    assert "evaluation is a link" in " ".join(capfd.readouterr().err.split())
    with pytest.raises(XmrError, match="evaluation is a link"):
        Run(folder).save_evaluation("test", {})
    (folder / "evaluation").unlink()
    with pytest.raises(XmrError, match="is not a plain one"):
        Run(folder).save_evaluation("../../victim/test", {})
    Run(folder).save_evaluation("test", {})


def test_a_sheet_is_not_written_through_links(run: Path, changed: Callable[..., Path], victim: Path) -> None:
    folder = changed(run, lambda document: None)
    (folder / "search").symlink_to(victim)
    assert main(["search", str(folder), "a picture of apple"]) == 2
    (folder / "index").symlink_to(victim)
    shards = json.loads((folder / "model.json").read_bytes())["data"]["shards"]
    assert main(["index", str(folder), shards]) == 2


def test_a_models_architecture_is_not_written_through_links(
    transformer_run: Path, changed: Callable[..., Path], victim: Path
) -> None:
    folder = changed(transformer_run, lambda document: None)
    model = xmr_e2e.load(transformer_run)
    shutil.rmtree(folder / "towers" / "image")
    (folder / "towers" / "image").symlink_to(victim)
    with pytest.raises(XmrError, match="image is a link"):
        model.save(folder, model.method.state_dict(), "epoch 1")


def test_signs_of_life_are_not_written_through_links(tmp_path: Path, victim: Path) -> None:
    beats = tmp_path / "heartbeats"
    beats.mkdir()
    (beats / "rank-00000.part").symlink_to(victim / "thesis.txt")
    (beats / "rank-00001.json").write_text('{"rank": []}')
    with Watchdog(beats, 0, 2, 60.0) as watch:
        assert not (beats / "rank-00000.json").is_symlink()
        assert "process" in watch.diagnose()


CHECKPOINT: dict[str, Any] = {"progress": {"stage": 0, "epoch": 1, "step": 2, "best": 0.5, "skipped": 0}, "zero": 0,
                              "world_size": 1, "crc32": {"weights.safetensors": "", "kept/model.json": ""}}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    (folder / "kept").mkdir()
    for name in CHECKPOINT["crc32"]:
        (folder / name).write_bytes(b"content")
        CHECKPOINT["crc32"][name] = crc32_of(folder / name)
    (folder / "checkpoint.json").write_text(json.dumps(CHECKPOINT))
    assert open_checkpoint(folder).progress.step == 2
    return folder


@pytest.mark.parametrize(
    "name", ["../victim/thesis.txt", "/etc/passwd", "/dev/zero", "kept", "", "kept/../../x", "link/a"]
)
def test_a_checkpoint_names_its_own_files_alone(name: str, checkpoint: Path, tmp_path: Path, modest: None) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder)
    (folder / "link").symlink_to("/etc")
    (folder / "checkpoint.json").write_text(json.dumps(CHECKPOINT | {"crc32": {name: "00000000"}}))
    with pytest.raises(XmrError, match="is no whole checkpoint: ") as caught:
        open_checkpoint(folder)
    assert "checksum" not in str(caught.value)


@fuzzed
@given(data=st.data())
def test_any_checkpoint_is_opened_or_refused(data: st.DataObject, checkpoint: Path) -> None:
    (checkpoint / "checkpoint.json").write_bytes(data.draw(hostile(CHECKPOINT)))
    try:
        found = open_checkpoint(checkpoint)
        assert 0 <= found.progress.stage < 2**31 and found.world_size >= 1
    except XmrError as error:
        assert "is no whole checkpoint" in str(error)


def test_words_of_a_run_are_read_as_declared(tmp_path: Path, modest: None) -> None:
    words = tmp_path / "words"
    words.mkdir()
    sound = {"kind": "words", "words": ["a", "b"]}
    for document, vectors, message in (
        (None, torch.zeros(4, 2), "No such file"),
        (sound | {"words": [1]}, torch.zeros(4, 2), "word 0 should be text"),
        (sound, torch.zeros(3, 2), "does not hold the vectors of the 4 tokens"),
        (sound, torch.zeros(4), "does not hold the vectors"),
        (sound, torch.zeros(4, 2, dtype=torch.int64), "does not hold the vectors"),
        (sound, None, "missing or damaged"),
    ):
        for path in words.iterdir():
            path.unlink()
        if document is not None:
            (words / "tokenizer.json").write_text(json.dumps(document))
        if vectors is not None:
            save_file({"vectors": vectors}, words / "vectors.safetensors")
        with pytest.raises(XmrError, match=message):
            Run(tmp_path).words()
