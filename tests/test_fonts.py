"""Texts of any script in a font of this machine that has them, and what is said where none has."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib import ft2font
from PIL import Image

from xmr_e2e import fonts
from xmr_e2e.errors import XmrError
from xmr_e2e.fonts import describe_missing, drawn_characters, font_for, packages_for
from xmr_e2e.shards.sheet import Tile, write_sheet

RARE = "\u1bc4"  # Batak, which no common font has


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with DejaVu Sans alone."""
    monkeypatch.setattr(fonts, "_installed", lambda bold: ())
    font_for.cache_clear()
    yield
    font_for.cache_clear()


def test_what_dejavu_has_is_drawn_by_it(no_fonts: None) -> None:
    for text in ("a dog", "Zoë ← 5 €", "قطة", "кот", "", "two\nlines\t", "a\u200bb\ufe0f"):
        font = font_for(text)
        assert font.path.name == "DejaVuSans.ttf" and not font.missing
    assert font_for("a dog", bold=True).path.name == "DejaVuSans-Bold.ttf"


def test_the_font_that_has_the_most_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    has = {"one.ttf": "犬", "two.ttc": "犬猫鳥", "three.ttf": "犬猫鳥馬"}
    monkeypatch.setattr(fonts, "_installed", lambda bold: tuple(map(Path, has)))
    monkeypatch.setattr(fonts, "_characters", lambda path: sorted(map(ord, has.get(path.name, "abc"))))
    font_for.cache_clear()
    assert [font_for(text).path.name for text in ("abc", "犬", "犬 猫", "馬鳥", "馬人")] == [
        "DejaVuSans.ttf", "one.ttf", "two.ttc", "three.ttf", "three.ttf",
    ]  # fmt: skip
    assert font_for("馬人").missing == {"人"}
    font_for.cache_clear()


def test_files_that_are_no_fonts_have_no_characters(tmp_path: Path) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"nothing")
    assert not len(fonts._characters(tmp_path / "broken.ttf"))


def test_each_font_is_opened_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However many there are, and however many texts have a character that none of them has."""
    opened: list[str] = []
    dejavu = ft2font.FT2Font(str(fonts._dejavu(bold=False)))

    def open_dejavu(path: str) -> ft2font.FT2Font:
        opened.append(path)
        return dejavu

    monkeypatch.setattr(ft2font, "FT2Font", open_dejavu)
    paths = tuple(tmp_path / f"{number}.ttf" for number in range(200))
    monkeypatch.setattr(fonts, "_installed", lambda bold: paths)
    for text in ("犬", "猫", "鳥"):
        assert font_for(f"{text}{RARE}").missing == {text, RARE}
    assert len(opened) == len(set(opened)) <= len(paths) + 1


def test_one_line_says_which_package_has_the_characters(no_fonts: None) -> None:
    assert drawn_characters("犬 \n\u200d\ufe0f\ue000a") == {"犬", "a"}
    assert packages_for("犬と猫") == ["fonts-noto-cjk"]
    assert packages_for("हि") == ["fonts-noto-core"]
    assert packages_for("🎉") == ["fonts-symbola"]
    words = describe_missing(font_for("犬 हि").missing)
    assert words == "no installed font has ह ि 犬 (Debian: apt install fonts-noto-cjk fonts-noto-core)"
    assert describe_missing(frozenset(map(chr, range(0x4E00, 0x4F00)))).count("一") == 1


def test_a_sheet_whose_characters_no_font_has_is_a_page_too(
    no_fonts: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = Image.new("RGB", (20, 10), "red")
    plain, foreign = Tile(image, "a", "b"), Tile("no <picture>", f"犬 {RARE}", "one\n<two>", mark="#2e7d32")
    with caplog.at_level(logging.WARNING):
        write_sheet(tmp_path / "plain.png", [plain])
        assert caplog.messages == [] and [path.name for path in tmp_path.iterdir()] == ["plain.png"]
        write_sheet(tmp_path / "sheet.png", [plain, foreign], heading="all & more")
    (message,) = caplog.messages
    assert "no installed font has" in message and "fonts-noto-cjk" in message
    assert message.endswith(f"boxes in {tmp_path / 'sheet.png'}; {tmp_path / 'sheet.html'} shows all")
    page = (tmp_path / "sheet.html").read_text()
    for words in (f"犬 {RARE}", "&lt;two&gt;", "no &lt;picture&gt;", "all &amp; more", "data:image/jpeg;base64,"):
        assert words in page
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 2 * 240


def test_a_sheet_too_large_for_its_kind_is_named(tmp_path: Path) -> None:
    tiles = [Tile("nothing", "", "")] * 80
    with pytest.raises(XmrError, match=r"sheet\.webp: 280 x \d+ pixels cannot be written as \.webp"):
        write_sheet(tmp_path / "sheet.webp", tiles, columns=1)
    assert not list(tmp_path.iterdir())
