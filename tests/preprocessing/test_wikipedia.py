"""Wikipedia in its publisher's layout in miniature becomes shards, whatever its XML is like, or a clear error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from preprocessing.common.command import run
from preprocessing.common.published_text import plain_text, read_fields
from preprocessing.wikipedia import Pair, carve_validation, read_article, read_categories, wikipedia
from tests.helpers.built import image_bytes, manifest, samples, write
from tests.helpers.raw_wikipedia import ARTICLE, NAMES, TEST, TRAIN, image_of, text_id, wikipedia_raw, xml_of
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import BuildOptions

ALONE = BuildOptions(workers=1)
LENIENT = BuildOptions(workers=1, max_skipped=0.5)


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "preprocessing.wikipedia", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def skipped(out: Path) -> dict[str, str]:
    return {item["source"]: item["reason"] for item in manifest(out)["skipped"]}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return wikipedia_raw(tmp_path / "wikipedia_dataset")


# Splits


@pytest.mark.slow
def test_command_takes_val_from_the_head_of_the_test_list(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = command(raw, out, "--workers", 1)
    assert done.returncode == 0, done.stderr
    found = samples(out)
    in_split = {split: {source for source in found if found[source]["split"] == split} for split in ("val", "test")}
    assert in_split["val"] == {text_id(number) for number in (28, 27, 26)}
    assert in_split["test"] == {text_id(number) for number in (25, 24, 23, 22, 21, 20)}
    assert len(found) == TRAIN + TEST
    assert found[text_id(13)]["labels"] == ["history"]
    assert found[text_id(13)]["texts"] == ["Section 13 is about history."]
    assert (manifest(out)["dataset"], manifest(out)["classes"]) == ("wikipedia", NAMES)
    assert not manifest(out)["multi_label"]


def test_693_test_pairs_give_231_and_462() -> None:
    published = {"train": [], "test": [Pair(str(number), "", "") for number in range(693)]}
    splits = carve_validation(published)
    assert [pair.text for pair in splits["val"]] == [str(number) for number in range(231)]
    assert [pair.text for pair in splits["test"]] == [str(number) for number in range(231, 693)]


def test_the_published_split_has_no_val(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    wikipedia(raw, out, splits="2173/693", build=ALONE)
    assert {split: entry["samples"] for split, entry in manifest(out)["splits"].items()} == {"train": 20, "test": 9}


def test_manifest_tells_odd_counts_and_that_drcls_pairs_are_others(raw: Path, tmp_path: Path) -> None:
    wikipedia(raw, tmp_path / "carved", build=ALONE)
    wikipedia(raw, tmp_path / "published", splits="2173/693", build=ALONE)
    counts = [
        "trainset_txt_img_cat.list: 20 pairs instead of 2173",
        "testset_txt_img_cat.list: 9 pairs instead of 693",
    ]
    assert manifest(tmp_path / "published")["notes"] == counts
    drcl, *rest = manifest(tmp_path / "carved")["notes"]
    assert rest == counts
    assert "DRCL" in drcl and "cannot be recovered" in drcl


# XML


@pytest.mark.parametrize(
    ("document", "text"),
    [
        pytest.param("<text>A  cat\n\tsits.</text>", "A cat sits.", id="white space"),
        pytest.param(
            "<text>One.</text><text></text><TEXT lang='en'>Two.</TEXT ><text/><text />", "One.\nTwo.", id="several"
        ),
        pytest.param("<text>Salt & pepper, R&D &amp; 3 < 4.</text>", "Salt & pepper, R&D & 3 < 4.", id="bare & and <"),
        pytest.param("<text>A <b>bold<br>word</i></text>", "A bold word", id="tags without end"),
        pytest.param("<text>caf&eacute; &#233;&#xe9; &amp;nbsp;&amp;eacute;</text>", "café éé é", id="references"),
        pytest.param("<text>a &lt;ref name='x'&gt;b&lt;/ref&gt; c<!-- no -->d</text>", "a b c d", id="escaped markup"),
        pytest.param("<text><![CDATA[x < y & <i>z</i> &amp;]]></text>", "x < y & z &", id="CDATA"),
        pytest.param(b"\xef\xbb\xbf<text>caf\xc3\xa9</text>", "café", id="UTF-8 with mark"),
        pytest.param("<text>café</text>".encode("utf-16"), "café", id="UTF-16 with mark"),
        pytest.param(
            '<?xml version="1.0" encoding="iso-8859-2"?><text>zażółć</text>'.encode("iso-8859-2"),
            "zażółć",
            id="declared",
        ),
        pytest.param(
            '<?xml version="1.0" encoding="iso-8859-1"?><text>café</text>'.encode(), "café", id="declared wrongly"
        ),
        pytest.param(b'<?xml version="1.0" encoding="utf-8"?><text>\x93caf\xe9\x94</text>', "“café”", id="cp1252"),
        pytest.param(b'<?xml version="1.0" encoding="klingon"?><text>caf\xe9</text>', "café", id="unknown encoding"),
    ],
)
def test_text_is_read_from_whatever_xml(tmp_path: Path, document: str | bytes, text: str) -> None:
    assert read_article(write(tmp_path / "a.xml", document)) == text


def test_entities_that_a_file_declares_are_not_expanded(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.txt", "password")
    levels = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(20))
    declared = f'<!DOCTYPE d [<!ENTITY e0 "ha">{levels}<!ENTITY file SYSTEM "{secret.as_uri()}">]>'
    path = write(tmp_path / "a.xml", f"<?xml version='1.0'?>{declared}<d><text>one &e20; &file; two</text></d>")
    assert read_article(path) == "one &e20; &file; two"


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("", "has no <text>"),
        (b"\xff\xd8\xff\xe0" + bytes(range(256)), "has no <text>"),
        ("<document><texts>no</texts></document>", "has no <text>"),
        ("<text> \n &#160; <br/></text>", "has no <text>, or only empty ones"),
        ("<document>\n<text>whole</text>\n<text>cut of", "line 3: <text> has no end"),
    ],
)
def test_xml_without_a_usable_text_is_an_error_that_names_it(
    tmp_path: Path, document: str | bytes, reason: str
) -> None:
    path = write(tmp_path / "a.xml", document)
    with pytest.raises(XmrError) as error:
        read_article(path)
    assert str(error.value).startswith(str(path)) and reason in str(error.value)


def test_damaged_xml_is_read_or_refused_but_never_crashes(tmp_path: Path) -> None:
    whole = ARTICLE.format(name="x", body="<text>one &amp; <![CDATA[two]]> &#233; thrée <i>four</i></text>").encode()
    random, refused = Random(0), 0
    for _ in range(300):
        data = bytearray(whole[: random.choice([len(whole), random.randrange(len(whole))])])
        for _ in range(random.randrange(8)):
            data[random.randrange(len(data))] = random.randrange(256)
        try:
            (text,) = read_fields(write(tmp_path / "a.xml", bytes(data)), ["text"])["text"]
            text.encode()
        except XmrError as error:
            assert "has no end" in str(error)
            refused += 1
        except ValueError:  # no text element is left, or two
            refused += 1
    assert 0 < refused < 300


def test_plain_text_keeps_what_only_looks_like_a_tag() -> None:
    assert plain_text("1 <2, i <3 u, x<=y -> z") == "1 <2, i <3 u, x<=y -> z"


# What cannot be used


def test_unusable_pairs_are_skipped_with_their_files_and_reasons(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    xml_of(raw, 1).unlink()
    write(xml_of(raw, 2), ARTICLE.format(name="2", body="<text> </text>"))
    write(xml_of(raw, 26), xml_of(raw, 26).read_bytes()[:110])
    image_of(raw, 4).unlink()
    write(image_of(raw, 5), image_bytes()[:200])
    wikipedia(raw, out, build=LENIENT)
    reasons = skipped(out)
    expected = {
        1: f"{text_id(1)}.xml cannot be read",
        2: "only empty ones",
        26: f"{text_id(26)}.xml, line 4: <text> has no end",
        4: "img0004.jpg: cannot be read",
        5: "img0005.jpg: not an image",
    }
    assert reasons.keys() == {text_id(number) for number in expected}
    for number, reason in expected.items():
        assert reason in reasons[text_id(number)]
    assert len(samples(out)) == TRAIN + TEST - len(expected)
    # What is skipped keeps its place in the list: no other pair moves to another split.
    assert {source for source, sample in samples(out).items() if sample["split"] == "val"} == {text_id(28), text_id(27)}


@pytest.mark.slow
def test_too_many_unusable_pairs_fail_and_leave_no_dataset(raw: Path, tmp_path: Path) -> None:
    write(xml_of(raw, 7), "<text>")
    done = command(raw, tmp_path / "out", "--workers", 1)
    assert done.returncode == 2
    assert f"{xml_of(raw, 7)}, line 1" in done.stderr and "--max-skipped" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("split", "lines", "message"),
    [
        ("train", "a\tb\n", r"trainset_txt_img_cat\.list, line 1: wanted are a text id"),
        ("train", "a\tb\t1\n\na\tb\tart\n", r"trainset_txt_img_cat\.list, line 3: wanted are"),
        ("train", "../../a\tb\t1\n", r"line 1: wanted are"),
        ("train", "a\tb\t0\n", r"line 1: there is no category 0; categories\.list has 1 to 10"),
        ("test", "a\tb\t1\nc\td\t11\n", r"testset_txt_img_cat\.list, line 2: there is no category 11"),
        ("train", "a\tb\t1\na\tc\t2\n", r"line 2: the text a is already at .*trainset_txt_img_cat\.list, line 1"),
        ("test", f"{text_id(3)}\tb\t1\n", r"testset.*line 1: the text .* is already at .*trainset.*, line 4"),
        ("test", "\n", r"testset_txt_img_cat\.list is empty"),
        ("test", b"a\tb\t1\n\xff\tb\t1\n", r"testset_txt_img_cat\.list, line 2: not UTF-8"),
    ],
)
def test_a_bad_list_is_an_error_that_names_file_and_line(
    raw: Path, tmp_path: Path, split: str, lines: str | bytes, message: str
) -> None:
    write(raw / f"{split}set_txt_img_cat.list", lines)
    with pytest.raises(XmrError, match=message):
        wikipedia(raw, tmp_path / "out", build=ALONE)


@pytest.mark.parametrize("lines", ["art\nbiology\n", "1 art\n2 biology\n", "art & architecture\t1\r\nbiology\t2\r\n"])
def test_categories_may_be_numbered_and_have_long_names(tmp_path: Path, lines: str) -> None:
    assert read_categories(write(tmp_path / "categories.list", lines)) == ["art", "biology"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("art\n12\n", r"categories\.list, line 2: '12' names no category"),
        ("art\nmusic\nart\n", r"categories\.list, line 3: the category 'art' is already number 1"),
        ("\n", r"categories\.list holds no categories"),
    ],
)
def test_bad_categories_are_an_error_that_names_file_and_line(tmp_path: Path, lines: str, message: str) -> None:
    with pytest.raises(XmrError, match=message):
        read_categories(write(tmp_path / "categories.list", lines))


# What is missing


@pytest.mark.parametrize(
    "name", ["texts", "images", "trainset_txt_img_cat.list", "testset_txt_img_cat.list", "categories.list"]
)
def test_each_missing_piece_is_named_with_layout_and_publisher(raw: Path, tmp_path: Path, name: str) -> None:
    (raw / name).rename(tmp_path / "elsewhere")
    with pytest.raises(XmrError) as error:
        wikipedia(raw, tmp_path / "out", build=ALONE)
    message = str(error.value)
    assert f"holds no {name}" in message and "images/<category>/<image id>.jpg" in message
    assert "www.svcl.ucsd.edu/projects/crossmodal" in message
    assert not (tmp_path / "out").exists()


def test_missing_or_empty_raw_folder_names_the_layout(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, problem in (("nowhere", "nowhere does not exist"), ("empty", "empty is empty")):
        with pytest.raises(XmrError, match=rf"{problem}[^\0]*trainset_txt_img_cat\.list"):
            wikipedia(tmp_path / folder, tmp_path / "out")


def test_help_tells_the_splits_and_an_unknown_split_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_with(*arguments: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["builder", *arguments])
        with pytest.raises(SystemExit) as end:
            run(wikipedia)
        captured = capsys.readouterr()
        return end.value.code, " ".join((captured.out + captured.err).split())

    status, shown = run_with("--help")
    assert status == 0
    assert "Example: python -m preprocessing.wikipedia " in shown and "--splits {2173/231/462,2173/693}" in shown
    status, shown = run_with("raw", "out", "--splits", "2173/200/493")
    assert status == 2 and "2173/693" in shown
