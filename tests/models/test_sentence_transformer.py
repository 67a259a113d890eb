"""Exported models in sentence-transformers and in MTEB: the same embeddings, and the same figures, as here."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

import xmr_e2e
from tests.helpers.drawn import COLORS, draw_image
from tests.helpers.hub_server import serving_hub, use_hub
from tests.helpers.made_models import METHOD, make_model
from tests.helpers.onnx_runs import run_onnx, unit
from tests.helpers.references import as_if_fitted
from xmr_e2e.cli import main
from xmr_e2e.data.config import Data
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.cca import Cca
from xmr_e2e.models.given import load_images
from xmr_e2e.models.sentence_transformer_files import ENCODER, sentence_transformer_files
from xmr_e2e.runs.evaluate import evaluate_run
from xmr_e2e.runs.run import Run
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.vector import VectorTower

COSINE = Cca(image=METHOD.image, text=METHOD.text, dim=4)
WORDS = "a picture of apple leaf sea sun one more here is".split()
TEXTS = [" ".join(WORDS[number:] + WORDS[:number])[: 4 * number + 3] for number in range(10)]
"""ten texts of different lengths"""


@pytest.fixture(scope="module")
def exported(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Similarity -> a folder with a model that is compared so; of the one by Pearson's correlation a run, too."""
    folder = tmp_path_factory.mktemp("sentence_transformers")
    models = {"pearson": make_model(tiny_shards), "cosine": make_model(tiny_shards, COSINE)}
    for similarity, model in models.items():
        model.save_pretrained(folder / similarity)
    (folder / "run").mkdir()
    models["pearson"].save(folder / "run", models["pearson"].method.state_dict(), "untrained")
    return {each.name: each for each in folder.iterdir()}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Ten, of different sizes."""
    folder = tmp_path_factory.mktemp("ten")
    return [draw_image(folder / f"{n}.jpg", size=(60 + 9 * n, 90 - 3 * n), seed=n) for n in range(10)]


def st(folder: Path | str, *, trust: bool = True) -> Any:
    from sentence_transformers import SentenceTransformer  # seconds, and not where tests are only collected

    return SentenceTransformer(str(folder), trust_remote_code=trust, device="cpu")


def as_sentence_transformer(model: xmr_e2e.SavedModel) -> Any:
    from xmr_e2e.models import sentence_transformer  # imports sentence-transformers

    return sentence_transformer.as_sentence_transformer(model)


# ---- embeddings


@pytest.mark.slow
def test_four_ways_to_the_same_embeddings(exported: dict[str, Path], pictures: list[Path], tmp_path: Path) -> None:
    """This package, sentence-transformers, ONNX Runtime and the Parquet file, for ten pictures and ten texts."""
    out = tmp_path / "out"
    assert main(["export", str(exported["run"]), str(out), "--onnx"]) == 0
    model = xmr_e2e.load(out)
    expected = {"image": model.embed_images(pictures), "text": model.embed_texts(TEXTS)}
    encoder = st(out)
    found = {"sentence-transformers": {"image": encoder.encode([*map(str, pictures)]), "text": encoder.encode(TEXTS)}}
    tokens = model.load_texts(TEXTS)
    found["ONNX Runtime"] = {
        "image": run_onnx(out, "image", pixels=load_images(pictures, model.data).numpy()),
        "text": run_onnx(out, "text", ids=tokens.ids.numpy(), lengths=tokens.lengths.numpy()),
    }
    found["Parquet"] = parquet_rows(exported["run"], pictures, tmp_path)
    for way, embeddings in found.items():
        for modality, rows in embeddings.items():
            where = f"{way}, {modality}"
            np.testing.assert_allclose(rows, expected[modality], rtol=0, atol=1e-5, err_msg=where)
            np.testing.assert_allclose(unit(rows), unit(expected[modality]), rtol=0, atol=1e-5, err_msg=where)
    for rows in expected.values():  # ten items are ten directions, so that equal is not equal by chance
        assert rows.shape == (10, 4) and len(np.unique(unit(rows).round(4), axis=0)) == 10


def parquet_rows(run: Path, pictures: list[Path], folder: Path) -> dict[str, np.ndarray]:
    (folder / "texts.txt").write_text("\n".join(TEXTS))
    files = [*map(str, pictures), str(folder / "texts.txt")]
    assert main(["embed", str(run), *files, "--out", str(folder / "x.parquet")]) == 0
    table = pq.read_table(folder / "x.parquet")
    rows, kinds = np.array(table["embedding"].to_pylist(), np.float32), np.array(table["modality"].to_pylist())
    return {modality: rows[kinds == modality] for modality in ("image", "text")}


def test_what_it_takes(exported: dict[str, Path], pictures: list[Path]) -> None:
    encoder, model = st(exported["cosine"]), xmr_e2e.load(exported["cosine"])
    assert encoder.modalities == ["text", "image"] and encoder.supports("image")
    assert (encoder.get_embedding_dimension(), encoder.max_seq_length) == (4, model.data.max_tokens)
    expected = model.embed_images([Image.open(path) for path in pictures])
    for given in ([Image.open(path) for path in pictures], [{"image": Image.open(path)} for path in pictures]):
        np.testing.assert_allclose(encoder.encode(given, batch_size=3), expected, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(pictures[0]), model.embed_images(pictures[0])[0], atol=1e-6)
    prompted, whole = encoder.encode("of apple", prompt="a picture "), model.embed_texts("a picture of apple")
    np.testing.assert_allclose(prompted, whole[0], atol=1e-6)
    normalized = encoder.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(np.linalg.norm(normalized, axis=1), 1, atol=1e-6)
    with pytest.raises(ValueError, match="mixes multiple modalities"):
        encoder.encode([Image.open(pictures[0]), "a text"])
    with pytest.raises(XmrError, match="pictures are paths or PIL images, and item 0 is ndarray"):
        encoder.encode([np.zeros((3, 4, 4))])
    with pytest.raises(XmrError, match="cannot be read"):  # nobody is asked for it
        encoder.encode(["https://127.0.0.1:9/photo.jpg"])


def test_embeddings_are_compared_as_the_method_does(
    exported: dict[str, Path], pictures: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    for similarity, compare in (("cosine", _cosine), ("pearson", np.corrcoef)):
        caplog.clear()
        encoder = st(exported[similarity])
        x, y = encoder.encode(TEXTS), encoder.encode([*map(str, pictures)])
        expected = compare(np.concatenate([x, y]))[:10, 10:]
        np.testing.assert_allclose(encoder.similarity(x, y), expected, atol=1e-5)
        np.testing.assert_allclose(encoder.similarity_pairwise(x, y), expected.diagonal(), atol=1e-5)
        assert ("compared by Pearson's correlation" in caplog.text) == (similarity == "pearson")


def _cosine(rows: np.ndarray) -> np.ndarray:
    product: np.ndarray = unit(rows) @ unit(rows).T
    return product


def test_saved_by_the_library_it_is_the_same_model(exported: dict[str, Path], tmp_path: Path) -> None:
    st(exported["cosine"]).save_pretrained(str(tmp_path / "again"))
    assert xmr_e2e.load(tmp_path / "again").fingerprint == xmr_e2e.load(exported["cosine"]).fingerprint
    names = {path.name for path in exported["cosine"].iterdir()}
    assert {path.name for path in (tmp_path / "again").iterdir()} == names
    assert (tmp_path / "again" / "README.md").read_text() == (exported["cosine"] / "README.md").read_text()


def test_it_learns_in_the_library(exported: dict[str, Path]) -> None:
    """Gradients of what is computed there reach the networks."""
    encoder = st(exported["cosine"])
    features = encoder(encoder.preprocess(TEXTS[5:]))["sentence_embedding"]
    features.square().sum().backward()
    grown = [parameter.grad for name, parameter in encoder.named_parameters() if "towers.text" in name]
    assert grown and any(each is not None and each.abs().sum() > 0 for each in grown)


# ---- what is trusted


def test_no_code_is_trusted_where_the_model_is_handed_over(exported: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        st(exported["cosine"], trust=False)
    hostile = tmp_path / "hostile"
    shutil.copytree(exported["cosine"], hostile)
    (hostile / "evil.py").write_text("raise SystemExit('ran')")
    modules = json.loads((hostile / "modules.json").read_text())
    (hostile / "modules.json").write_text(json.dumps([{**modules[0], "type": "evil.Encoder"}]))
    encoder = as_sentence_transformer(xmr_e2e.load(hostile))
    assert encoder.encode("a picture").shape == (4,)


def test_the_files_name_the_class_and_need_nothing_installed(tiny_shards: Path) -> None:
    from xmr_e2e.models import sentence_transformer

    module, _, name = ENCODER.rpartition(".")
    assert getattr(sys.modules[module], name) is sentence_transformer.CrossModalEncoder
    files = sentence_transformer_files(make_model(tiny_shards, COSINE))
    assert files["config_sentence_transformers.json"]["similarity_fn_name"] == "cosine"
    assert (
        "similarity_fn_name"
        not in sentence_transformer_files(make_model(tiny_shards))["config_sentence_transformers.json"]
    )


def test_the_card_says_how(exported: dict[str, Path]) -> None:
    card = ModelCard.load(exported["cosine"] / "README.md")
    assert "sentence-transformers" in card.data.tags
    assert 'embeds texts and images, too: `SentenceTransformer("FOLDER OR USER/MODEL", trust' in card.text


def test_a_model_of_features_alone_has_none_of_it(tiny_shards: Path, tmp_path: Path) -> None:
    config, widths = Cca(image=VectorTower(), text=VectorTower(), dim=2), {"image": 3, "text": 3}
    method = as_if_fitted(config.build(DatasetInfo(4, False, 32, torch.zeros(0, 0), widths)))
    model = xmr_e2e.SavedModel(
        config, Data(tiny_shards), ["a", "b", "c", "d"], False, None, widths, method, "untrained"
    )
    model.save_pretrained(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert "sentence-transformers" not in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(XmrError, match="this model reads image as vector, text as vector"):
        as_sentence_transformer(model)


@pytest.mark.slow
def test_a_model_of_the_hub(exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving_hub() as hub:
        hub.publish("someone/birds", exported["cosine"])
        use_hub(monkeypatch, hub.address, tmp_path / "cache")
        encoder = st("someone/birds")
    expected = xmr_e2e.load(exported["cosine"]).embed_texts(TEXTS)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-6)


# ---- MTEB


@pytest.fixture(scope="module")
def lossless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of pictures that all decoders read alike."""
    folder, samples = tmp_path_factory.mktemp("lossless"), []
    for split, count in (("train", 8), ("val", 4), ("test", 14)):
        for number in range(count):
            name = list(COLORS)[number % len(COLORS)]
            image = draw_image(folder / f"{split}_{number}.png", color=COLORS[name], seed=number)
            texts = (f"{' more' * number} picture of {name}", f"the {name}")
            samples.append(RawSample(image.name, split, image, texts, (name,)))
    options = BuildOptions(shard_samples=8, workers=1)
    build_shards(folder / "shards", dataset="lossless", classes=list(COLORS), samples=samples, options=options)
    return folder / "shards"


@pytest.mark.slow
@pytest.mark.parametrize("config", [METHOD, COSINE], ids=["pearson", "cosine"])
def test_mteb_gives_the_figures_of_this_package(
    config: Any, lossless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(lossless, config).save_pretrained(tmp_path / "model")
    model = xmr_e2e.load(tmp_path / "model", shards=lossless)
    directions = evaluate_run(Run(tmp_path / "model"), "test", shards=lossless, draws=False).metrics.model.directions
    for query, direction in (("image", "image_to_text"), ("text", "text_to_image")):
        ours = directions[direction].scores
        labels, pairs = (_scores(model, query, relevant) for relevant in ("label", "pair"))
        assert labels["map_at_500"] == pytest.approx(ours["mAP@all"], abs=2e-5)
        assert labels["ndcg_at_500"] == pytest.approx(ours["NDCG@500"], abs=2e-5)
        assert [pairs[f"recall_at_{k}"] for k in (1, 5, 10)] == pytest.approx(
            [ours[f"R@{k}"] for k in (1, 5, 10)], abs=2e-5
        )
        assert 0 < pairs["recall_at_10"] < 1 and labels["map_at_500"] < 1  # an untrained model is not perfect


def _scores(model: xmr_e2e.SavedModel, query: Any, relevant: Any) -> dict[str, float]:
    import mteb

    from xmr_e2e.models.mteb_task import mteb_encoder, retrieval_task

    task = retrieval_task(model.data, query=query, relevant=relevant)
    found = mteb.evaluate(mteb_encoder(model), task, cache=None, show_progress_bar=False)
    (result,) = found.task_results
    (scores,) = result.scores["test"]
    assert (found.model_revision, result.dataset_revision) == (model.fingerprint, task.metadata.dataset["revision"])
    return dict(scores)
