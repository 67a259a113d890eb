"""Tokenisers and their vectors: ids, determinism, documents, pretrained files, errors that name the way out."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import pickle
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from numpy.typing import NDArray
from transformers import BertTokenizer, CLIPTokenizer

from xmr_e2e.data import unknown
from xmr_e2e.data.config import Data
from xmr_e2e.data.loader import fit_words
from xmr_e2e.data.text import Vocabulary
from xmr_e2e.data.tokenizer_documents import tokenizer_from_document
from xmr_e2e.data.tokenizers import (
    PretrainedTokens,
    Subwords,
    Tokenization,
    Tokenizer,
    fit_tokenizer,
)
from xmr_e2e.data.unknown import unknown_fraction, unknown_fractions
from xmr_e2e.data.vector_files import read_vectors
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.errors import XmrError

SYLLABLES = ["ba", "du", "ki", "lo", "me", "nu", "ra", "si", "to", "ve"]
MANY = [f"{a}{b}{c} {c}{a}" for a in SYLLABLES for b in SYLLABLES for c in SYLLABLES]  # of 10 x 10 x 10 words
TEXTS = ["the dog runs over the grass", "a cat sits on the grass", "the dog and the cat play"] * 20
SUBWORDS = Tokenization("sentencepiece", size=40)
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "dog", "cat", "##s", "."]


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A folder with a tokeniser like BERT's, of 10 tokens."""
    folder = tmp_path / "bert"
    BertTokenizer(vocab={word: number for number, word in enumerate(BERT)}).save_pretrained(folder)
    return folder


def fitted(tokenization: Tokenization, **options: Any) -> tuple[Tokenizer, Any]:
    return fit_tokenizer(TEXTS, tokenization, WordVectors(**{"dim": 6, **options}))


@pytest.mark.parametrize("kind", ["words", "sentencepiece", "transformers"])
def test_a_document_in_json_gives_the_same_tokeniser(kind: str, bert: Path) -> None:
    tokenizer, _ = fitted(Tokenization(kind, size=40, name=str(bert)))  # type: ignore[arg-type]
    restored = tokenizer_from_document(json.loads(json.dumps(tokenizer.to_document())))
    assert type(restored) is type(tokenizer)
    assert len(restored) == len(tokenizer)
    for text in [*TEXTS[:3], "The DOGS, a zebra!", ""]:
        assert restored.encode(text, max_tokens=9) == tokenizer.encode(text, max_tokens=9)
        assert restored.pieces(text) == tokenizer.pieces(text)


@pytest.mark.parametrize("kind", ["words", "sentencepiece", "transformers"])
def test_ids_are_within_the_table_and_a_text_is_never_empty(kind: str, bert: Path) -> None:
    tokenizer, vectors = fitted(Tokenization(kind, size=40, name=str(bert)))  # type: ignore[arg-type]
    tokenizer = pickle.loads(pickle.dumps(tokenizer))  # as a loader's worker gets it
    assert vectors.shape == (len(tokenizer), 0 if kind == "transformers" else 6)
    for text in ["", "?!", "漢字", "the dog " * 50]:
        ids = tokenizer.encode(text, max_tokens=7)
        assert 0 < len(ids) <= 7
        assert all(0 <= number < len(tokenizer) for number in ids)


def test_a_document_of_another_kind_is_refused() -> None:
    with pytest.raises(XmrError, match="'letters' is no kind of tokeniser"):
        tokenizer_from_document({"kind": "letters"})


def test_words_are_those_that_occur_often_enough() -> None:
    tokenizer, _ = fitted(Tokenization(), min_count=40)
    assert isinstance(tokenizer, Vocabulary)
    assert tokenizer.words == ("the", "cat", "dog", "grass")
    assert tokenizer.encode("The grass is wet", max_tokens=9) == [2, 5, 1, 1]
    assert tokenizer.pieces("The grass is wet!") == ["the", "grass", "is", "wet"]
    with pytest.raises(XmrError, match=r"no word occurs 999 times .* --data.words.min-count"):
        fitted(Tokenization(), min_count=999)


def test_skip_gram_vectors_are_the_same_each_time_and_leave_padding_zero() -> None:
    for tokenization in (Tokenization(), SUBWORDS):
        tokenizer, vectors = fitted(tokenization)
        _, again = fitted(tokenization)
        assert vectors.shape == (len(tokenizer), 6)
        assert np.array_equal(vectors, again)
        assert not vectors[0].any() and vectors[1:].any(axis=1).all()


@pytest.mark.parametrize("tokenization", [Tokenization(), Tokenization("sentencepiece", size=60)])
def test_words_of_the_same_neighbourhood_have_similar_vectors(tokenization: Tokenization) -> None:
    texts = [f"{pet} {act}" for pet in ("dog", "cat") for act in ("barks", "runs", "eats")] * 200
    texts += [f"{place} {sort}" for place in ("hill", "lake") for sort in ("lies", "rests", "shines")] * 200
    tokenizer, vectors = fit_tokenizer(texts, tokenization, WordVectors(dim=12, epochs=40, window=9))
    dog, cat, lake = (
        vectors[tokenizer.encode(word, max_tokens=9)].mean(axis=0) for word in ("dog barks", "cat barks", "lake lies")
    )

    def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    assert cosine(dog, cat) > cosine(dog, lake) + 0.03


def test_subwords_put_a_text_together_again_and_fold_case() -> None:
    tokenizer, _ = fitted(SUBWORDS)
    assert isinstance(tokenizer, Subwords)
    assert "".join(tokenizer.pieces("The Cat runs")).replace("▁", " ").strip() == "the cat runs"
    ids = tokenizer.encode("the cat runs", max_tokens=99)
    assert [tokenizer.known[number - 2] for number in ids] == tokenizer.pieces("the cat runs")
    assert tokenizer.encode("the cat runs", max_tokens=2) == ids[:2]
    assert 1 in tokenizer.encode("the 漢", max_tokens=9)
    assert 0 not in ids


def test_subwords_are_the_same_each_time_and_as_many_as_asked_for() -> None:
    models = [fit_tokenizer(MANY, Tokenization("sentencepiece", size=50), WordVectors(dim=3))[0] for _ in range(2)]
    assert models[0] == models[1]
    assert len(models[0]) == 50
    assert 20 < len(fitted(Tokenization("sentencepiece", size=8000))[0]) < 8000


def test_subwords_are_fitted_on_long_texts_too() -> None:
    article = " ".join(["photosynthesis"] * 1000)  # beyond sentencepiece's own limit of 4192 bytes
    tokenizer, _ = fit_tokenizer([article] * 3, Tokenization("sentencepiece", size=60), WordVectors(dim=3))
    assert 1 not in tokenizer.encode("photosynthesis", max_tokens=99)


def test_subwords_that_cannot_be_fitted_name_the_option(tmp_path: Path) -> None:
    with pytest.raises(XmrError, match=r"--data.tokens.size 3 is too small: .* at least 20"):
        fitted(Tokenization("sentencepiece", size=3))
    assert len(fitted(Tokenization("sentencepiece", size=5000))[0]) < 500  # as many as the texts yield
    with pytest.raises(XmrError, match="cannot be fitted on the 2 training texts"):
        fit_tokenizer(["", " "], SUBWORDS, WordVectors())
    with pytest.raises(XmrError, match=r"--data.words.file .*--data.tokens.kind words"):
        fitted(SUBWORDS, file=tmp_path / "GoogleNews.bin")


def test_subwords_are_fitted_on_very_short_texts_and_on_signs() -> None:
    for texts in (["a dog"] * 3, ["a"], ["🐶🌊"] * 4):
        tokenizer, _ = fit_tokenizer(texts, SUBWORDS, WordVectors(dim=3))
        assert 1 not in tokenizer.encode(texts[0], max_tokens=9)


CHINESE = ["一只棕色的狗在草地上奔跑，天空很蓝", "两个孩子坐在海边的沙滩上看日落", "一位女士在厨房里切蔬菜"] * 3
THAI = ["สุนัขสีน้ำตาลวิ่งบนสนามหญ้า", "เด็กสองคนนั่งดูพระอาทิตย์ตก"] * 3


@pytest.mark.parametrize(
    "texts",
    [CHINESE, THAI, ["犬が草の上を走っている。", "海の近くに子供が二人座っている。"] * 3, ["ຫມາກຳລັງແລ່ນຢູ່ໃນຫຍ້າ"] * 3,
     ["ឆ្កែកំពុងរត់នៅលើស្មៅ"] * 3, ["ခွေးတစ်ကောင်မြက်ခင်းပေါ်မှာပြေးနေသည်"] * 3, [f"{text} (AP 2021)" for text in CHINESE]],
)  # fmt: skip
def test_texts_without_spaces_ask_for_subwords_and_have_them(texts: list[str]) -> None:
    for min_count in (1, 2, 5):
        with pytest.raises(XmrError, match=r"without spaces between words: .*--data.tokens.kind sentencepiece"):
            fit_tokenizer(texts, Tokenization(), WordVectors(dim=3, min_count=min_count))
    tokenizer, _ = fit_tokenizer(texts, Tokenization("sentencepiece", size=200), WordVectors(dim=3))
    assert unknown_fraction(texts, tokenizer) < 0.1


@pytest.mark.parametrize(
    "texts",
    [["一只 棕色 的 狗 在 草地 上 奔跑"] * 3, ["สุนัข สี น้ำตาล วิ่ง บน สนามหญ้า"] * 3, ["狗, 草地, 天空"] * 3,
     ["갈색 개가 잔디밭을 달린다"] * 3, ["كلب بني يركض على العشب"] * 3, ["a dog named 旺财二世好名字呀"] * 3],
)  # fmt: skip
def test_words_that_are_parted_stay_words(texts: list[str]) -> None:
    tokenizer, _ = fit_tokenizer(texts, Tokenization(), WordVectors(dim=3))
    assert unknown_fraction(texts, tokenizer) == 0


def test_texts_without_letters_name_subwords() -> None:
    with pytest.raises(XmrError, match=r"none of the 4 training texts has a word .*'🐶🌊'.* sentencepiece"):
        fit_tokenizer(["🐶🌊"] * 4, Tokenization(), WordVectors())


def test_what_of_a_text_is_unknown(bert: Path) -> None:
    words = Vocabulary(("dog", "the"))
    assert words.lookup("The zebra, dog!") == [("the", True), ("zebra", False), ("dog", True)]
    assert words.lookup("?!") == []
    subwords, _ = fitted(SUBWORDS)
    assert [word for word, known in subwords.lookup("the 漢字 dog") if not known] == ["漢字"]
    assert all(known for _, known in subwords.lookup("the dog"))
    pretrained, _ = fitted(Tokenization("transformers", name=str(bert)))
    assert pretrained.lookup("The zebra.") == [("The", True), ("zebra", False), (".", True)]
    assert unknown_fraction(["The zebra, dog!", "?!"], words) == 0.5
    assert np.isnan(unknown_fraction([], words))


def test_fitting_says_how_many_words_are_unknown(
    tiny_shards: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    tokenizer, _ = fit_words(Data(tiny_shards, words=WordVectors(dim=4)))
    fractions = unknown_fractions(tiny_shards, tokenizer)
    assert list(fractions) == ["train", "val", "test"]
    assert 0 < fractions["train"] < 1 / 6 and fractions == unknown_fractions(tiny_shards, tokenizer, fractions)
    said = caplog.records[-1]
    assert said.levelname == "INFO" and said.getMessage().startswith("unknown words (<unk>): train ")
    monkeypatch.setattr(unknown, "MANY", fractions["test"])
    fit_words(Data(tiny_shards, words=WordVectors(dim=4)))
    said = caplog.records[-1]
    assert said.levelname == "WARNING" and "--data.tokens.kind sentencepiece" in said.getMessage()


def test_pretrained_tokens_stand_between_the_models_special_ones_even_when_cut(bert: Path) -> None:
    tokenizer, vectors = fitted(Tokenization("transformers", name=str(bert)))
    assert len(tokenizer) == 10 and vectors.shape == (10, 0)  # a model with such tokens has vectors of its own
    assert tokenizer.encode("The dogs.", max_tokens=99) == [2, 5, 6, 8, 9, 3]
    assert tokenizer.encode("The dogs.", max_tokens=4) == [2, 5, 6, 3]
    assert tokenizer.encode("The dogs.", max_tokens=1) == [2, 3]
    assert tokenizer.encode("", max_tokens=9) == [2, 3]
    assert tokenizer.pieces("The dogs.") == ["[CLS]", "the", "dog", "##s", ".", "[SEP]"]


def test_pretrained_tokens_end_where_the_model_ends(tmp_path: Path) -> None:
    vocabulary = {token: n for n, token in enumerate(["!", "a</w>", "<|startoftext|>", "<|endoftext|>"])}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=5).save_pretrained(tmp_path / "clip")
    tokenizer, _ = fitted(Tokenization("transformers", name=str(tmp_path / "clip")))
    assert tokenizer.encode("a a a a a a a", max_tokens=300) == [2, 1, 1, 1, 3]
    assert tokenizer.encode("a", max_tokens=300) == [2, 1, 3]  # without the padding of the model's own


def test_padding_and_truncation_of_the_file_itself_are_ignored(bert: Path) -> None:
    document = json.loads((bert / "tokenizer.json").read_text())
    padding = {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None}
    document["padding"] = {**padding, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    document["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    (bert / "tokenizer.json").write_text(json.dumps(document))
    tokenizer, _ = fitted(Tokenization("transformers", name=str(bert)))
    assert tokenizer.encode("the dog", max_tokens=99) == [2, 5, 6, 3]
    assert tokenizer.encode("the dog the cat", max_tokens=99) == [2, 5, 6, 5, 7, 3]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_text_may_be_put_between_tokens_often_and_not_doubled_as_often(bert: Path, times: int) -> None:
    document = json.loads((bert / "tokenizer.json").read_text())
    text = {"Sequence": {"id": "A", "type_id": 0}}
    template = {"type": "TemplateProcessing", "single": [text] * times, "pair": [text, text], "special_tokens": {}}
    document["post_processor"] = {"type": "Sequence", "processors": [template] * 12}
    own = {"kind": "transformers", "tokenizer": json.dumps(document), "longest": None, "empty": 1}
    if times == 1:
        assert tokenizer_from_document(own).encode("the dog", max_tokens=9) == [5, 6]
    else:
        with pytest.raises(XmrError, match=f"it makes a text up to {times**12:,} times as long"):
            tokenizer_from_document(own)


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
            fitted(Tokenization("transformers", name=name))
    (bert / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(XmrError, match=f"(?s)--data.tokens.name {bert}: .*{ways}"):
        fitted(Tokenization("transformers", name=str(bert)))
    with pytest.raises(XmrError, match=r"--data.tokens.kind transformers needs --data.tokens.name"):
        fitted(Tokenization("transformers"))


VECTORS = {"dog": [1.0, 2.0, -0.5], "grass": [0.25, 0.0, 4.0], "unseen": [9.0, 9.0, 9.0]}
PACKERS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def vector_line(word: str | bytes, vector: list[float], *, binary: bool = False, between: str = " ") -> bytes:
    name = word if isinstance(word, bytes) else word.encode()
    if binary:
        return name + b" " + np.array(vector, "<f4").tobytes() + b"\n"
    return between.join([name.decode(errors="surrogateescape"), *map(str, vector)]).encode(errors="surrogateescape") + (
        b"\n"
    )


def lines_of(vectors: dict[str, list[float]] = VECTORS, **form: Any) -> list[bytes]:
    return [vector_line(word, vector, **form) for word, vector in vectors.items()]


def read_from(content: bytes, folder: Path, name: str = "vectors.bin") -> tuple[Tokenizer, Any]:
    """The table of a file with this content, of vectors of 3 numbers."""
    (folder / name).write_bytes(content)
    return fitted(Tokenization(), dim=3, file=folder / name)


def assert_found(read: tuple[Tokenizer, Any], vectors: dict[str, list[float]] = VECTORS) -> None:
    tokenizer, table = read
    for word in ("dog", "grass"):
        assert table[tokenizer.encode(word, max_tokens=1)[0]].tolist() == vectors[word]
    assert np.isfinite(table).all() and tokenizer.encode("unseen", max_tokens=1) == [1]  # the vocabulary is the texts'


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("packed", PACKERS)
def test_a_pretrained_word2vec_file_is_read_in_text_and_binary_form(tmp_path: Path, packed: str, binary: bool) -> None:
    content = b"3 3\n" + b"".join(lines_of(binary=binary))
    assert_found(read_from(PACKERS[packed](content), tmp_path, f"vectors{packed}"))


@pytest.mark.parametrize(
    "content",
    [
        b"".join(lines_of()),  # GloVe: no header
        b"\xef\xbb\xbf3 3\r\n" + b"".join(lines_of()).replace(b"\n", b"\r\n"),
        b"3\t3\n" + b"".join(lines_of(between="\t")),
        b"3 3\n" + b"".join(lines_of()).replace(b"\n", b" \n"),  # fastText's .vec ends its lines with a blank
        b"5 3\n. . 1 2 3\ndog house 1 2 3\n" + b"".join(lines_of()),  # words that hold a blank
        b"1 2 3 4\n" + b"".join(lines_of()),  # GloVe whose first word is a number
        b"1 3\n" + b"".join(lines_of()),  # the header says too little
        b"0 3\n" + b"".join(lines_of(binary=True)),
        b"4 3\n" + b"".join([vector_line("dog house", [8, 8, 8], binary=True), *lines_of(binary=True)]),
        b"4 3\n" + b"".join(lines_of({"new york city": [7, 7, 7], **VECTORS}, binary=True)).replace(b"\n", b""),
        b"3 3\n" + b"".join(lines_of(binary=True)).replace(b"\n", b""),  # as gensim writes it
        b"4 3\n" + vector_line(b"caf\xe9", [1, 1, 1], binary=True) + b"".join(lines_of(binary=True)),
        b"".join(lines_of()) + vector_line(b"caf\xe9", [1, 1, 1]),
        b"".join(lines_of({"Dog": [1.0, 2.0, -0.5], "GRASS": [0.25, 0.0, 4.0], "DOG": [5, 5, 5]})),
        b"".join(lines_of({"Dog": [5, 5, 5], **VECTORS, "GRASS": [5, 5, 5]})),
    ],
    ids=["glove", "bom and crlf", "tabs", "fasttext", "blanks", "number", "count too small", "binary count too small",
         "binary blank", "binary blanks without breaks", "gensim", "binary not utf-8", "not utf-8", "capitals",
         "lower case first"],
)  # fmt: skip
def test_vectors_of_other_writers_are_read(tmp_path: Path, content: bytes) -> None:
    assert_found(read_from(content, tmp_path))


@pytest.mark.parametrize("binary", [False, True])
def test_a_file_that_gensim_writes_is_read_as_gensim_reads_it(tmp_path: Path, binary: bool) -> None:
    from gensim.models import KeyedVectors

    random = np.random.default_rng(0)
    words = [f"{first}{number}" for number in range(500) for first in ("w", "犬", "é")]
    written = KeyedVectors(7)
    written.add_vectors(words, random.normal(size=(len(words), 7)).astype(np.float32))
    written.save_word2vec_format(str(tmp_path / "v"), binary=binary)
    expected = KeyedVectors.load_word2vec_format(str(tmp_path / "v"), binary=binary)
    found = read_vectors(tmp_path / "v", frozenset(words)).vectors
    assert len(found) == len(words) and all(np.array_equal(found[word], expected[word]) for word in words)


def test_what_of_a_vector_file_is_odd_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = b"1 3\n" + b"".join(lines_of()) + vector_line(b"caf\xe9", [1, 1, 1])
    read_from(content, tmp_path)
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [message.split("vectors.bin")[1][:40] for message in warned] == [
        " has vectors of 2 of the 11 words in the",
        ": the header announces 1 vectors, and mo",
        ": 1 words are not UTF-8, and passed over",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1 2\ndog 0.5 1.5\n", r"2-d vectors: set --data.words.dim 2"),
        (b"hello\n", "not a word2vec file.* it begins with 'hello'"),
        (b"hello world of words\n", "not a word2vec file"),
        (b"", "not a word2vec file"),
        (b"PK\x03\x04 and more", "a zip archive: unpack it"),
        (b"\xba\x16\x4f\x2f and more", r"name the \.vec file"),
        (b"\x80\x04\x95 and more", "gensim's save_word2vec_format"),
        (gzip.compress(b"".join(lines_of()) * 99, mtime=0)[:60], "vectors.bin cannot be read: "),
        (b"0 3\n", "holds no vectors: its header announces 0 of 3 numbers"),
        (b"3 0\ndog\n", "of 0 numbers"),
        (b"3 2\n" + b"".join(lines_of()), "announces vectors of 2 numbers, and line 2 has 3"),
        (b"9 3\n" + b"".join(lines_of()), "ends after 3 vectors, and its header announces 9: it was cut short"),
        (b"9 3\n" + b"".join(lines_of(binary=True)), "ends after 3 vectors, and its header announces 9"),
        (b"3 3\n" + b"".join(lines_of(binary=True))[:-6], "ends within vector 3"),
        (b"cat 1 1 1\ndog nan nan nan\n", "line 2, 'dog': the vector holds NaN"),
        (b"1 3\n" + vector_line("Dog", [1, np.inf, 1], binary=True), "vector 1, 'Dog': the vector holds NaN"),
        (b"cat 1 1 1\ndog 1 1e99 1\n", "line 2, 'dog': the vector holds NaN or infinite"),
        (b"cat 1 1 1\ndog 1 1\n", "line 2, 'dog': 2 numbers instead of 3"),
        (b"cat 1 1 1\ndog 1 1 1 1\n", "line 2, 'dog': 4 numbers instead of 3"),
        (b"cat 1 1 1\ndog 1 x 1\n", "line 2, 'dog': could not convert"),
        (b"chien 1 1 1\nchat 1 2 1\n", "of 0 of the 11 words .* begins with 'chien', 'chat', .*words are 'the'"),
        ("пёс 1 1 1\nкот 1 1 1\ndog 1 1 1\n".encode("cp1251"), "2 of its 3 words are not UTF-8"),
    ],
)  # fmt: skip
def test_a_wrong_vector_file_says_what_to_do(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(XmrError, match=message) as error:
        read_from(content, tmp_path)
    assert "vectors.bin" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("said", [25, 49, 51, 60, 100])
def test_a_binary_file_whose_header_has_a_wrong_length_is_refused(tmp_path: Path, said: int) -> None:
    random = np.random.default_rng(0)
    lines = [vector_line(f"word{number}", random.normal(size=50).tolist(), binary=True) for number in range(200)]
    (tmp_path / "v.bin").write_bytes(f"200 {said}\n".encode() + b"".join(lines))
    with pytest.raises(XmrError, match=rf"v\.bin ends within vector \d+: .* are not of {said} numbers"):
        read_vectors(tmp_path / "v.bin", frozenset(f"word{number}" for number in range(200)))


def test_a_vector_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "v.txt", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(XmrError, match=f"--data.words.file: {path} {message}"):
            fitted(Tokenization(), dim=3, file=path)


def test_hardly_any_word_in_the_vector_file_is_an_error(tmp_path: Path) -> None:
    texts = [" ".join(f"w{number}" for number in range(300))] * 2
    (tmp_path / "v.txt").write_bytes(b"".join(lines_of({"w1": [1, 2, 3], "w2": [3, 4, 5]})))
    with pytest.raises(XmrError, match="of 2 of the 300 words"):
        fit_tokenizer(texts, Tokenization(), WordVectors(dim=3, file=tmp_path / "v.txt"))


def test_tokens_with_numbers_beyond_any_table_are_refused() -> None:
    model = {"type": "WordLevel", "vocab": {"[UNK]": 2**31}, "unk_token": "[UNK]"}
    document = {"kind": "transformers", "tokenizer": json.dumps({"version": "1.0", "model": model}), "longest": None}
    with pytest.raises(XmrError, match="a token has a number beyond any table"):
        tokenizer_from_document({**document, "empty": 0})
