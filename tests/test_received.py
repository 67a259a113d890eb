"""The ground of every parser of received files: bounds, declared shapes, plain names and printable text."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from pydantic import ConfigDict
from rich.table import Table

from tests.helpers.fuzzing import EXAMPLES, fuzzed, hostile
from xmr_e2e.console import Console
from xmr_e2e.errors import XmrError
from xmr_e2e.escape import one_line, printable
from xmr_e2e.files import read_json
from xmr_e2e.received import PlainName, inside, is_plain, parse, parse_json, read_bytes


@dataclass(frozen=True)
class Entry:
    __pydantic_config__ = ConfigDict(extra="forbid")

    name: PlainName
    size: int


@dataclass(frozen=True)
class Listing:
    __pydantic_config__ = ConfigDict(extra="forbid")

    entries: tuple[Entry, ...]


SOUND = {"entries": [{"name": "train-00000.tar", "size": 3}, {"name": "bilder_ä.tar", "size": 0}]}


def with_entry(**changes: Any) -> str:
    return json.dumps({"entries": [{**SOUND["entries"][0], **changes}]})


def test_a_sound_document_is_read() -> None:
    document = parse(Listing, json.dumps(SOUND), "list.json")
    assert document == Listing((Entry("train-00000.tar", 3), Entry("bilder_ä.tar", 0)))


@pytest.mark.parametrize(
    "content, reason",
    [
        (with_entry(size="3"), "entries.0.size: Input should be a valid integer, not '3'"),
        (with_entry(size=3.0), "entries.0.size: Input should be a valid integer, not 3.0"),
        (with_entry(size=True), "entries.0.size: Input should be a valid integer, not True"),
        (with_entry(other=1), "entries.0.other: Unexpected keyword argument, not 1"),
        (with_entry(name="../a.tar"), "entries.0.name: should be a plain name (letters, digits, _"),
        ('{"entries": [{"name": "a.tar"}]}', "entries.0.size: Field required"),
        ("[" * 300, "Invalid JSON: recursion limit exceeded"),
        ('{"entries": [{"name": "\\ud800"}]}', "Invalid JSON: "),
        ("{" + " " * 2000, "2,001 bytes; at most 1,000 are read"),
    ],
)
def test_what_is_wrong_is_named_with_its_key(content: str, reason: str) -> None:
    with pytest.raises(XmrError, match=re.escape(f"list.json: {reason}")):
        parse(Listing, content, "list.json", most=1000)


@pytest.mark.parametrize("name", ["a.tar", "train-00000.tar", "_x", "7", "数据.tar", "a" * 200])
def test_plain_names(name: str) -> None:
    assert is_plain(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "-rf", "a/b", "a\\b", "../a", "a..b", "a b", "a\n", "a\0", "a;b", "$(a)", "`a`", "a'b",
     "{}", "*", "a?b", "a%2fb", "~", "a:b", "\u202etar", "\x1b]0;", "a" * 201],
)  # fmt: skip
def test_names_that_could_be_more_than_a_name(name: str) -> None:
    assert not is_plain(name)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "private.tar").write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "own.tar").write_text("theirs")
    (folder / "out.tar").symlink_to(tmp_path / "private.tar")
    (folder / "within.tar").symlink_to("own.tar")
    (folder / "deep.tar").mkdir()
    assert inside(folder, "own.tar") == folder / "own.tar"
    assert inside(folder, "within.tar").read_text() == "theirs"
    assert inside(folder, "none.tar") == folder / "none.tar"
    with pytest.raises(XmrError, match=r"out\.tar is a link that leads out of its folder"):
        inside(folder, "out.tar")
    with pytest.raises(XmrError, match=r"deep\.tar: not a regular file"):
        inside(folder, "deep.tar")


def test_a_file_is_measured_before_it_is_read(tmp_path: Path) -> None:
    large = tmp_path / "large.json"
    with open(large, "wb") as stream:
        stream.truncate(2**40)  # takes no room
    with pytest.raises(XmrError, match=r"large\.json: 1,099,511,627,776 bytes; at most 104,857,600 are read"):
        read_json(large)
    with pytest.raises(XmrError, match="not a regular file"):
        read_bytes(Path("/dev/zero"))


@fuzzed
@given(hostile(SOUND))
def test_any_json_ends_in_a_document_or_an_error(content: bytes) -> None:
    for read in (parse_json, lambda content, where: parse(Listing, content, where)):
        try:
            read(content, "list.json")
        except XmrError as error:
            assert str(error).startswith("list.json") and len(str(error)) < 500
    assert EXAMPLES > 0


def test_control_characters_are_written_out() -> None:
    hostile_text = "a\x1b]0;title\x07b\x9bc\u202ed\ne\tf"
    assert printable(hostile_text) == "a\\x1b]0;title\\x07b\\x9bc\\u202ed\ne\tf"
    assert one_line(hostile_text) == "a\\x1b]0;title\\x07b\\x9bc\\u202ed\\ne\\tf"
    assert printable("Zürich, 数据, naïve, 👍🏽") == "Zürich, 数据, naïve, 👍🏽"


def test_the_console_lets_no_control_character_through() -> None:
    stream = io.StringIO()
    table = Table("class", title="a\x1b[2Jtitle")
    table.add_row("dog\x1b]0;pwned\x07")
    console = Console(file=stream, force_terminal=True, width=80)
    console.print("[bold]plain[/] \x1b[31mred")
    console.print(table)
    written = re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue())  # rich's own colours
    assert "\x1b" not in written and "\x07" not in written
    assert "dog\\x1b]0;p" in written
    assert "\x1b[31m" not in stream.getvalue()


def test_all_that_is_printed_goes_through_that_console() -> None:
    others = re.compile(r"from rich\.console import .*\bConsole\b|rich\.console\.Console\(|from rich import print")
    for path in [*Path("xmr_e2e").rglob("*.py"), *Path("preprocessing").rglob("*.py")]:
        assert not others.search(path.read_text(encoding="utf-8")), path
