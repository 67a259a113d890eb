"""Tables of characters within tokenizers: how long they can make a text."""

from __future__ import annotations

import struct

import pytest

from xmr_e2e.data.charsmap import character_tables, longest_replacement
from xmr_e2e.data.text import Vocabulary
from xmr_e2e.data.tokenizer_documents import _check_growth, _growth, tokenizer_from_document
from xmr_e2e.errors import XmrError


def table(*replacements: str) -> bytes:
    trie = b"trie"
    return struct.pack("<I", len(trie)) + trie + b"\0".join(text.encode() for text in replacements) + b"\0"


def field(number: int, kind: int, content: bytes = b"") -> bytes:
    assert len(content) < 128 and number < 16
    return bytes([number << 3 | kind]) + (bytes([len(content)]) if kind == 2 else b"") + content


def test_the_longest_replacement_is_counted_in_characters() -> None:
    assert longest_replacement(table("a", "éèê", "xy")) == 3
    assert longest_replacement(table("")) == 1
    assert longest_replacement(b"") == longest_replacement(b"abc") == 1
    assert longest_replacement(struct.pack("<I", 0) + b"ab\0") == 2


def test_tables_are_found_among_fields_of_every_kind() -> None:
    others = field(1, 0, b"\x96\x01") + field(2, 1, b"12345678") + field(4, 5, b"1234")
    normalizer = others + field(2, 2, b"first") + field(7, 2, b"no table") + field(2, 2, b"second")
    assert list(character_tables(others + field(3, 2, normalizer) + others)) == [b"first", b"second"]
    assert list(character_tables(b"")) == []


@pytest.mark.parametrize(
    ("model", "message"),
    [(field(1, 3), "a field of kind 3"), (b"\x0a", "a number without an end"), (b"\xff" * 11, "without an end")],
)
def test_a_damaged_model_is_refused(model: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(character_tables(model))


@pytest.mark.parametrize(
    ("part", "factor"),
    [
        ({"type": "Replace", "content": "abc", "pattern": {"String": "x"}}, 3),
        ({"type": "Replace", "content": "", "pattern": {"String": "x"}}, 1),
        ({"type": "Replace", "content": "abc", "pattern": {"Regex": ""}}, 4),  # also between all letters
        ({"type": "Replace", "content": "abc", "pattern": {"String": ""}}, 4),
        ({"type": "ByteLevel"}, 2),
        ({"type": "Lowercase"}, 1),
        ({"type": "TemplateProcessing", "single": [{"Sequence": {}}, {"SpecialToken": {}}], "pair": []}, 1),
        ({"type": "TemplateProcessing", "single": [{"Sequence": {}}] * 3, "pair": [1, 2, 3, 4]}, 3),
    ],
)
def test_how_much_longer_a_step_makes_a_text(part: dict[str, object], factor: int) -> None:
    assert _growth(part) == factor


def test_steps_multiply() -> None:
    double = {"type": "Replace", "content": "aa", "pattern": {"String": "a"}}
    _check_growth({"normalizer": {"type": "Sequence", "normalizers": [double] * 6}})
    with pytest.raises(ValueError, match="up to 128 times as long"):
        _check_growth({"normalizer": {"type": "Sequence", "normalizers": [double] * 7}})


class PanicException(BaseException):
    """As Rust's, of which the libraries' own class cannot be imported."""


@pytest.mark.parametrize(("raised", "expected"), [(PanicException, XmrError), (KeyboardInterrupt, KeyboardInterrupt)])
def test_a_tokenizer_that_panics_is_none_and_ctrl_c_is_no_panic(
    raised: type[BaseException], expected: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Vocabulary, text: str) -> None:
        raise raised("at the first word")

    monkeypatch.setattr(Vocabulary, "lookup", fail)
    with pytest.raises(expected, match="at the first word"):
        tokenizer_from_document({"kind": "words", "words": ["sea"]})
