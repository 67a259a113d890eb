"""What texts are cut into: words, subwords fitted on the training texts, or a pretrained model's own tokens."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Tokenizer

from xmr_e2e.bounds import Count
from xmr_e2e.data.text import PAD, SPECIALS, UNKNOWN, Vocabulary, build_vocabulary
from xmr_e2e.data.vectors import WordVectors, fit_vectors
from xmr_e2e.errors import XmrError

_THREADS = 8  # a fixed number: the order in which their sums are added up decides the last digits
_UNLIMITED = 1_000_000  # transformers says 1e30 where it knows no longest text


@dataclass(frozen=True)
class Tokenisation:
    """What texts are cut into."""

    kind: Literal["words", "sentencepiece", "transformers"] = "words"
    """words; sentencepiece: subwords of a unigram model (Kudo, 2018) fitted on the training split; transformers: the
    tokens of a pretrained model, for its text tower"""
    size: Count = 8000
    """of sentencepiece: number of subwords, or fewer where the training texts do not yield so many"""
    name: str = ""
    """of transformers: the model's name on the Hugging Face hub, or a folder with its tokeniser"""


class Tokeniser(Protocol):
    """From a text to token ids; 0 is what shorter texts of a batch are filled up with."""

    def __len__(self) -> int:
        """Number of token ids."""

    def encode(self, text: str, *, max_tokens: int) -> list[int]:
        """Ids of at most `max_tokens` tokens (but all that the model demands around a text), at least one."""

    def pieces(self, text: str) -> list[str]:
        """The tokens as they are written, all of them."""

    def to_document(self) -> dict[str, Any]:
        """As JSON values, for `tokeniser_from_document`."""


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
    def _tokenizer(self) -> Tokenizer:
        tokenizer = Tokenizer.from_str(self.tokenizer)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str, *, max_tokens: int) -> list[int]:
        specials = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        longest = max(specials, min(max_tokens, self.longest or max_tokens))
        self._tokenizer.enable_truncation(longest)
        return list(self._tokenizer.encode(text).ids) or [self.empty]

    def pieces(self, text: str) -> list[str]:
        self._tokenizer.no_truncation()
        return list(self._tokenizer.encode(text).tokens)

    def to_document(self) -> dict[str, Any]:
        document = {"tokenizer": self.tokenizer, "longest": self.longest, "empty": self.empty}
        return {"kind": "transformers", **document}


def tokeniser_from_document(document: Mapping[str, Any]) -> Tokeniser:
    """The tokeniser whose `to_document` this is.

    Raises:
        XmrError: a kind that is not known here.
    """
    match document["kind"]:
        case "words":
            return Vocabulary(tuple(document["words"]))
        case "sentencepiece":
            return Subwords(base64.b64decode(document["model"]))
        case "transformers":
            return PretrainedTokens(document["tokenizer"], document["longest"], document["empty"])
        case kind:
            raise XmrError(f"{kind!r} is no kind of tokeniser; the file was written by another version")


def fit_tokeniser(
    texts: Sequence[str], tokenisation: Tokenisation, words: WordVectors
) -> tuple[Tokeniser, NDArray[np.float32]]:
    """A tokeniser and the vectors of its tokens, (len(tokeniser), dim), row 0 zero; dim is 0 for pretrained tokens.

    texts: of the training split.

    Raises:
        XmrError: texts or options from which no tokeniser can be had.
    """
    match tokenisation.kind:
        case "words":
            vocabulary = build_vocabulary(texts, min_count=words.min_count)
            if not vocabulary.words:
                raise XmrError(
                    f"no word occurs {words.min_count} times in the training texts; lower --data.words.min-count"
                )
            return vocabulary, fit_vectors(vocabulary.words, [vocabulary.pieces(text) for text in texts], words)
        case "sentencepiece":
            if words.file:
                raise XmrError(
                    "--data.words.file holds vectors of words, and sentencepiece cuts texts into subwords: leave the "
                    "file away, or set --data.tokens.kind words"
                )
            subwords = _fit_subwords(texts, tokenisation.size)
            every = replace(words, min_count=1)  # the model has chosen its pieces by how often they occur
            return subwords, fit_vectors(subwords.known, [subwords.pieces(text) for text in texts], every)
        case "transformers":
            tokeniser = load_pretrained_tokens(tokenisation.name)
            return tokeniser, np.zeros((len(tokeniser), 0), np.float32)


def _fit_subwords(texts: Sequence[str], size: int) -> Subwords:
    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="unigram",
            vocab_size=size,
            hard_vocab_limit=False,
            normalization_rule_name="nmt_nfkc_cf",  # with case folding: words are lower-cased too
            max_sentence_length=max((len(text.encode()) for text in texts), default=0) + 1,  # longer ones are left out
            pad_id=PAD,
            unk_id=UNKNOWN,
            bos_id=-1,
            eos_id=-1,
            num_threads=_THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise XmrError(
            f"sentencepiece cannot be fitted on the {len(texts)} training texts with --data.tokens.size {size}: {error}"
        ) from error
    return Subwords(model.getvalue())


def load_pretrained_tokens(name: str) -> PretrainedTokens:
    """The tokeniser of a model of the Hugging Face hub, or of a folder.

    Raises:
        XmrError: no name, or nothing to be had under it.
    """
    from transformers import AutoTokenizer  # seconds to import

    if not name:
        raise XmrError("--data.tokens.kind transformers needs --data.tokens.name: a model's name or a folder")
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
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
