"""Models that go to the Hugging Face hub and come from there: against a stand-in of its HTTP interface."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import ModelCard

import xmr_e2e
from tests.helpers.drawn import draw_image
from tests.helpers.hub_server import READS, WRITES, Hub, serving_hub, use_hub
from tests.helpers.made_models import TEXTS, measured_run
from xmr_e2e.cli import main
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.result import read_result
from xmr_e2e.runs.evaluate import evaluate_run
from xmr_e2e.runs.run import Run

pytestmark = pytest.mark.slow

NAME = "someone/birds"


@pytest.fixture(scope="module")
def run(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measured_run(tmp_path_factory.mktemp("hub") / "run", tiny_shards)


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    out = run.with_name("exported")
    assert main(["export", str(run), str(out), "--license", "mit"]) == 0
    return out


@pytest.fixture(scope="module")
def started() -> Iterator[Hub]:
    with serving_hub() as hub:
        yield hub


@pytest.fixture
def hub(started: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """An empty hub, to which someone may write, from an empty folder and with nothing downloaded."""
    started.repositories.clear()
    started.asked.clear()
    use_hub(monkeypatch, started.address, tmp_path / "cache", WRITES)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return started


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return draw_image(tmp_path / "photo.jpg", size=(300, 200))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The words of a command that ends with an error."""
    assert main([*map(str, arguments)]) == 2
    return " ".join(capsys.readouterr().err.split())


# ---- there and back


def test_what_was_pushed_gives_the_same_embeddings_bit_for_bit(
    hub: Hub, run: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(run), NAME, "--license", "cc-by-4.0"]) == 0
    assert f"{hub.address}/{NAME}/commit/" in capsys.readouterr().out
    found = hub.repositories[NAME]
    assert not found.private and found.lfs >= {"model.safetensors", "config.json"}
    assert "vocab.txt" in found.branches["main"] and "vocab.txt" not in found.lfs  # both ways of an upload were taken
    original, loaded = xmr_e2e.load(run), xmr_e2e.load(NAME)
    assert loaded.fingerprint == original.fingerprint
    assert np.array_equal(loaded.embed_texts(TEXTS), original.embed_texts(TEXTS))
    assert np.array_equal(loaded.embed_images([photo]), original.embed_images([photo]))


def test_the_card_is_read_by_the_hubs_own_library(hub: Hub, run: Path) -> None:
    assert main(["push", str(run), NAME, "--license", "cc-by-4.0"]) == 0
    card = ModelCard.load(NAME)
    assert card.data.license == "cc-by-4.0" and "cc-by-4.0, chosen by" in card.text
    assert f'xmr_e2e.load("{NAME}")' in card.text
    document = json.loads((run / "evaluation" / "test.json").read_bytes())
    scores = {part: document[part]["figures"]["text_to_image"]["scores"] for part in ("model", "random")}
    results = {result.metric_name: result for result in card.data.eval_results}
    result = results["mAP@all, text → image"]
    assert result.metric_value == pytest.approx(scores["model"]["mAP@all"], abs=1e-6)
    assert result.metric_args == {"random_ranking": pytest.approx(scores["random"]["mAP@all"], abs=1e-6)}
    assert (result.dataset_config, result.dataset_split) == ("protocol clean", "test")
    assert result.dataset_args["selection"] == "epoch 3, the best of some"
    assert "shares a class label with the query" in result.dataset_args["relevance"]


def test_what_a_figure_is_not_stands_in_the_metadata(run: Path, tmp_path: Path) -> None:
    """Wrong labels, another protocol, and what the builder of the data says of it."""
    result = read_result(run / "evaluation" / "test.json")
    protocol = replace(result.require_protocol(), name="other", differences=("It selects on the test split.",))
    told = replace(result, protocol=protocol, label_noise="40 % symmetric", leaks=("Five pictures are in two splits.",))
    notes = ["Labels are words of captions."]
    xmr_e2e.load(run).save_pretrained(tmp_path / "out", evaluations=[told], notes=notes)
    card = ModelCard.load(tmp_path / "out" / "README.md")
    arguments = card.data.eval_results[0].dataset_args
    assert arguments["notes_on_training_data"] == notes
    assert [*arguments["cautions"]] == [
        "Five pictures are in two splits.",
        "Trained with wrong labels: 40 % symmetric.",
        "It selects on the test split.",
    ]
    assert all(words in card.text for words in (*arguments["cautions"], *notes))


def test_figures_of_two_galleries_are_two_entries(run: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    assert main(["eval", str(copied), "--gallery", "test+train", "--out", str(tmp_path / "page.html")]) == 0
    assert not list((copied / "evaluation").glob("*with-train*"))  # --out writes nothing into the run
    evaluate_run(Run(copied), "test", gallery="test+train", draws=False)
    assert main(["export", str(copied), str(tmp_path / "out")]) == 0
    results = ModelCard.load(tmp_path / "out" / "README.md").data.eval_results
    assert {each.dataset_config for each in results} == {"protocol clean", "protocol clean, gallery test+train"}


def test_a_second_push_replaces_the_first_and_leaves_what_is_not_a_models(hub: Hub, run: Path, exported: Path) -> None:
    assert main(["push", str(run), NAME]) == 0
    held = hub.repositories[NAME].branches["main"]
    held |= {"tokenizer.model": b"of an earlier model", "towers/text/config.json": b"{}", "figure.png": b"my own"}
    assert main(["push", str(run), NAME]) == 0
    assert set(held) == {"figure.png", *(path.name for path in exported.iterdir())}


def test_a_branch_is_a_revision(hub: Hub, run: Path) -> None:
    assert main(["push", str(run), NAME, "--revision", "second"]) == 0
    assert not hub.repositories[NAME].branches["main"]
    assert xmr_e2e.load(f"{NAME}@second").fingerprint == xmr_e2e.load(run).fingerprint
    with pytest.raises(XmrError, match=r"someone/birds: .* revision third, .*Revision Not Found"):
        xmr_e2e.load(f"{NAME}@third")


def test_an_exported_model_is_uploaded_as_it_stands_and_nothing_else_of_its_folder(
    hub: Hub, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(exported, mine)
    assert ModelCard.load(mine / "README.md").data.license == "mit"
    card = (mine / "README.md").read_text() + "\nSaid by hand.\n"
    (mine / "README.md").write_text(card)
    (mine / "evaluation").mkdir()
    (mine / "evaluation" / "test.json").write_text("{}")
    (mine / "notes.txt").write_text("private")
    for option in (["--license", "mit"], ["--checkpoint", "x"]):
        assert "is an exported model, which is uploaded as it stands" in refused(capsys, "push", mine, NAME, *option)
    assert main(["push", str(mine), NAME, "--private"]) == 0
    held = hub.repositories[NAME]
    assert held.private and held.branches["main"]["README.md"] == card.encode()
    assert set(held.branches["main"]) == {path.name for path in exported.iterdir()}


def test_a_link_is_not_followed_to_a_file_of_mine(
    hub: Hub, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, secret = tmp_path / "mine", tmp_path / "secret"
    shutil.copytree(exported, mine)
    secret.write_text("a key")
    (mine / "onnx").mkdir()
    (mine / "onnx" / "image.onnx").symlink_to(secret)
    assert "image.onnx is a link" in refused(capsys, "push", mine, NAME)
    assert not hub.repositories


# ---- what is refused


def test_why_nothing_can_be_uploaded_is_said(
    hub: Hub, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def with_token(token: str | None) -> None:
        use_hub(monkeypatch, hub.address, tmp_path / "cache", token)

    for name in ("birds", "a/b/c", "someone/birds@main", "some one/birds", "/someone/birds"):
        assert "is not the name of a model on the Hugging Face hub, USER/MODEL" in refused(capsys, "push", run, name)
    assert "not a run folder" in refused(capsys, "push", tmp_path, NAME)
    assert "the hub's identifiers" in refused(capsys, "push", run, NAME, "--license", "Apache 2.0!")
    assert '"license" must be one of' in refused(capsys, "push", run, NAME, "--license", "none-such")
    with_token(None)
    assert "no token for the Hugging Face hub: `hf auth login`, or set HF_TOKEN" in refused(capsys, "push", run, NAME)
    with_token("hf_of_nobody")
    assert "it does not take the token" in refused(capsys, "push", run, NAME)
    with_token(READS)
    assert "the token may not write there: it needs the role write" in refused(capsys, "push", run, "someone/new")
    with_token(WRITES)
    assert "the token may not write there" in refused(capsys, "push", run, "another/birds")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refused(capsys, "push", run, NAME)
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache", WRITES)
    assert "it cannot be reached" in refused(capsys, "push", run, NAME)


def test_private_means_private(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(run), NAME]) == 0
    before = dict(hub.repositories[NAME].branches["main"])
    assert "and public: nothing was uploaded" in refused(capsys, "push", run, NAME, "--private")
    assert hub.repositories[NAME].branches["main"] == before


def test_why_a_model_is_not_given_is_said(
    hub: Hub, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish(NAME, exported)
    hub.repositories[NAME].private = True
    use_hub(monkeypatch, hub.address, tmp_path / "cache")
    for name in (NAME, "someone/other"):
        with pytest.raises(XmrError, match=r"(?s)no folder of that name .*it is private and the token may not see it"):
            xmr_e2e.load(name)
    use_hub(monkeypatch, hub.address, tmp_path / "cache", READS)
    assert xmr_e2e.load(NAME).fingerprint == xmr_e2e.load(exported).fingerprint
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert xmr_e2e.load(NAME).fingerprint == xmr_e2e.load(exported).fingerprint  # what was downloaded is there
    with pytest.raises(XmrError, match=r"someone/other: no folder .*copy the model's folder here") as caught:
        xmr_e2e.load("someone/other")
    assert "offline" in str(caught.value).lower()


def test_a_folder_is_never_asked_for_on_the_hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a name in a folder that is here: it is a mistyped path."""
    Path("runs").mkdir()
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    for given in ("runs/mistyped", "./someone/birds/", tmp_path / "none", "birds", "a/b/c", "../someone/birds"):
        with pytest.raises(XmrError, match="not a run folder"):
            xmr_e2e.load(given)


# ---- commands that take a name


def test_commands_take_a_name_where_they_take_a_run(
    hub: Hub,
    run: Path,
    exported: Path,
    photo: Path,
    tiny_shards: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.publish(NAME, exported)
    assert main(["embed", NAME, str(photo), "--out", "x.npy"]) == 0
    assert np.array_equal(np.load("x.npy"), xmr_e2e.load(run).embed_images([photo]))
    assert "name a place with --out" in refused(capsys, "index", NAME, tiny_shards)
    assert "name a place with --index" in refused(capsys, "serve", NAME)
    assert "name a place with --out" in refused(capsys, "eval", NAME, "--shards", tiny_shards)
    assert main(["index", NAME, str(tiny_shards), "--split", "test", "--out", "index"]) == 0
    capsys.readouterr()
    assert main(["search", NAME, "a picture of apple", "--index", "index", "--k", "2"]) == 0
    said = capsys.readouterr().out
    assert "a picture of apple (index)" in said and "contact sheet" not in said
    assert main(["search", NAME, "a picture of apple", "--shards", str(tiny_shards), "--sheet", "hits.png"]) == 0
    assert Path("hits.png").exists()
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)
    assert main(["serve", NAME, "--index", "index", "--port", "0"]) == 0
    assert "The index names someone/birds; if you know that one: xmr serve someone/birds --index" in refused(
        capsys, "serve", "index"
    )
    assert main(["eval", NAME, "--shards", str(tiny_shards), "--out", "page.html"]) == 0
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["hits.png", "index", "page.html", "x.npy"]
    assert set(hub.asked) == {"README.md", "config.json", "model.safetensors", "vocab.txt"}
