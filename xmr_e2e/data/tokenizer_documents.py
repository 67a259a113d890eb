"""Tokenizers as JSON documents that anybody may have changed: read, bounded and tried before they are used."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from xmr_e2e.data.charsmap import character_tables, longest_replacement
from xmr_e2e.data.text import Vocabulary
from xmr_e2e.data.tokenizers import UNLIMITED, PretrainedTokens, Subwords, Tokenizer, is_panic
from xmr_e2e.errors import XmrError
from xmr_e2e.received import first_line, parse_json, shortened

LARGEST_MODEL = 64 * 2**20
"""bytes of a sentencepiece model or tokenizer.json: that of 256,000 pieces has 4 MB, of the largest ones 30"""
_MOST_TOKENS = 2**24
_LONGEST_WORD = 10_000
"""letters: words are whatever stands between blanks in somebody's texts"""
_MOST_GROWTH = 64
"""times that a tokeniser may make a text as long; the standard form of characters, NFKC, makes one 18 times as long"""
_MOST_PARTS = 100
"""steps of a tokenizer.json, and what it puts around a text: a dozen are usual"""
_ADDED = ("prepend", "continuing_subword_prefix", "end_of_word_suffix")
"""keys of what is added to a text, or to each part of a word"""
_TRIAL = "A text, to try ten of its words. Ça va — 数据? " * 2
"""for a tokeniser that nobody has tried here"""


def tokenizer_from_document(document: Any, where: str = "tokeniser") -> Tokenizer:
    """The tokeniser whose `to_document` this is, whoever has changed it since; it has been tried.

    Args:
        where: the file, and the key in it, for errors.

    Raises:
        XmrError: a kind that is not known here, or something that is no tokeniser of its kind.
    """
    if not isinstance(document, Mapping) or "kind" not in document:
        raise XmrError(f"{where}: should be an object with a kind, not {shortened(document)}")
    kind = document["kind"]
    if not isinstance(kind, str) or kind not in _DOCUMENTS:
        raise XmrError(f"{where}: {shortened(kind)} is no kind of tokeniser; the file was written by another version")
    read, keys = _DOCUMENTS[kind]
    for key, (declared, words) in keys.items():
        if not isinstance(document.get(key, ...), declared) or isinstance(document[key], bool):
            raise XmrError(f"{where}: {key}: should be {words}, not {shortened(document.get(key))}")
    try:
        tokenizer: Tokenizer = read(document)
        size = len(tokenizer)
        if not 0 < size <= _MOST_TOKENS:
            raise ValueError(f"it has {size:,} tokens, and at most {_MOST_TOKENS:,} are possible")
        tokenizer.lookup(_TRIAL)
        if not all(0 <= number < 2**31 for number in tokenizer.encode(_TRIAL, max_tokens=100)):
            raise ValueError("a token has a number beyond any table")
    except BaseException as error:  # a PanicException of Rust's is no Exception
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise XmrError(f"{where}: no {kind} tokeniser: {first_line(error)}") from error
    return tokenizer


def _read_words(document: Mapping[str, Any]) -> Vocabulary:
    words = document["words"]
    for place, word in enumerate(words):
        if not isinstance(word, str) or not 0 < len(word) <= _LONGEST_WORD:
            raise ValueError(f"word {place} should be text of at most {_LONGEST_WORD:,} letters, not {shortened(word)}")
    if len(set(words)) < len(words):
        raise ValueError("a word is there twice")
    return Vocabulary(tuple(words))


def _read_subwords(document: Mapping[str, Any]) -> Subwords:
    model = base64.b64decode(document["model"], validate=True)
    if not 0 < len(model) <= LARGEST_MODEL:
        raise ValueError(f"its model has {len(model):,} bytes, and at most {LARGEST_MODEL:,} are read")
    if (growth := max(map(longest_replacement, character_tables(model)), default=1)) > _MOST_GROWTH:
        raise ValueError(f"its table of characters makes a text up to {growth:,} times as long")
    return Subwords(model)


def _read_pretrained(document: Mapping[str, Any]) -> PretrainedTokens:
    text, longest, empty = document["tokenizer"], document["longest"], document["empty"]
    _check_growth(parse_json(text, "its text", most=LARGEST_MODEL))
    if longest is not None and not 0 < longest <= UNLIMITED:
        raise ValueError(f"longest: {longest} is no number of tokens")
    tokenizer = PretrainedTokens(text, longest, empty)
    if not 0 <= empty <= _MOST_TOKENS:
        raise ValueError(f"empty: {empty} is no token")
    return tokenizer


_DOCUMENTS: Mapping[str, tuple[Callable[[Mapping[str, Any]], Tokenizer], Mapping[str, tuple[Any, str]]]] = {
    "words": (_read_words, {"words": (list, "a list")}),
    "sentencepiece": (_read_subwords, {"model": (str, "text")}),
    "transformers": (
        _read_pretrained,
        {
            "tokenizer": (str, "text"),
            "longest": (int | None, "a whole number or null"),
            "empty": (int, "a whole number"),
        },
    ),
}
"""kind -> its reader, and what its keys have to be"""


def _check_growth(document: Any) -> None:
    """Raise ValueError for a tokenizer.json that would make a text many times as long: thirty steps, each of which
    doubles it, would fill the memory."""
    parts = [part for part in _parts(document) if isinstance(part.get("type"), str)]
    if len(parts) > _MOST_PARTS:
        raise ValueError(f"it has {len(parts):,} steps; at most {_MOST_PARTS} are possible")
    growth = math.prod(map(_growth, parts))
    added = sum(len(value) for part in parts for key in _ADDED if isinstance(value := part.get(key), str))
    if growth > _MOST_GROWTH or added > _MOST_GROWTH:
        raise ValueError(f"it makes a text up to {growth:,} times as long, and adds {added:,} letters to its words")


def _growth(part: dict[str, Any]) -> int:
    """The factor by which a step of a tokeniser can lengthen a text; without what it adds once, or to each word."""
    match part:
        case {"type": "Replace", "content": str(content), "pattern": {"String": str(found)}} if found:
            return max(1, len(content))
        case {"type": "Replace", "content": str(content)}:  # a pattern that may be found between all letters
            return 1 + len(content)
        case {"type": "ByteLevel"}:  # a letter for each byte
            return 2
        case {"type": "Precompiled", "precompiled_charsmap": str(table)}:
            return longest_replacement(base64.b64decode(table))
        case {"type": "TemplateProcessing"}:
            single, pair, specials = (part.get(key) or () for key in ("single", "pair", "special_tokens"))
            ids = [special.get("ids") or () for special in specials.values()] if isinstance(specials, dict) else []
            if max(len(single), len(pair), len(specials), *map(len, ids)) > _MOST_PARTS:
                raise ValueError(f"more than {_MOST_PARTS} parts in what it puts around a text")
            return max(1, len(single)) if sum("Sequence" in piece for piece in single) > 1 else 1
    return 1


def _parts(document: Any) -> Iterator[dict[str, Any]]:
    """All objects within a document, of its vocabulary none, nor of what makes texts from tokens."""
    if isinstance(document, dict):
        yield document
        for key, value in document.items():
            yield from _parts(value) if key not in ("vocab", "merges", "added_tokens", "decoder") else ()
    elif isinstance(document, list):
        for value in document:
            yield from _parts(value)
