"""A recipe's help: a first page of what is changed most, and all options behind --help-all."""

from __future__ import annotations

import re

import pytest

from tests.helpers.recipes import RECIPES, recipe
from xmr_e2e.training.help import FIRST, first_clause
from xmr_e2e.training.launch import parse


def shown(name: str, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a recipe prints before it ends with 0."""
    with pytest.raises(SystemExit, match="0"):
        parse(recipe(name).experiment, words)
    return capsys.readouterr().out


def options_in(page: str) -> list[str]:
    return re.findall(r"^(?:│ )?(--[a-z][\w.-]*)", page, flags=re.MULTILINE)


@pytest.mark.parametrize("name", RECIPES)
def test_the_first_page_has_at_most_twelve_options_each_with_its_meaning(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    head, page = shown(name, capsys, "--help").split("as they stand:")
    assert (recipe(name).__doc__ or "").splitlines()[0] in head
    found = options_in(page)
    assert 8 <= len(found) <= 12 and len(set(found)) == len(found)
    assert {"--config", "--data.shards", "--train.epochs", "--optimizer.lr"} <= set(found)
    assert len(re.findall(r"^--[^\n]*\n +\S", page, flags=re.MULTILINE)) == len(found)


def test_the_first_options_are_among_all(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    page = shown("dscmr_wikipedia", capsys, "--help-all")
    everything = set(re.findall(r"--[a-z][\w.-]*", page))
    assert len(everything) > 60 and "--config FILE" in page and "--method.MODALITY.kind NAME" in page
    for option in FIRST:
        if not option.endswith(".kind"):  # chosen before the options that a tower has are read
            assert f"--{option.replace('_', '-')}" in everything


def test_the_first_page_has_the_values_that_a_command_line_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    page = shown("dscmr_wikipedia", capsys, "--method.text.kind", "transformers", "--help")
    assert "--method.text.kind transformers\n" in page
    assert "--method.image.name vgg19\n      Any classifier by its torchvision name" in page


def test_a_narrow_page_without_colors(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    page = shown("semantic_sharing_mscoco", capsys, "-h").split("stand:")[1]
    assert "\x1b[3" not in page and max(len(line) for line in page.replace("\x1b[1m", "").splitlines()) <= 40


def test_a_clause_ends_at_a_semicolon_outside_of_parentheses() -> None:
    assert first_clause("one (two; three); four; five") == "one (two; three)"
    assert first_clause("one") == "one"
