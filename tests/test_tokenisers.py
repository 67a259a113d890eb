"""Tokenisers and their vectors: ids, determinism, documents, pretrained files, errors that name the way out."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from numpy.typing import NDArray
from transformers import BertTokenizer, CLIPTokenizer

from xmr_e2e.data.text import Vocabulary
from xmr_e2e.data.tokenisers import (
    PretrainedTokens,
    Subwords,
    Tokenisation,
    Tokeniser,
    fit_tokeniser,
    tokeniser_from_document,
)
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.errors import XmrError

SYLLABLES = ["ba", "du", "ki", "lo", "me", "nu", "ra", "si", "to", "ve"]
MANY = [f"{a}{b}{c} {c}{a}" for a in SYLLABLES for b in SYLLABLES for c in SYLLABLES]  # of 10 x 10 x 10 words
TEXTS = ["the dog runs over the grass", "a cat sits on the grass", "the dog and the cat play"] * 20
SUBWORDS = Tokenisation("sentencepiece", size=40)
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "dog", "cat", "##s", "."]


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A folder with a tokeniser like BERT's, of 10 tokens."""
    folder = tmp_path / "bert"
    BertTokenizer(vocab={word: number for number, word in enumerate(BERT)}).save_pretrained(folder)
    return folder


def fitted(tokenisation: Tokenisation, **options: Any) -> tuple[Tokeniser, Any]:
    return fit_tokeniser(TEXTS, tokenisation, WordVectors(**{"dim": 6, **options}))


@pytest.mark.parametrize("kind", ["words", "sentencepiece", "transformers"])
def test_a_document_in_json_gives_the_same_tokeniser(kind: str, bert: Path) -> None:
    tokeniser, _ = fitted(Tokenisation(kind, size=40, name=str(bert)))  # type: ignore[arg-type]
    restored = tokeniser_from_document(json.loads(json.dumps(tokeniser.to_document())))
    assert type(restored) is type(tokeniser)
    assert len(restored) == len(tokeniser)
    for text in [*TEXTS[:3], "The DOGS, a zebra!", ""]:
        assert restored.encode(text, max_tokens=9) == tokeniser.encode(text, max_tokens=9)
        assert restored.pieces(text) == tokeniser.pieces(text)


@pytest.mark.parametrize("kind", ["words", "sentencepiece", "transformers"])
def test_ids_are_within_the_table_and_a_text_is_never_empty(kind: str, bert: Path) -> None:
    tokeniser, vectors = fitted(Tokenisation(kind, size=40, name=str(bert)))  # type: ignore[arg-type]
    tokeniser = pickle.loads(pickle.dumps(tokeniser))  # as a loader's worker gets it
    assert vectors.shape == (len(tokeniser), 0 if kind == "transformers" else 6)
    for text in ["", "?!", "漢字", "the dog " * 50]:
        ids = tokeniser.encode(text, max_tokens=7)
        assert 0 < len(ids) <= 7
        assert all(0 <= number < len(tokeniser) for number in ids)


def test_a_document_of_another_kind_is_refused() -> None:
    with pytest.raises(XmrError, match="'letters' is no kind of tokeniser"):
        tokeniser_from_document({"kind": "letters"})


def test_words_are_those_that_occur_often_enough() -> None:
    tokeniser, _ = fitted(Tokenisation(), min_count=40)
    assert isinstance(tokeniser, Vocabulary)
    assert tokeniser.words == ("the", "cat", "dog", "grass")
    assert tokeniser.encode("The grass is wet", max_tokens=9) == [2, 5, 1, 1]
    assert tokeniser.pieces("The grass is wet!") == ["the", "grass", "is", "wet"]
    with pytest.raises(XmrError, match=r"no word occurs 999 times .* --data.words.min-count"):
        fitted(Tokenisation(), min_count=999)


def test_skip_gram_vectors_are_the_same_each_time_and_leave_padding_zero() -> None:
    for tokenisation in (Tokenisation(), SUBWORDS):
        tokeniser, vectors = fitted(tokenisation)
        _, again = fitted(tokenisation)
        assert vectors.shape == (len(tokeniser), 6)
        assert np.array_equal(vectors, again)
        assert not vectors[0].any() and vectors[1:].any(axis=1).all()


@pytest.mark.parametrize("tokenisation", [Tokenisation(), Tokenisation("sentencepiece", size=60)])
def test_words_of_the_same_neighbourhood_have_similar_vectors(tokenisation: Tokenisation) -> None:
    texts = [f"{pet} {act}" for pet in ("dog", "cat") for act in ("barks", "runs", "eats")] * 200
    texts += [f"{place} {sort}" for place in ("hill", "lake") for sort in ("lies", "rests", "shines")] * 200
    tokeniser, vectors = fit_tokeniser(texts, tokenisation, WordVectors(dim=12, epochs=40, window=9))
    dog, cat, lake = (
        vectors[tokeniser.encode(word, max_tokens=9)].mean(axis=0) for word in ("dog barks", "cat barks", "lake lies")
    )

    def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    assert cosine(dog, cat) > cosine(dog, lake) + 0.03


def test_subwords_put_a_text_together_again_and_fold_case() -> None:
    tokeniser, _ = fitted(SUBWORDS)
    assert isinstance(tokeniser, Subwords)
    assert "".join(tokeniser.pieces("The Cat runs")).replace("▁", " ").strip() == "the cat runs"
    ids = tokeniser.encode("the cat runs", max_tokens=99)
    assert [tokeniser.known[number - 2] for number in ids] == tokeniser.pieces("the cat runs")
    assert tokeniser.encode("the cat runs", max_tokens=2) == ids[:2]
    assert 1 in tokeniser.encode("the 漢", max_tokens=9)
    assert 0 not in ids


def test_subwords_are_the_same_each_time_and_as_many_as_asked_for() -> None:
    models = [fit_tokeniser(MANY, Tokenisation("sentencepiece", size=50), WordVectors(dim=3))[0] for _ in range(2)]
    assert models[0] == models[1]
    assert len(models[0]) == 50
    assert 20 < len(fitted(Tokenisation("sentencepiece", size=8000))[0]) < 8000


def test_subwords_are_fitted_on_long_texts_too() -> None:
    article = " ".join(["photosynthesis"] * 1000)  # beyond sentencepiece's own limit of 4192 bytes
    tokeniser, _ = fit_tokeniser([article] * 3, Tokenisation("sentencepiece", size=60), WordVectors(dim=3))
    assert 1 not in tokeniser.encode("photosynthesis", max_tokens=99)


def test_subwords_that_cannot_be_fitted_name_the_option(tmp_path: Path) -> None:
    with pytest.raises(XmrError, match=r"--data.tokens.size 3: .*smaller than required_chars"):
        fitted(Tokenisation("sentencepiece", size=3))
    with pytest.raises(XmrError, match="cannot be fitted on the 2 training texts"):
        fit_tokeniser(["", " "], SUBWORDS, WordVectors())
    with pytest.raises(XmrError, match=r"--data.words.file .*--data.tokens.kind words"):
        fitted(SUBWORDS, file=tmp_path / "GoogleNews.bin")


def test_pretrained_tokens_stand_between_the_models_special_ones_even_when_cut(bert: Path) -> None:
    tokeniser, _ = fitted(Tokenisation("transformers", name=str(bert)))
    assert len(tokeniser) == 10
    assert tokeniser.encode("The dogs.", max_tokens=99) == [2, 5, 6, 8, 9, 3]
    assert tokeniser.encode("The dogs.", max_tokens=4) == [2, 5, 6, 3]
    assert tokeniser.encode("The dogs.", max_tokens=1) == [2, 3]
    assert tokeniser.encode("", max_tokens=9) == [2, 3]
    assert tokeniser.pieces("The dogs.") == ["[CLS]", "the", "dog", "##s", ".", "[SEP]"]


def test_pretrained_tokens_end_where_the_model_ends(tmp_path: Path) -> None:
    vocabulary = {token: n for n, token in enumerate(["!", "a</w>", "<|startoftext|>", "<|endoftext|>"])}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=5).save_pretrained(tmp_path / "clip")
    tokeniser, _ = fitted(Tokenisation("transformers", name=str(tmp_path / "clip")))
    assert tokeniser.encode("a a a a a a a", max_tokens=300) == [2, 1, 1, 1, 3]
    assert tokeniser.encode("a", max_tokens=300) == [2, 1, 3]  # without the padding of the model's own


def test_padding_and_truncation_of_the_file_itself_are_ignored(bert: Path) -> None:
    document = json.loads((bert / "tokenizer.json").read_text())
    padding = {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None}
    document["padding"] = {**padding, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    document["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    (bert / "tokenizer.json").write_text(json.dumps(document))
    tokeniser, _ = fitted(Tokenisation("transformers", name=str(bert)))
    assert tokeniser.encode("the dog", max_tokens=99) == [2, 5, 6, 3]
    assert tokeniser.encode("the dog the cat", max_tokens=99) == [2, 5, 6, 5, 7, 3]


def test_tokens_without_special_ones_use_the_unknown_one_for_an_empty_text(bert: Path) -> None:
    document = json.loads((bert / "tokenizer.json").read_text())
    document["post_processor"] = None
    assert PretrainedTokens(json.dumps(document), longest=None, empty=1).encode("", max_tokens=9) == [1]


def test_a_pretrained_tokeniser_that_cannot_be_had_names_both_ways_out(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    ways = r"Hugging Face hub.* a folder with its tokenizer.json.*--data.tokens.kind words"
    for name in ("no-such/model", str(bert.parent)):
        with pytest.raises(XmrError, match=rf"(?s)--data.tokens.name {name}: .*{ways}"):
            fitted(Tokenisation("transformers", name=name))
    (bert / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(XmrError, match=f"(?s)--data.tokens.name {bert}: .*{ways}"):
        fitted(Tokenisation("transformers", name=str(bert)))
    with pytest.raises(XmrError, match=r"--data.tokens.kind transformers needs --data.tokens.name"):
        fitted(Tokenisation("transformers"))


@pytest.mark.parametrize("kind", ["text", "binary", "text.gz", "binary.gz"])
def test_a_pretrained_word2vec_file_is_read_in_text_and_binary_form(tmp_path: Path, kind: str) -> None:
    words = {"dog": [1.0, 2.0, -0.5], "grass": [0.25, 0.0, 4.0], "unseen": [9.0, 9.0, 9.0]}
    lines = [b"3 3\n"]
    for word, vector in words.items():
        body = np.array(vector, "<f4").tobytes() if kind.startswith("binary") else " ".join(map(str, vector)).encode()
        lines.append(word.encode() + b" " + body + b"\n")
    path = tmp_path / f"vectors.{'bin' if kind.startswith('binary') else 'txt'}{'.gz' if kind.endswith('gz') else ''}"
    path.write_bytes(gzip.compress(b"".join(lines)) if kind.endswith("gz") else b"".join(lines))
    tokeniser, vectors = fitted(Tokenisation(), dim=3, file=path)
    for word in ("dog", "grass"):
        assert vectors[tokeniser.encode(word, max_tokens=1)[0]].tolist() == words[word]
    assert tokeniser.encode("unseen", max_tokens=1) == [1]  # the vocabulary is the training split's


def test_a_wrong_vector_file_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    with pytest.raises(XmrError, match="does not exist"):
        fitted(Tokenisation(), dim=3, file=path)
    path.write_text("1 2\ndog 0.5 1.5\n")
    with pytest.raises(XmrError, match=r"2-d vectors: set --data.words.dim 2"):
        fitted(Tokenisation(), dim=3, file=path)
    path.write_text("hello\n")
    with pytest.raises(XmrError, match="not a word2vec file"):
        fitted(Tokenisation(), dim=3, file=path)
