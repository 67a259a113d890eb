"""`evaluation/*.json`: which of them are whole, the first versions' form, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.result import EvaluationResult, read_result

WHOLE: dict[str, Any] = {
    "scores": {"mAP@all": 0.5},
    "queries": 4,
    "gallery": 5,
    "curve": {"recall": [0.0, 1.0], "precision": [0.9, 0.4]},
    "scope": {"k": [1, 2, 5], "precision": [0.9, 0.6, 0.4]},
}
PROTOCOL = {"name": "clean", "gallery": "the test split", "selected_on": "val", "differences": []}


def written(folder: Path, **changes: Any) -> Path:
    """A file of figures; a change to None leaves the key out."""
    side = {"figures": {"image_to_text": WHOLE, "text_to_image": WHOLE}, "average": {"mAP@all": 0.5}}
    document = {
        "dataset": "tiny",
        "split": "test",
        "selection": "best",
        "model": side,
        "random": side,
        "protocol": PROTOCOL,
        "definitions": {"mAP@all": "the mean"},
    }
    document |= changes
    path = folder / "test.json"
    path.write_text(json.dumps({name: value for name, value in document.items() if value is not None}))
    return path


def read(folder: Path, **changes: Any) -> EvaluationResult:
    return read_result(written(folder, **changes))


def test_a_file_of_this_version_is_complete(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert found.is_complete
    assert found.metrics.model.directions["image_to_text"].scores == {"mAP@all": 0.5}
    assert found.metrics.model.average == {"mAP@all": 0.5} and found.classes == () and found.leaks == ()


@pytest.mark.parametrize("missing", ["protocol", "definitions"])
def test_a_file_without_what_came_later_is_not_complete(tmp_path: Path, missing: str) -> None:
    assert not read(tmp_path, **{missing: None}).is_complete


@pytest.mark.parametrize("missing", ["gallery", "curve", "scope"])
@pytest.mark.parametrize("side", ["model", "random"])
def test_a_direction_without_what_a_page_shows_is_not_complete(tmp_path: Path, side: str, missing: str) -> None:
    less = {name: value for name, value in WHOLE.items() if name != missing}
    figures = {"image_to_text": WHOLE, "text_to_image": less}
    assert not read(tmp_path, **{side: {"figures": figures, "average": {}}}).is_complete


def test_random_rankings_of_other_directions_are_not_complete(tmp_path: Path) -> None:
    assert not read(tmp_path, random={"figures": {"image_to_text": WHOLE}, "average": {}}).is_complete


def test_the_first_versions_form_is_read(tmp_path: Path) -> None:
    old = {"image_to_text": {"scores": {"mAP@all": 0.25}, "queries": 4}, "average": {"mAP@all": 0.25}}
    found = read(tmp_path, model=old, random=old)
    assert list(found.metrics.model.directions) == ["image_to_text"] and found.metrics.random.average == {
        "mAP@all": 0.25
    }
    assert found.metrics.model.directions["image_to_text"].scores == {"mAP@all": 0.25} and not found.is_complete


@pytest.mark.parametrize("curve", ["curve", "scope"])
@pytest.mark.parametrize("side", ["model", "random"])
def test_curves_of_uneven_length_are_refused(tmp_path: Path, side: str, curve: str) -> None:
    uneven = WHOLE | {curve: WHOLE[curve] | {"precision": [0.5]}}
    with pytest.raises(XmrError, match="image_to_text: a curve has other numbers of places than of values"):
        read(tmp_path, **{side: {"figures": {"image_to_text": uneven}, "average": {}}})


def test_a_file_of_something_else_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(XmrError, match=r"model\.figures has no direction"):
        read(tmp_path, model={"figures": {}, "average": {}})
    with pytest.raises(XmrError, match=r"test\.json: not what `xmr eval` writes: .*split"):
        read(tmp_path, split="all")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(XmrError, match=r"list\.json holds no JSON object"):
        read_result(tmp_path / "list.json")
