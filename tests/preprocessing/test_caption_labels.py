"""Weak labels hold where captions use a concept's words, and the table is what the Flickr builder reads."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

from preprocessing.caption_labels import caption_labels, label_images
from preprocessing.common.command import run
from preprocessing.flickr.command import flickr
from tests.helpers.builders import ALONE, command
from tests.helpers.built import image_bytes, manifest, samples, write
from xmr_e2e.errors import XmrError

WORDS = {"sea": ["sea", "waves"], "dog": ["Dog", "dogs"], "no_where": ["nowhere"]}
CAPTIONS = {
    "a.jpg": ["A DOG runs.", "Two dogs, in the sea!", "A beast"],
    "b.jpg": ["Waves and more waves", "a hotdog in the sea", "the sea's colour"],
    "c.jpg": ["The sea", "dogs by the sea", "my dog"],
    "d.jpg": ["nothing", "A cat", "a"],
    "e.jpg": ["the sea and a dog", "sea", "dogs"],
}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Flickr8k in miniature, its captions in another order than that of names; e.jpg is in no split."""
    raw = tmp_path / "raw"
    for image in CAPTIONS:
        write(raw / "Flicker8k_Dataset" / image, image_bytes())
    lines = [f"{image}#{k}\t{text}" for image in reversed(CAPTIONS) for k, text in enumerate(CAPTIONS[image])]
    write(raw / "Flickr8k.token.txt", "\n".join(lines))
    for part, image in {"trainImages": "a.jpg\nd.jpg", "devImages": "b.jpg", "testImages": "c.jpg"}.items():
        write(raw / f"Flickr_8k.{part}.txt", image)
    return raw


@pytest.fixture
def words(tmp_path: Path) -> Path:
    return write(tmp_path / "words.json", json.dumps(WORDS))


def rows(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


@pytest.mark.slow
def test_the_command_writes_concepts_that_two_captions_name(raw: Path, words: Path, tmp_path: Path) -> None:
    out = tmp_path / "new/table.csv"
    done = command("caption_labels", raw, out, "--words", words)
    assert done.returncode == 0, done.stderr
    # "hotdog" and "sea's" are other words; a caption with "waves" twice counts once; dog comes second in the word list.
    assert out.read_bytes() == (
        b"image,split,labels\r\n"
        b"a.jpg,train,dog\r\n"
        b"b.jpg,dev,sea\r\n"
        b"c.jpg,test,sea dog\r\n"
        b"d.jpg,train,\r\n"
        b"e.jpg,,sea dog\r\n"
    )
    assert "5 of 5 images" in done.stdout and "no_where" in done.stdout


@pytest.mark.parametrize(
    ("at_least", "expected"),
    [
        (1, ["sea dog", "sea", "sea dog", "", "sea dog"]),
        (2, ["dog", "sea", "sea dog", "", "sea dog"]),
        (3, ["", "", "", "", ""]),
    ],
)
def test_at_least_is_a_number_of_captions(
    raw: Path, words: Path, tmp_path: Path, at_least: int, expected: list[str]
) -> None:
    caption_labels(raw, tmp_path / "table.csv", words=words, at_least=at_least)
    assert [labels for _, _, labels in rows(tmp_path / "table.csv")[1:]] == expected


@pytest.mark.slow
def test_single_keeps_images_of_exactly_one_concept(raw: Path, words: Path, tmp_path: Path) -> None:
    out = tmp_path / "table.csv"
    done = command("caption_labels", raw, out, "--words", words, "--single")
    assert done.returncode == 0, done.stderr
    assert rows(out) == [["image", "split", "label"], ["a.jpg", "train", "dog"], ["b.jpg", "dev", "sea"]]
    assert "2 of 5 images" in done.stdout


@pytest.mark.parametrize(
    ("single", "expected"),
    [
        (False, {"a.jpg": ["dog"], "b.jpg": ["sea"], "c.jpg": ["sea", "dog"]}),
        (True, {"a.jpg": ["dog"], "b.jpg": ["sea"]}),
    ],
)
def test_the_flickr_builder_reads_the_table(
    raw: Path, words: Path, tmp_path: Path, single: bool, expected: dict[str, list[str]]
) -> None:
    caption_labels(raw, tmp_path / "table.csv", words=words, single=single)
    flickr(raw, tmp_path / "out", labels=tmp_path / "table.csv", build=ALONE)
    assert {name: sample["labels"] for name, sample in samples(tmp_path / "out").items()} == expected
    assert samples(tmp_path / "out")["b.jpg"]["split"] == "val"
    assert manifest(tmp_path / "out")["multi_label"] is not single


def test_labels_follow_the_rule_written_as_loops() -> None:
    concepts = {"sea": frozenset({"sea", "waves"}), "dog": frozenset({"dog", "dogs"})}
    for at_least in (1, 2, 3):
        found = label_images(CAPTIONS, concepts, at_least=at_least)
        assert list(found) == sorted(CAPTIONS)
        for image, captions in CAPTIONS.items():
            expected = []
            for name, words in concepts.items():
                hits = 0
                for caption in captions:
                    plain = "".join(letter if letter.isalpha() or letter == "'" else " " for letter in caption.lower())
                    hits += any(word in words for word in plain.split())
                if hits >= at_least:
                    expected.append(name)
            assert list(found[image]) == expected


def test_flickr30k_has_karpathys_splits_or_those_that_are_asked_for(words: Path, tmp_path: Path) -> None:
    raw = tmp_path / "flickr30k"
    (raw / "flickr30k-images").mkdir(parents=True)
    write(raw / "results_20130124.token", "\n".join(f"{image}#0\tsea" for image in ("a.jpg", "b.jpg", "c.jpg")))
    with pytest.raises(XmrError, match=r"flickr30k: no splits were found; put dataset_flickr30k\.json"):
        caption_labels(raw, tmp_path / "none.csv", words=words)
    images = [{"filename": "a.jpg", "split": "val"}, {"filename": "b.jpg", "split": "test"}]
    write(raw / "dataset_flickr30k.json", json.dumps({"images": images}))
    caption_labels(raw, tmp_path / "karpathy.csv", words=words, at_least=1)
    caption_labels(raw, tmp_path / "rest.csv", words=words, at_least=1, splits="rest-is-train")
    assert [split for _, split, _ in rows(tmp_path / "karpathy.csv")[1:]] == ["val", "test", ""]
    assert [split for _, split, _ in rows(tmp_path / "rest.csv")[1:]] == ["val", "test", "train"]


def test_a_table_with_other_content_is_not_replaced(raw: Path, words: Path, tmp_path: Path) -> None:
    out = tmp_path / "table.csv"
    caption_labels(raw, out, words=words)
    before = out.read_bytes()
    caption_labels(raw, out, words=words)
    with pytest.raises(XmrError, match=r"table\.csv exists and holds something else"):
        caption_labels(raw, out, words=words, single=True)
    assert out.read_bytes() == before
    with pytest.raises(XmrError, match=r"raw exists and holds something else"):
        caption_labels(raw, raw, words=words)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"sea": ["sea"]', r"words\.json: not JSON, or cut off"),
        ('["sea"]', r"words\.json must hold a JSON object"),
        ("{}", r"words\.json holds no concepts"),
        ('{"sea": "sea"}', r"words\.json, 'sea': wanted is a list of words"),
        ('{"sea": []}', r"words\.json, 'sea': wanted is a list of words"),
        ('{"sea": ["deep sea"]}', r"words\.json, 'sea': 'deep sea' is not a single word"),
        ('{"sea": ["sea", 7]}', r"words\.json, 'sea': 7 is not a single word"),
        ('{"sea": ["..."]}', r"words\.json, 'sea': '\.\.\.' is not a single word"),
        ('{"the sea": ["sea"]}', r"words\.json, 'the sea': a concept's name must be one word; put _"),
        ('{"": ["sea"]}', r"words\.json, '': a concept's name must be one word"),
        ('{"sea": ["sea"], "dog": ["dog"], "sea": ["wave"]}', r"words\.json: 'sea' is given 2 times"),
    ],
)
def test_a_bad_word_list_is_an_error_that_names_file_and_concept(
    raw: Path, tmp_path: Path, content: str, message: str
) -> None:
    with pytest.raises(XmrError, match=message):
        caption_labels(raw, tmp_path / "table.csv", words=write(tmp_path / "words.json", content))
    assert not (tmp_path / "table.csv").exists()


@pytest.mark.slow
def test_missing_files_and_bad_options_are_errors(raw: Path, words: Path, tmp_path: Path) -> None:
    done = command("caption_labels", tmp_path / "nowhere", tmp_path / "table.csv", "--words", words)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "nowhere does not exist. Flickr8k or Flickr30k is expected as" in done.stderr
    with pytest.raises(XmrError, match=r"none\.json cannot be read"):
        caption_labels(raw, tmp_path / "table.csv", words=tmp_path / "none.json")
    with pytest.raises(XmrError, match="--at-least must be 1 or more, not 0"):
        caption_labels(raw, tmp_path / "table.csv", words=words, at_least=0)


def test_help_says_that_such_labels_are_weak(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["caption_labels", "--help"])
    with pytest.raises(SystemExit) as end:
        run(caption_labels)
    shown = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0
    assert "Such labels are weak" in shown and "a text can give its label away by a word" in shown
    assert "Example: python -m preprocessing.caption_labels " in shown
