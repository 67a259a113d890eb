"""Tokens of texts: words, subwords fitted on the training texts, or a pretrained model's own tokens."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Encoding
from tokenizers import Tokenizer as FastTokenizer

from xmr_e2e.bounds import Count
from xmr_e2e.data.charsmap import character_tables, longest_replacement
from xmr_e2e.data.text import PAD, SPECIALS, UNKNOWN, Vocabulary, fit_vocabulary
from xmr_e2e.data.vectors import WordVectors, fit_vectors
from xmr_e2e.errors import XmrError
from xmr_e2e.received import first_line, parse_json, shortened

_THREADS = 8  # a fixed number: the order in which their sums are added up decides the last digits
_UNLIMITED = 1_000_000  # transformers says 1e30 where it knows no longest text
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


@dataclass(frozen=True)
class Tokenization:
    """The kind of tokens that texts are cut into."""

    kind: Literal["words", "sentencepiece", "transformers"] = "words"
    """words; sentencepiece: subwords of a unigram model (Kudo, 2018) fitted on the training split; transformers: the
    tokens of a pretrained model, for its text tower"""
    size: Count = 8000
    """of sentencepiece: number of subwords, or fewer where the training texts do not yield so many"""
    name: str = ""
    """of transformers: the model's name on the Hugging Face hub, or a folder with its tokeniser"""
    revision: str = ""
    """of a tokeniser of the hub: a commit (or branch, or tag) of its model; the newest by default"""


class Tokenizer(Protocol):
    """From a text to token ids; 0 is what shorter texts of a batch are filled up with."""

    def __len__(self) -> int:
        """Number of token ids."""

    def encode(self, text: str, *, max_tokens: int) -> list[int]:
        """Ids of at most `max_tokens` tokens (but all that the model demands around a text), at least one."""

    def pieces(self, text: str) -> list[str]:
        """The tokens as they are written, all of them."""

    def lookup(self, text: str) -> list[tuple[str, bool]]:
        """The parts of the text, without special tokens, and whether each is known, or stands for nothing."""

    def to_document(self) -> dict[str, Any]:
        """As JSON values, for `tokenizer_from_document`."""


@dataclass(frozen=True)
class Subwords:
    """A sentencepiece model. Letters are lower-cased and normalised by it; id 1 is unknown."""

    model: bytes
    """as the library serialises it"""

    @cached_property
    def _processor(self) -> SentencePieceProcessor:
        return SentencePieceProcessor(model_proto=self.model)

    def __len__(self) -> int:
        return int(self._processor.get_piece_size())

    def encode(self, text: str, *, max_tokens: int) -> list[int]:
        return self._processor.encode(text)[:max_tokens] or [UNKNOWN]

    def pieces(self, text: str) -> list[str]:
        return list(self._processor.encode(text, out_type=str))

    def lookup(self, text: str) -> list[tuple[str, bool]]:
        pieces = zip(self.pieces(text), self._processor.encode(text))
        return [(piece.strip("▁"), number != UNKNOWN) for piece, number in pieces if piece.strip("▁")]

    @property
    def known(self) -> list[str]:
        """The pieces in order of id, without the special ones."""
        return [self._processor.id_to_piece(number) for number in range(len(SPECIALS), len(self))]

    def to_document(self) -> dict[str, Any]:
        return {"kind": "sentencepiece", "model": base64.b64encode(self.model).decode("ascii")}


@dataclass(frozen=True)
class PretrainedTokens:
    """The tokeniser of a pretrained model, with the special tokens that the model expects."""

    tokenizer: str
    """the text of its tokenizer.json"""
    longest: int | None
    """tokens that the model reads, where that is known"""
    empty: int
    """id that stands for a text without any token"""

    @cached_property
    def _tokenizer(self) -> FastTokenizer:
        tokenizer = FastTokenizer.from_str(self.tokenizer)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str, *, max_tokens: int) -> list[int]:
        specials = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        longest = max(specials, min(max_tokens, self.longest or max_tokens))
        self._tokenizer.enable_truncation(longest)
        return list(self._encode(text).ids) or [self.empty]

    def pieces(self, text: str) -> list[str]:
        self._tokenizer.no_truncation()
        return list(self._encode(text).tokens)

    def lookup(self, text: str) -> list[tuple[str, bool]]:
        self._tokenizer.no_truncation()
        encoded = self._encode(text, add_special_tokens=False)
        return [
            (text[start:end], number != self._unknown) for number, (start, end) in zip(encoded.ids, encoded.offsets)
        ]

    def _encode(self, text: str, *, add_special_tokens: bool = True) -> Encoding:
        """Raises XmrError where the tokeniser cannot do it: one that was made by hand may fail at some texts alone."""
        try:
            return self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        except BaseException as error:  # a PanicException of Rust's is no Exception
            if not isinstance(error, Exception) and not _is_panic(error):
                raise
            raise XmrError(f"the model's tokeniser cannot cut up {shortened(text)}: {first_line(error)}") from error

    @cached_property
    def _unknown(self) -> int | None:
        """The id that stands for what the model does not know; None where there is no such thing, as with bytes."""
        model = json.loads(self.tokenizer)["model"]
        return model["unk_id"] if "unk_id" in model else self._tokenizer.token_to_id(model.get("unk_token") or "")

    def to_document(self) -> dict[str, Any]:
        document = {"tokenizer": self.tokenizer, "longest": self.longest, "empty": self.empty}
        return {"kind": "transformers", **document}


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
        if not isinstance(error, Exception) and not _is_panic(error):
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
    if longest is not None and not 0 < longest <= _UNLIMITED:
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


def _is_panic(error: BaseException) -> bool:
    return type(error).__name__ == "PanicException"  # a class that cannot be imported


def fit_tokenizer(
    texts: Sequence[str], tokenization: Tokenization, words: WordVectors
) -> tuple[Tokenizer, NDArray[np.float32]]:
    """A tokeniser and the vectors of its tokens, (len(tokeniser), dim), row 0 zero; dim is 0 for pretrained tokens.

    texts: of the training split.

    Raises:
        XmrError: texts or options from which no tokeniser can be had.
    """
    match tokenization.kind:
        case "words":
            vocabulary = fit_vocabulary(texts, min_count=words.min_count)
            return vocabulary, fit_vectors(vocabulary.words, [vocabulary.pieces(text) for text in texts], words)
        case "sentencepiece":
            if words.file:
                raise XmrError(
                    "--data.words.file holds vectors of words, and sentencepiece cuts texts into subwords: leave the "
                    "file away, or set --data.tokens.kind words"
                )
            subwords = _fit_subwords(texts, tokenization.size)
            every = replace(words, min_count=1)  # the model has chosen its pieces by how often they occur
            return subwords, fit_vectors(subwords.known, [subwords.pieces(text) for text in texts], every)
        case "transformers":
            tokenizer = load_pretrained_tokens(tokenization.name, tokenization.revision)
            return tokenizer, np.zeros((len(tokenizer), 0), np.float32)


def _fit_subwords(texts: Sequence[str], size: int) -> Subwords:
    if not any(map(str.strip, texts)):  # which ends the process with earlier versions of sentencepiece
        raise XmrError(f"sentencepiece cannot be fitted on the {len(texts):,} training texts: they are blank")
    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="unigram",
            vocab_size=size,
            hard_vocab_limit=False,
            normalization_rule_name="nmt_nfkc_cf",  # with case folding: words are lower-cased too
            # Longer ones are left out; below 10, it is refused.
            max_sentence_length=max(10, 1 + max((len(text.encode()) for text in texts), default=0)),
            pad_id=PAD,
            unk_id=UNKNOWN,
            bos_id=-1,
            eos_id=-1,
            num_threads=_THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise XmrError(
            f"sentencepiece cannot be fitted on the {len(texts):,} training texts: {_in_our_words(str(error), size)}"
        ) from error
    return Subwords(model.getvalue())


def _in_our_words(complaint: str, size: int) -> str:
    """sentencepiece's complaints, which name its own options and source files, by ours."""
    if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", complaint):
        return (
            f"--data.tokens.size {size} is too small: they have so many different letters and signs that at least "
            f"{found[1]} are needed, and more to have subwords of several letters"
        )
    if "all_chars_count" in complaint or "sentences_.empty()" in complaint:
        return "there is no letter in them"
    return f"--data.tokens.size {size}: {complaint}"


def load_pretrained_tokens(name: str, revision: str = "") -> PretrainedTokens:
    """The tokeniser of a model of the Hugging Face hub, or of a folder; without code that may lie beside it.

    Raises:
        XmrError: no name, or nothing to be had under it.
    """
    from transformers import AutoTokenizer  # seconds to import

    if not name:
        raise XmrError("--data.tokens.kind transformers needs --data.tokens.name: a model's name or a folder")
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision or "main", trust_remote_code=False)
        text = tokenizer.backend_tokenizer.to_str()
    except Exception as error:  # of a damaged tokenizer.json the library says no more than Exception
        raise XmrError(
            f"--data.tokens.name {name}: the tokeniser cannot be had ({error}). Name a model of the Hugging Face hub "
            "that can be reached or was downloaded before, or a folder with its tokenizer.json; or do without it "
            "(--data.tokens.kind words)"
        ) from error
    longest = tokenizer.model_max_length
    known = (tokenizer.unk_token_id, tokenizer.pad_token_id)
    empty = next((number for number in known if number is not None), 0)
    return PretrainedTokens(text, int(longest) if longest < _UNLIMITED else None, empty)
