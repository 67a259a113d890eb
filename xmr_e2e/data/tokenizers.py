"""Tokens of texts: words, subwords fitted on the training texts, or a pretrained model's own tokens."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Encoding
from tokenizers import Tokenizer as FastTokenizer

from xmr_e2e.bounds import Count
from xmr_e2e.data.text import PAD, SPECIALS, UNKNOWN, fit_vocabulary
from xmr_e2e.data.vectors import WordVectors, fit_vectors
from xmr_e2e.errors import XmrError
from xmr_e2e.received import first_line, shortened

_THREADS = 8  # a fixed number: the order in which their sums are added up decides the last digits
UNLIMITED = 1_000_000
"""tokens that no text has; transformers says 1e30 where it knows no longest one"""


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
        """As JSON values, for `tokenizer_documents.tokenizer_from_document`."""


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
            if not isinstance(error, Exception) and not is_panic(error):
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


def is_panic(error: BaseException) -> bool:
    """True for what tokenizers raises where its own code, in Rust, has come to an end."""
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
    return PretrainedTokens(text, int(longest) if longest < UNLIMITED else None, empty)
