"""Sounds that are heard, videos that move and shapes that turn, within the report's one file."""

from __future__ import annotations

import base64
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers.raw_media import write_clip, write_shape, write_sound
from tests.helpers.report_pages import HOSTILE, Page, five_modalities, item, report
from xmr_e2e.reports.examples import Example, Item, Result
from xmr_e2e.reports.media_previews import (
    Preview,
    SoundPreview,
    Unshown,
    preview_shape,
    preview_sound,
    preview_video,
)
from xmr_e2e.reports.report import Findings

if TYPE_CHECKING:
    from tests.helpers.browser import Browser

pytestmark = pytest.mark.slow  # of a fixture that draws media of each kind

pytest_plugins = ["tests.helpers.browser"]

PLAIN_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def media_item(name: str, preview: Preview | None) -> Item:
    return Item(f"key of {name}", f"{name} {HOSTILE}", None, (), (f"class<{HOSTILE}>",), preview)


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Item]:
    folder = tmp_path_factory.mktemp("media")
    previews: dict[str, Preview] = {
        "sound": preview_sound(write_sound(folder / "a.wav", 440, seconds=4.0).read_bytes(), "a"),
        "clip": preview_video(write_clip(folder / "a.mp4", (220, 40, 40)).read_bytes(), "a"),
        "chair": preview_shape(write_shape(folder / "a.off", 2.0).read_bytes(), "a", "off", "z"),
        "broken": Unshown(f"no sound {HOSTILE}"),
    }
    return {name: media_item(name, preview) for name, preview in previews.items()}


def example(direction: str, query: Item, *results: Item) -> Example:
    shown = tuple(Result(each, 0.5, True, paired=False) for each in results)
    return Example(direction, query, shown, None, 0, 0.5, gallery=20)


@pytest.fixture(scope="module")
def html(items: dict[str, Item], tmp_path_factory: pytest.TempPathFactory) -> str:
    examples = [
        example("text_to_audio", item(1), items["sound"], items["broken"]),
        example("audio_to_video", items["sound"], items["clip"]),
        example("shape3d_to_video", items["chair"], items["clip"]),
    ]
    return report(tmp_path_factory.mktemp("report"), metrics=five_modalities(), findings=Findings(examples=examples))


def test_sounds_can_be_played_and_are_in_the_page(html: str, items: dict[str, Item]) -> None:
    page = Page(html)
    assert page.open == []
    players = [attributes for tag, attributes in page.tags if tag == "audio"]
    assert len(players) == 2 and all("controls" in each and "autoplay" not in each for each in players)
    preview = items["sound"].preview
    assert isinstance(preview, SoundPreview) and preview.mp3
    for each in players:
        head, _, content = (each["src"] or "").partition(",")
        assert head == "data:audio/mpeg;base64" and base64.b64decode(content) == preview.mp3
    assert "4.0 s, cut" in page.text


def test_a_page_with_sounds_lets_these_play_and_any_other_page_none(html: str, tmp_path: Path) -> None:
    def policy(page: str) -> str:
        (found,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
        return str(found)

    assert policy(html) == f"{PLAIN_POLICY}; media-src data:"
    assert policy(report(tmp_path)) == PLAIN_POLICY


def test_what_cannot_be_shown_has_its_reason_as_text(html: str) -> None:
    (shown,) = Page(html).of_class["nopicture"]
    assert f"cannot be shown: no sound {HOSTILE}" in " ".join(shown.split())
    assert "<script" not in html


def test_the_page_says_what_is_shown_of_each_medium(html: str, tmp_path: Path) -> None:
    for words in ("first 3 seconds", "8 frames, evenly spaced", "6,000 points"):
        assert words in html
    assert "evenly spaced" not in report(tmp_path, metrics=five_modalities(), findings=Findings())


def test_the_matrix_of_directions_is_in_the_page_and_can_be_saved(html: str) -> None:
    links = {attributes.get("download"): attributes["href"] or "" for tag, attributes in Page(html).tags if tag == "a"}
    assert links["directions.svg"].startswith("data:image/svg+xml;base64,")
    assert base64.b64decode(links["directions.png"].partition(",")[2]).startswith(b"\x89PNG")
    assert links["directions.svg"] in [attributes.get("src") for tag, attributes in Page(html).tags if tag == "img"]


@pytest.mark.slow
def test_a_browser_plays_the_sounds_moves_the_videos_and_turns_the_shapes(
    html: str, tmp_path: Path, browser: Browser
) -> None:
    (tmp_path / "report.html").write_text(html, "utf-8")
    browser.get(f"file://{tmp_path}/report.html")
    browser.execute_script("document.querySelectorAll('details').forEach(each => each.open = true)")
    deadline = time.monotonic() + 20
    durations: list[float | None] = [None]
    while None in durations and time.monotonic() < deadline:
        durations = browser.execute_script(
            "return [...document.querySelectorAll('audio')].map(each => each.duration || null)"
        )
        time.sleep(0.1)
    assert durations == [pytest.approx(3.0, abs=0.2)] * 2
    offsets = (
        "return [...document.querySelectorAll('.reel img')]"
        ".map(each => new DOMMatrix(getComputedStyle(each).transform).e)"
    )
    seen: list[set[float]] = [set() for _ in range(3)]
    for _ in range(60):
        for own, offset in zip(seen, browser.execute_script(offsets), strict=True):
            own.add(round(offset))
        time.sleep(0.1)
    assert all(len(own) >= 4 for own in seen)
    assert browser.complaints() == [] and not browser.is_wider_than_window()
