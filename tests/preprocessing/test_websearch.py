"""INRIA Web Queries in its publisher's layout in miniature becomes shards or a clear error."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest

from preprocessing.common.command import run
from preprocessing.websearch.command import draw_published_splits, name_classes, select_documents, websearch
from preprocessing.websearch.files import Document, read_documents, read_queries, read_words
from tests.helpers.built import manifest, samples, write
from tests.helpers.raw_websearch import META, image_of, websearch_raw, xml_of
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import BuildOptions

ALONE = BuildOptions(workers=1)
LENIENT = BuildOptions(workers=1, max_skipped=0.5)


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "preprocessing.websearch", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


@pytest.fixture
def make_raw(tmp_path: Path) -> Callable[[Mapping[int, Sequence[int]]], Path]:
    return partial(websearch_raw, tmp_path / "webqueries")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return websearch_raw(tmp_path / "webqueries")


# Which documents, which splits


@pytest.mark.slow
def test_command_builds_the_relevant_documents_with_the_query_as_class(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = command(raw, out, "--workers", 1)
    assert done.returncode == 0, done.stderr
    found = samples(out)
    assert len(found) == 40 and "query_11_document_1" not in found and "query_150_document_11" not in found
    assert found["query_150_document_4"]["labels"] == ["query 150"]
    assert found["query_150_document_4"]["texts"] == ["words before 4\npage 150\na picture"]
    assert (manifest(out)["dataset"], manifest(out)["classes"]) == ("websearch", ["query 3", "query 11", "query 150"])
    # 40 x 1,332 / 14,698 = 3.6 and 40 x 4,366 / 14,698 = 11.9
    assert Counter(sample["split"] for sample in found.values()) == {"train": 24, "val": 4, "test": 12}
    notes = "\n".join(manifest(out)["notes"])
    assert "drawn with seed 0" in notes and "4 documents are irrelevant" in notes
    assert "40 documents of 3 queries instead of 14698 of 100" in notes and "9000/1332/4366" in notes


def test_only_the_100_queries_with_most_relevant_documents_are_used(
    make_raw: Callable[[Mapping[int, Sequence[int]]], Path], tmp_path: Path
) -> None:
    # Query 0 has most documents, but fewest relevant ones; of the equal rest, the last one comes too late.
    relevance = {0: [1] + [0] * 5, **{query: [1, 1] for query in range(1, 102)}, 102: [0, 0]}
    out = tmp_path / "out"
    websearch(make_raw(relevance), out, build=ALONE)
    assert {sample["labels"][0] for sample in samples(out).values()} == {f"query {query}" for query in range(1, 101)}
    assert len(manifest(out)["classes"]) == 100 and len(samples(out)) == 200


def test_of_14698_documents_the_splits_are_exactly_the_published_ones() -> None:
    sizes = {query: 60 + query * 37 % 160 for query in range(99)}
    sizes[99] = 14_698 - sum(sizes.values())
    assert sizes[99] > 50
    documents = [Document(query, number) for query, size in sizes.items() for number in range(size)]
    split_of = draw_published_splits(documents, seed=0)
    assert split_of.keys() == set(documents)
    assert Counter(split_of.values()) == {"train": 9_000, "val": 1_332, "test": 4_366}
    for query, size in sizes.items():
        counts = Counter(split_of[Document(query, number)] for number in range(size))
        for split, total in {"train": 9_000, "val": 1_332, "test": 4_366}.items():
            assert abs(counts[split] - size * total / 14_698) <= 2


def test_splits_depend_on_the_seed_and_not_on_the_order_of_documents() -> None:
    documents = [Document(query, number) for query in range(5) for number in range(30)]
    drawn = draw_published_splits(documents, seed=1)
    assert draw_published_splits(documents[::-1], seed=1) == drawn
    assert draw_published_splits(documents, seed=2) != drawn


def test_splits_are_not_in_the_order_of_document_ids() -> None:
    split_of = draw_published_splits([Document(1, number) for number in range(200)], seed=0)
    tested = [document.number for document, split in split_of.items() if split == "test"]
    assert len(tested) == 59
    assert min(tested) < 40 and max(tested) > 160


def test_another_seed_of_the_command_draws_other_splits(raw: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        websearch(raw, tmp_path / f"out{seed}", seed=seed, build=ALONE)
    splits = [{name: item["split"] for name, item in samples(tmp_path / f"out{seed}").items()} for seed in (0, 1)]
    assert splits[0].keys() == splits[1].keys() and splits[0] != splits[1]


def test_queries_with_one_translation_are_told_apart() -> None:
    names = name_classes([9, 2, 5], {2: "mouse", 5: "cat", 9: "mouse", 11: "cat"})
    assert list(names.items()) == [(2, "mouse (2)"), (5, "cat"), (9, "mouse (9)")]


def test_equal_queries_go_by_their_ids() -> None:
    documents = {Document(query, 0): True for query in reversed(range(150))}
    assert {document.query for document in select_documents(documents)} == set(range(100))


# Files


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('150 "trumpet"', "trumpet"),
        ('150 " Eiffel  tower "', "Eiffel  tower"),
        ("150\ttrumpet", "trumpet"),
        ("150 Zinedine Zidane\r", "Zinedine Zidane"),
        ("150 10 Downing Street", "10 Downing Street"),
    ],
)
def test_queries_are_read_with_and_without_quotes(tmp_path: Path, line: str, name: str) -> None:
    assert read_queries(write(tmp_path / "q.txt", f"{line}\n")) == {150: name}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_queries_may_be_in_an_old_encoding(tmp_path: Path, encoding: str) -> None:
    assert read_queries(write(tmp_path / "q.txt", '7 "café"\n'.encode(encoding))) == {7: "café"}


def test_words_are_those_of_the_page_without_its_markup(tmp_path: Path) -> None:
    meta = META.format(
        concept="chat",
        rank=1,
        before="Tom &lt;b&gt;and&lt;/b&gt; Jerry &amp;amp; co",
        title="All things <i>Chill</i> » Blog & more",
        alt="<![CDATA[the <u>cat</u>]]>",
    )
    text = read_words(write(tmp_path / "a.xml", meta))
    assert text == "Tom and Jerry & co\nAll things Chill » Blog & more\nthe cat"


def test_documents_without_words_or_image_are_skipped_with_file_and_reason(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(xml_of(raw, 3, 0), META.format(concept="chat", rank=1, before="", title="&#160;", alt=""))
    write(xml_of(raw, 3, 1), xml_of(raw, 3, 1).read_bytes().partition(b"</ptitle>")[0])
    xml_of(raw, 3, 2).unlink()
    image_of(raw, 3, 3).unlink()
    write(image_of(raw, 3, 4), b"")
    xml_of(raw, 11, 1).unlink()  # not relevant, so not missed
    websearch(raw, out, build=LENIENT)
    reasons = {item["source"]: item["reason"] for item in manifest(out)["skipped"]}
    expected = {
        "query_3_document_0": "has no words in before, after, ptitle, alt",
        "query_3_document_1": "query_3_document_1_textmeta.xml, line 6: <ptitle> has no end",
        "query_3_document_2": "query_3_document_2_textmeta.xml cannot be read",
        "query_3_document_3": "query_3_document_3_imagethumb.jpg: cannot be read",
        "query_3_document_4": "query_3_document_4_imagethumb.jpg: the file is empty",
    }
    assert reasons.keys() == expected.keys()
    for source, reason in expected.items():
        assert reason in reasons[source]
    assert len(samples(out)) == 35


def test_mending_a_skipped_document_moves_no_other_to_another_split(raw: Path, tmp_path: Path) -> None:
    whole = xml_of(raw, 3, 5).read_bytes()
    write(xml_of(raw, 3, 5), "")
    websearch(raw, tmp_path / "before", build=LENIENT)
    write(xml_of(raw, 3, 5), whole)
    websearch(raw, tmp_path / "after", build=LENIENT)
    before, after = samples(tmp_path / "before"), samples(tmp_path / "after")
    assert after.keys() - before.keys() == {"query_3_document_5"}
    assert all(after[source]["split"] == before[source]["split"] for source in before)


@pytest.mark.slow
def test_too_many_unusable_documents_fail_and_leave_no_dataset(raw: Path, tmp_path: Path) -> None:
    write(xml_of(raw, 3, 0), "no XML")
    done = command(raw, tmp_path / "out", "--workers", 1)
    assert done.returncode == 2
    assert str(xml_of(raw, 3, 0)) in done.stderr and "--max-skipped" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("3 0 1\n3 1\n", r"labels\.txt, line 2: wanted are a query id, a document id and 0 or 1, not '3 1'"),
        ("3 0 2\n", r"labels\.txt, line 1: wanted are"),
        ("3 x 1\n", r"labels\.txt, line 1: wanted are"),
        ("\n3 0 1\n4 0 1\n", r"labels\.txt, line 3: query 4 is not in queries_en_trans\.txt"),
        ("3 0 1\n3 00 0\n", r"labels\.txt, line 2: document 0 of query 3 is on an earlier line"),
        ("3 0 0\n", r"calls no document relevant"),
        ("", r"calls no document relevant"),
        (b"3 0 1\n\xff\n", r"labels\.txt, line 2: not UTF-8"),
    ],
)
def test_bad_labels_are_an_error_that_names_file_and_line(
    raw: Path, tmp_path: Path, lines: str | bytes, message: str
) -> None:
    write(raw / "labels.txt", lines)
    with pytest.raises(XmrError, match=message):
        websearch(raw, tmp_path / "out", build=ALONE)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('3 "cat"\ntrumpet\n', r"queries\.txt, line 2: wanted are a query id and the query, not 'trumpet'"),
        ('3 ""\n', r"queries\.txt, line 1: wanted are"),
        ('3 "cat"\n3 "dog"\n', r"queries\.txt, line 2: query 3 is already 'cat'"),
    ],
)
def test_bad_queries_are_an_error_that_names_file_and_line(tmp_path: Path, lines: str, message: str) -> None:
    with pytest.raises(XmrError, match=message):
        read_queries(write(tmp_path / "queries.txt", lines))


def test_labels_give_each_document_its_relevance(tmp_path: Path) -> None:
    path = write(tmp_path / "labels.txt", "150 0 1\r\n150\t1  0\n\n7 0 1")
    assert read_documents(path, {7, 150}) == {Document(150, 0): True, Document(150, 1): False, Document(7, 0): True}


# What is missing


@pytest.mark.parametrize("name", ["labels.txt", "queries_en_trans.txt", "images", "metadata"])
def test_each_missing_piece_is_named_with_layout_and_publisher(raw: Path, tmp_path: Path, name: str) -> None:
    (raw / name).rename(tmp_path / "elsewhere")
    with pytest.raises(XmrError) as error:
        websearch(raw, tmp_path / "out", build=ALONE)
    message = str(error.value)
    assert f"holds no {name}" in message and "metadata/query_<q>_document_<d>_textmeta.xml" in message
    assert "lear.inrialpes.fr" in message
    assert not (tmp_path / "out").exists()


def test_missing_or_empty_raw_folder_names_the_layout(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, problem in (("nowhere", "nowhere does not exist"), ("empty", "empty is empty")):
        with pytest.raises(XmrError, match=rf"{problem}[^\0]*labels\.txt"):
            websearch(tmp_path / folder, tmp_path / "out")


def test_help_tells_the_splits_and_an_unknown_option_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_with(*arguments: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["builder", *arguments])
        with pytest.raises(SystemExit) as end:
            run(websearch)
        captured = capsys.readouterr()
        return end.value.code, " ".join((captured.out + captured.err).split())

    status, shown = run_with("--help")
    assert status == 0
    assert "Example: python -m preprocessing.websearch " in shown and "9,000/1,332/4,366" in shown
    status, shown = run_with("raw", "out", "--sead", "1")
    assert status == 2 and "--seed" in shown
