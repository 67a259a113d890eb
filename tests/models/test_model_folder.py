"""A model that leaves its run: the folder in the hub's layout, its card, and processes that know nothing of the run."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import sentencepiece
import tokenizers
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file, save_file

import xmr_e2e
from tests.helpers.hub_server import Hub, serving_hub, use_hub
from tests.helpers.made_models import METHOD, TEXTS, fresh, make_model, measured_run, pretrained, save_transformers
from xmr_e2e.cli import app, main
from xmr_e2e.data.tokenizers import Tokenization
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.cca import Cca
from xmr_e2e.towers.text import TextCnn

EMBED = """
import json, sys
import numpy as np
import xmr_e2e
model = xmr_e2e.SavedModel.from_pretrained(sys.argv[1])
np.savez("rows.npz", image=model.embed_images([sys.argv[2]]), text=model.embed_texts(json.loads(sys.argv[3])))
print(model.fingerprint)
"""


@pytest.fixture(scope="module")
def run(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measured_run(tmp_path_factory.mktemp("portable") / "run", tiny_shards)


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    out = run.with_name("exported")
    assert main(["export", str(run), str(out)]) == 0
    return out


@pytest.fixture
def photo(tmp_path: Path, make_image: Callable[..., Path]) -> Path:
    return make_image(tmp_path / "photo.jpg", size=(300, 200), color=(40, 80, 200))


@pytest.mark.slow
def test_an_exported_model_gives_the_runs_embeddings_in_a_fresh_process(
    run: Path, exported: Path, photo: Path, tmp_path: Path
) -> None:
    moved, empty = tmp_path / "moved", tmp_path / "empty"
    shutil.copytree(exported, moved)
    printed = fresh(EMBED, str(moved), str(photo), json.dumps(TEXTS), cwd=empty)
    original = xmr_e2e.load(run)
    with np.load(empty / "rows.npz") as rows:
        np.testing.assert_allclose(rows["image"], original.embed_images([photo]), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(rows["text"], original.embed_texts(TEXTS), rtol=1e-5, atol=1e-6)
    assert printed.strip() == original.fingerprint
    assert sorted(path.name for path in exported.iterdir()) == [
        "README.md",
        "config.json",
        "config_sentence_transformers.json",
        "model.safetensors",
        "modules.json",
        "vocab.txt",
    ]


def test_one_item_is_one_item(run: Path, photo: Path) -> None:
    model = xmr_e2e.load(run)
    text = "a picture of apple"
    assert np.array_equal(model.embed_texts(text), model.embed_texts([text]))
    expected = model.embed_images([photo])
    for one in (photo, str(photo), photo.read_bytes(), Image.open(photo)):
        assert model.embed_images(one).shape == (1, 4)
        np.testing.assert_allclose(model.embed_images(one), expected, atol=0.05)  # decoders differ by rounding
    assert model.embed_texts(iter([text, text])).shape == (2, 4)


def test_what_is_no_item_is_named(run: Path, photo: Path, tmp_path: Path) -> None:
    model = xmr_e2e.load(run)
    cut = tmp_path / "cut.png"
    Image.effect_noise((90, 90), 50).save(cut)
    cut.write_bytes(cut.read_bytes()[:2000])
    for given, message in (
        (["a dog", 7], "texts are strings, and item 1 is int: '7'"),
        (None, "texts are strings, one or a list of them, not NoneType"),
        (b"a dog", "not bytes"),
        ([], "nothing to embed"),
    ):
        with pytest.raises(XmrError, match=message):
            model.embed_texts(given)  # type: ignore[arg-type]
    for given, message in (
        ([photo, np.zeros((2, 2))], r"pictures are paths, bytes or PIL images, and item 1 is ndarray"),
        (3.5, "not float"),
        (tmp_path, "not a regular file"),
        ("a\0b.jpg", "is no path: embedded null byte"),
        (Image.open(cut), "the given image cannot be decoded"),
    ):
        with pytest.raises(XmrError, match=message):
            model.embed_images(given)  # type: ignore[arg-type]


def test_what_a_model_does_not_know_of_a_text_is_said(run: Path) -> None:
    model = xmr_e2e.load(run)
    assert str(model.unknown_words("a picture of apple, again")) == ""
    assert str(model.unknown_words("a zebra of apple on a zebra")) == "unknown to the model, and passed over: zebra, on"
    for text in ("zzz qqq 犬", "?!", "", "🦊" * 300, "\0", "מילים אחרות"):
        unknown = model.unknown_words(text)
        assert unknown.is_all and str(unknown).startswith("no word of the query is known to the model")


def test_a_folder_of_runs_names_them_with_the_newest_first(run: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "dscmr"
    for number, name in enumerate(("20260101-000000", "mine", "unfinished")):
        (recipe / name).mkdir(parents=True)
        (recipe / name / "config.json").write_text('{"train": {}}')
        os.utime(recipe / name / "config.json", (1e9 + number, 1e9 + number))
    for name in ("20260101-000000", "mine"):
        shutil.copy(run / "model.safetensors", recipe / name)
    listed = f"{recipe}/unfinished (no epoch finished), {recipe}/mine, {recipe}/20260101-000000"
    commands = [["search", str(recipe), "a dog"], ["serve", str(recipe), "--port", "0"], ["eval", str(recipe)],
                ["export", str(recipe), str(tmp_path / "out")], ["report", str(recipe)], ["eval", str(tmp_path)],
                ["embed", str(recipe), str(tmp_path), "--out", str(tmp_path / "x.npy")]]  # fmt: skip
    message = re.escape(f"is no run, but holds runs; name one of them, here with the newest first: {listed}")
    for command in commands:
        with pytest.raises(XmrError, match=message):
            app.cli(prog="xmr", args=command)
    assert sorted(path.name for path in recipe.iterdir()) == ["20260101-000000", "mine", "unfinished"]


def test_an_exported_model_does_not_say_where_the_training_lay(run: Path, exported: Path, tiny_shards: Path) -> None:
    assert str(tiny_shards) in (run / "model.json").read_text()
    texts = [path.read_text() for path in exported.iterdir() if path.suffix != ".safetensors"]
    assert not [text for text in texts if str(tiny_shards.parent) in text]
    assert xmr_e2e.load(exported, shards=tiny_shards).data == xmr_e2e.load(run).data


@pytest.mark.slow
def test_the_fingerprint_changes_with_the_model_alone(run: Path, tmp_path: Path) -> None:
    original = xmr_e2e.load(run).fingerprint
    other = tmp_path / "other"
    shutil.copytree(run, other)
    document = json.loads((other / "model.json").read_bytes())
    document["data"]["shards"], document["config"]["image"]["weights"] = "elsewhere", "some/file.pth"
    (other / "model.json").write_text(json.dumps(document))
    assert xmr_e2e.load(other).fingerprint == original
    for part, name, value in (("data", "max_tokens", 5), ("tokenizer", "words", document["tokenizer"]["words"][::-1])):
        changed = json.loads(json.dumps(document))
        changed[part][name] = value
        (other / "model.json").write_text(json.dumps(changed))
        assert xmr_e2e.load(other).fingerprint != original
    (other / "model.json").write_text(json.dumps(document))
    state = load_file(other / "model.safetensors")
    state["classifier.bias"][0] += 1
    save_file(state, other / "model.safetensors")
    assert xmr_e2e.load(other).fingerprint != original


def test_the_card_has_the_figures_of_the_run_and_random_ones(run: Path, exported: Path) -> None:
    card = ModelCard.load(exported / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("xmr_e2e", "feature-extraction")
    assert card.data.datasets == ["tiny"] and card.data.license is None
    assert {"cross-modal-retrieval", "alscor"} <= set(card.data.tags)
    document = json.loads((run / "evaluation" / "test.json").read_bytes())
    ours, floor = (document[part]["figures"]["text_to_image"]["scores"] for part in ("model", "random"))
    assert f"| text → image | mAP@all | {ours['mAP@all']:.4f} | {floor['mAP@all']:.4f} |" in card.text
    (result,) = (
        result
        for result in card.data.eval_results
        if result.metric_name == "mAP@all, text → image" and result.dataset_split == "test"
    )
    assert result.metric_value == pytest.approx(ours["mAP@all"], abs=1e-6) and result.dataset_config == "protocol clean"
    assert "untrained" not in card.text and "epoch 3, the best of some" in card.text


def test_an_export_is_exported_again_but_never_written_over(exported: Path, tmp_path: Path) -> None:
    model = xmr_e2e.load(exported)
    model.save_pretrained(tmp_path / "second")
    second = xmr_e2e.SavedModel.from_pretrained(tmp_path / "second")
    assert second.fingerprint == model.fingerprint
    assert "None are known of these weights" in (tmp_path / "second" / "README.md").read_text()
    with pytest.raises(XmrError, match="holds a model already"):
        model.save_pretrained(exported)


def test_a_damaged_export_is_named(exported: Path, tmp_path: Path) -> None:
    for name, content, message in (
        ("vocab.txt", None, "No such file or directory; copy the whole folder again"),
        ("config.json", b"{", "Invalid JSON"),
        ("model.safetensors", b"none", "is missing or damaged"),
    ):
        folder = tmp_path / name
        shutil.copytree(exported, folder)
        (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
        with pytest.raises(XmrError, match=f"{name}:? {message}"):
            xmr_e2e.load(folder)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps({"type": "xmr_e2e.runs.experiment:Experiment"}))
    with pytest.raises(XmrError, match="no epoch of the run is finished yet"):
        xmr_e2e.load(tmp_path / "run")


# ---- tokenisers and networks that come from elsewhere


def test_subwords_lie_beside_the_model_as_their_own_library_reads_them(tiny_shards: Path, tmp_path: Path) -> None:
    config = Cca(image=METHOD.image, text=TextCnn(kernels=8), dim=4)
    model = make_model(tiny_shards, config, Tokenization("sentencepiece", size=60))
    model.save_pretrained(tmp_path / "out")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "out" / "tokenizer.model"))
    assert model.tokenizer and processor.encode(TEXTS[1])[:20] == model.tokenizer.encode(TEXTS[1], max_tokens=20)
    np.testing.assert_array_equal(xmr_e2e.load(tmp_path / "out").embed_texts(TEXTS), model.embed_texts(TEXTS))


def test_a_pretrained_transformers_architecture_travels_with_the_model(
    tiny_shards: Path, photo: Path, tmp_path: Path
) -> None:
    """The folder or hub that it came from is not asked again."""
    model = pretrained(tiny_shards, save_transformers(tmp_path / "hub"))
    model.save_pretrained(tmp_path / "out")
    expected = model.embed_images([photo]), model.embed_texts(TEXTS)
    shutil.rmtree(tmp_path / "hub")
    loaded = xmr_e2e.load(tmp_path / "out")
    # Where weights lie in memory decides in which order a CPU adds up.
    np.testing.assert_allclose(loaded.embed_images([photo]), expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loaded.embed_texts(TEXTS), expected[1], rtol=1e-5, atol=1e-6)
    assert loaded.fingerprint == model.fingerprint
    own = tokenizers.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert own.encode("a picture").ids == [2, 4, 5, 3]


# ---- the hub


@pytest.fixture
def hub(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one model, someone/model, which holds a file that could be a program, too."""
    folder = tmp_path / "published"
    shutil.copytree(exported, folder)
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    with serving_hub() as hub:
        hub.publish("someone/model", folder)
        use_hub(monkeypatch, hub.address, tmp_path / "cache")
        yield hub


@pytest.mark.slow
def test_a_model_comes_from_the_hub_without_anything_that_could_be_a_program(hub: Hub, exported: Path) -> None:
    found = xmr_e2e.SavedModel.from_pretrained("someone/model")
    assert found.fingerprint == xmr_e2e.load(exported).fingerprint
    assert set(hub.asked) == {"README.md", "config.json", "model.safetensors", "vocab.txt"}
    with pytest.raises(XmrError, match=r"someone/other: no folder .* the Hugging Face hub does not give such a model"):
        xmr_e2e.SavedModel.from_pretrained("someone/other")
    with pytest.raises(XmrError, match="neither a folder that exists nor the name of a model on the Hugging Face hub"):
        xmr_e2e.SavedModel.from_pretrained("no such/folder/here")


def test_a_hub_that_cannot_be_reached_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    with pytest.raises(XmrError, match=r"(?s)someone/model: no folder .* copy the model's folder here") as caught:
        xmr_e2e.SavedModel.from_pretrained("someone/model")
    assert "\n" not in str(caught.value)


def test_a_connection_to_the_hub_that_breaks_off_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the error of whichever client the installed hub library talks with."""

    def break_off(*names: str, **options: object) -> str:
        raise huggingface_hub.errors.HTTPError("the connection broke off")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", break_off)
    with pytest.raises(
        XmrError, match=r"does not give such a model \(it cannot be reached: the connection broke off\)"
    ):
        xmr_e2e.SavedModel.from_pretrained("someone/model")
