"""The kind of a tower on the command line: what is offered, what is refused, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tests.helpers.classes import is_of_the_package
from xmr_e2e.bounds import Width
from xmr_e2e.configuration import to_document
from xmr_e2e.data.config import Data
from xmr_e2e.data.tokenizers import Tokenization
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.methods.mars import Mars
from xmr_e2e.methods.semantic_sharing import SemanticSharing
from xmr_e2e.runs.experiment import Experiment, Optimizer
from xmr_e2e.runs.run import Run
from xmr_e2e.towers.base import DatasetInfo, SequenceTower, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.kinds import tower_kinds
from xmr_e2e.towers.pretrained import PretrainedText, PretrainedVision
from xmr_e2e.towers.regions import StoredRegions
from xmr_e2e.towers.sound import PretrainedSound, SoundTower
from xmr_e2e.towers.text import BiGru, TextCnn
from xmr_e2e.towers.vector import VectorTower
from xmr_e2e.training.launch import parse


@dataclass(frozen=True)
class Sketch(TowerConfig):
    """Lines alone. As a user's own module has it, without a kind."""

    input_kind = "pixels"

    lines: Width
    """how many"""
    shade: Width = 3

    def build(self, dataset: DatasetInfo, modality: str) -> nn.Module:
        raise NotImplementedError


def recipe() -> Experiment:
    """A recipe."""
    return Experiment(
        "some", Data(Path("shards")), Dscmr(image=ImageTower(weights="none"), text=TextCnn()), Optimizer()
    )


def regions_recipe() -> Experiment:
    """A recipe."""
    return replace(recipe(), method=SemanticSharing())


def many_recipe() -> Experiment:
    """A recipe."""
    return replace(recipe(), method=Mars(image=VectorTower(), text=VectorTower()))


def method(*words: str, recipe: Any = recipe) -> Any:
    return parse(recipe, list(words)).method


@pytest.mark.parametrize("joined", [True, False])
def test_a_tower_of_the_kind_has_its_own_options(joined: bool) -> None:
    words = ["--method.text.kind=bigru"] if joined else ["--method.text.kind", "bigru"]
    found = method(*words, "--method.text.hidden", "7", "--method.image.name", "vgg19")
    assert found.text == BiGru(hidden=7)
    assert found.image == ImageTower("vgg19", weights="none")


def test_the_last_kind_counts_and_the_recipes_own_keeps_its_options() -> None:
    found = method("--method.text.kind", "bigru", "--method.image.kind", "torchvision", "--method.text.kind", "cnn")
    assert found == recipe().method


def own(kinds: dict[str, type[TowerConfig]]) -> dict[str, type[TowerConfig]]:
    """Of the package."""
    return {kind: cls for kind, cls in kinds.items() if is_of_the_package(cls)}


def test_a_field_is_offered_what_fits_it() -> None:
    plain, regions = tower_kinds(TowerConfig, "image"), own(tower_kinds(SequenceTower, "image"))
    assert regions.keys() == {"grid", "faster_rcnn", "stored"}
    assert {"torchvision", "transformers", "vector", "Sketch"} <= plain.keys() and not {"grid", "bigru"} & plain.keys()
    hinted = method("--method.image.kind", "stored", "--method.text.kind", "bigru_words", recipe=regions_recipe)
    assert hinted.image == StoredRegions()
    assert own(tower_kinds(ImageTower, "image")) == {"torchvision": ImageTower}
    sounds = {"spectrogram": SoundTower, "transformers": PretrainedSound, "vector": VectorTower}
    assert own(tower_kinds(TowerConfig | None, "audio")) == sounds
    with pytest.raises(XmrError, match=r"--method.image.kind torchvision: no such kind; .*grid: .*; faster_rcnn: "):
        method("--method.image.kind", "torchvision", recipe=regions_recipe)


def test_a_modality_without_a_tower_gets_one() -> None:
    assert method(recipe=many_recipe).audio is None
    found = method("--method.audio.kind", "vector", "--method.audio.scale", "unit", recipe=many_recipe)
    assert found.audio == VectorTower(scale="unit")
    with pytest.raises(XmrError, match=r"--method.audio.kind: SemanticSharing has no audio; it has image, text"):
        method("--method.audio.kind", "vector", recipe=regions_recipe)


def test_a_modality_is_left_out() -> None:
    found = method("--method.image.kind", "none", "--method.audio.kind", "vector")
    assert list(found.towers) == ["text", "audio"]
    with pytest.raises(XmrError, match=r"--method.image.kind none: no such kind"):
        method("--method.image.kind", "none", recipe=regions_recipe)


def test_an_unknown_kind_is_refused_with_the_list_and_the_closest_one() -> None:
    with pytest.raises(
        XmrError, match=r"--method.text.kind bigur: no such kind; did you mean bigru\? There are .*cnn: "
    ):
        method("--method.text.kind", "bigur")
    with pytest.raises(XmrError, match=r"--method.text.kind qqq: no such kind; There are "):
        method("--method.text.kind=qqq")
    for words in (["--method.text.kind"], ["--method.text.kind", "--method.text.hidden", "3"], ["--method.text.kind="]):
        with pytest.raises(XmrError, match=r"--method.text.kind"):
            method(*words)


def test_an_option_that_a_kind_needs_is_missed_by_its_name() -> None:
    for kind, option in (("transformers", "name"), ("Sketch", "lines")):
        with pytest.raises(XmrError, match=rf"--method.image.kind {kind} needs --method.image.{option} too"):
            method("--method.image.kind", kind)
    assert method("--method.image.kind", "Sketch", "--method.image.lines", "4").image == Sketch(4)
    with pytest.raises(XmrError, match=r"--method.image.lines must be at least 1, not 0"):
        method("--method.image.kind", "Sketch", "--method.image.lines=0")


def test_help_lists_kinds_and_the_options_of_the_chosen_one(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--method.image.kind", "Sketch"]):
        with pytest.raises(SystemExit, match="0"):
            parse(recipe, [*words, "--help-all"])
        printed = capsys.readouterr().out
        for line in (
            "image torchvision",
            "image Sketch",
            "text bigru",
            "text cnn (default): word vectors, convolutions",
        ):
            assert line in printed
        assert ("--method.image.lines" in printed) == bool(words)
        assert ("--method.image.name" in printed) != bool(words)


# ---- tokens follow the text tower


def test_tokens_follow_a_pretrained_text_tower(tmp_path: Path) -> None:
    words = ["--method.text.kind", "transformers", "--method.text.name", "some/model", "--method.text.revision", "abc"]
    experiment = parse(recipe, words)
    assert experiment.method.text == PretrainedText("some/model", revision="abc")
    assert experiment.data.tokens == Tokenization("transformers", name="some/model", revision="abc")
    # As it is recorded, so it goes on, whether the words are repeated or not.
    Run(tmp_path).start(experiment, {})
    resume = ["--train.resume", str(tmp_path)]
    for again in (resume, [*words, *resume], [*resume, "--method.text.projected"]):
        found = parse(recipe, again)
        assert to_document(replace(found, train=experiment.train)) == to_document(experiment)


def test_tokens_that_the_command_line_names_stay() -> None:
    words = ["--method.text.kind", "transformers", "--method.text.name", "some/model"]
    assert parse(recipe, [*words, "--data.tokens.kind", "words"]).data.tokens == Tokenization()
    other = parse(recipe, [*words, "--data.tokens.kind", "transformers", "--data.tokens.name", "other/model"])
    assert other.data.tokens.name == "other/model"


def test_tokens_of_a_recipe_stay_unless_another_text_tower_is_named() -> None:
    def pretrained() -> Experiment:
        """A recipe."""
        data = Data(Path("shards"), tokens=Tokenization("transformers", name="a/tokenizer"))
        return replace(
            recipe(), data=data, method=Dscmr(image=PretrainedVision("a/model"), text=PretrainedText("a/model"))
        )

    assert parse(pretrained, []).data.tokens.name == "a/tokenizer"
    assert parse(pretrained, ["--method.text.name", "b/model"]).data.tokens.name == "b/model"
    assert (
        parse(recipe, ["--method.image.kind", "transformers", "--method.image.name", "b"]).data.tokens == Tokenization()
    )
