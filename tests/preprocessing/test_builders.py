"""Each publisher's layout in miniature, with what people and publishers get wrong, becomes shards or a clear error."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from preprocessing.common.command import run
from preprocessing.common.splits import draw_splits
from preprocessing.flickr.command import flickr
from preprocessing.folder.command import folder
from preprocessing.pascal_sentence.command import pascal_sentence
from preprocessing.pascal_sentence.page import parse_page
from preprocessing.synthetic.__main__ import synthetic
from tests.helpers.builders import ALONE, LENIENT, command, flickr8k_raw, pascal_raw, skipped, splits
from tests.helpers.built import UNLABELLED, image_bytes, manifest, samples, write
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import BuildOptions

Sample = dict[str, Any]


# Splits


@pytest.mark.parametrize(
    ("count", "val", "test", "expected"),
    [
        (50, 0.1, 0.1, {"train": 40, "val": 5, "test": 5}),
        (50, 0.0, 0.2, {"train": 40, "test": 10}),
        (10, 0.1, 0.1, {"train": 8, "val": 1, "test": 1}),
        (4, 0.1, 0.1, {"train": 2, "val": 1, "test": 1}),
        (2, 0.1, 0.1, {"train": 2}),
    ],
)
def test_each_class_is_split_by_itself(count: int, val: float, test: float, expected: dict[str, int]) -> None:
    class_of = {f"{name}/{i}": name for name in ("cat", "dog") for i in range(count)}
    drawn = draw_splits(class_of, val=val, test=test, seed=0)
    for name in ("cat", "dog"):
        assert Counter(split for source, split in drawn.items() if source.startswith(name)) == expected


def test_a_drawn_split_depends_on_seed_and_not_on_order_or_other_classes() -> None:
    cats = {f"cat/{i}": "cat" for i in range(40)}
    dogs = {f"dog/{i}": "dog" for i in range(40)}
    alone = draw_splits(cats, val=0.2, test=0.2, seed=3)
    together = draw_splits({**dogs, **dict(reversed(cats.items()))}, val=0.2, test=0.2, seed=3)
    assert {source: together[source] for source in cats} == alone
    assert draw_splits(cats, val=0.2, test=0.2, seed=4) != alone


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (-0.1, 0.1)])
def test_fractions_must_leave_something_to_train_on(val: float, test: float) -> None:
    with pytest.raises(XmrError, match="less than 1"):
        draw_splits({"a": ""}, val=val, test=test, seed=0)


# Pascal Sentence


@pytest.fixture
def pascal(tmp_path: Path) -> Callable[..., Path]:
    return partial(pascal_raw, tmp_path / "raw")


def test_page_with_and_without_end_tags_gives_the_same_entries() -> None:
    sloppy = (
        "<table><TR><TD><IMG SRC='cat/1.jpg'><TD><TABLE><TR><TD>A  cat\n sits.<TR><td>It &lt;sleeps&gt;<br>now</table>"
    )
    tidy = (
        '<table><tr><td><img src="http://host/pascal/cat/1.jpg"/></td><td><table><tr><td>A cat sits.</td></tr>'
        "<tr><td>It &lt;sleeps&gt; now</td></tr></table></td></tr></table><p>After the table.</p>"
    )
    for html in (sloppy, tidy):
        (entry,) = parse_page(html).entries
        assert (entry.source, entry.sentences) == ("cat/1.jpg", ["A cat sits.", "It <sleeps> now"])


@pytest.mark.slow
def test_pascal_command_builds_the_usual_splits(pascal: Callable[..., Path], tmp_path: Path) -> None:
    raw, out = pascal(per_class=50), tmp_path / "out"
    done = command("pascal_sentence", raw, out)
    assert done.returncode == 0, done.stderr
    document = manifest(out)
    assert (document["dataset"], document["classes"]) == ("pascal_sentence", ["aeroplane", "cat"])
    for split, count in {"train": 40, "val": 5, "test": 5}.items():
        assert document["splits"][split]["labels"] == {"aeroplane": count, "cat": count}
    sample = samples(out)["cat/2008_000003.jpg"]
    assert sample["texts"] == [f"A cat, number 3 & {k}." for k in range(5)]
    assert sample["labels"] == ["cat"]


def test_pascal_800_200_has_no_val(pascal: Callable[..., Path], tmp_path: Path) -> None:
    pascal_sentence(pascal(per_class=50), tmp_path / "out", splits="800/200", build=ALONE)
    assert splits(tmp_path / "out") == {"train": 80, "test": 20}


def test_pascal_keeps_entries_with_four_or_six_sentences_and_notes_them(
    pascal: Callable[..., Path], tmp_path: Path
) -> None:
    raw = pascal(sentences={"cat/2008_000001.jpg": 4, "cat/2008_000002.jpg": 6})
    pascal_sentence(raw, tmp_path / "out", build=ALONE)
    found = samples(tmp_path / "out")
    assert [len(found[f"cat/2008_00000{i}.jpg"]["texts"]) for i in (1, 2, 3)] == [4, 6, 5]
    assert [note.split(",")[0] for note in manifest(tmp_path / "out")["notes"]] == [
        "cat/2008_000001.jpg: 4 sentences instead of 5",
        "cat/2008_000002.jpg: 6 sentences instead of 5",
    ]


def test_pascal_skips_and_lists_unusable_entries(pascal: Callable[..., Path], tmp_path: Path) -> None:
    raw, out = pascal(sentences={"cat/2008_000007.jpg": 0}), tmp_path / "out"
    write(raw / "cat/2008_000001.jpg", b"")
    (raw / "cat/2008_000002.jpg").unlink()
    write(raw / "cat/unlisted.jpg", image_bytes())
    pascal_sentence(raw, out, build=LENIENT)
    assert skipped(out).keys() == {f"cat/2008_00000{i}.jpg" for i in (1, 2, 7)}
    assert len(samples(out)) == 17
    assert any("1 images are not on the page" in note and "unlisted.jpg" in note for note in manifest(out)["notes"])


@pytest.mark.slow
def test_too_many_unusable_entries_fail_and_leave_no_dataset(pascal: Callable[..., Path], tmp_path: Path) -> None:
    raw, out = pascal(), tmp_path / "out"
    write(raw / "cat/2008_000001.jpg", b"")
    done = command("pascal_sentence", raw, out, "--max-skipped", 0.01)
    assert done.returncode == 2
    assert "cat/2008_000001.jpg" in done.stderr and "Traceback" not in done.stderr
    assert not (out / "manifest.json").exists()


def test_pascal_marks_a_synthetic_page(pascal: Callable[..., Path], tmp_path: Path) -> None:
    raw = pascal(head='<meta name="generator" content="xmr_e2e synthetic">')
    pascal_sentence(raw, tmp_path / "out", build=ALONE)
    assert manifest(tmp_path / "out")["dataset"] == "synthetic (Pascal Sentence layout)"


def test_pascal_reads_a_saved_page_of_another_name_in_cp1252(pascal: Callable[..., Path], tmp_path: Path) -> None:
    raw = pascal()
    page = (raw / "index.html").read_text().replace("A cat, number 3 &amp; 0.", "A café.")
    (raw / "index.html").unlink()
    write(raw / "Pascal sentences.htm", page.encode("cp1252"))
    pascal_sentence(raw, tmp_path / "out", build=ALONE)
    assert samples(tmp_path / "out")["cat/2008_000003.jpg"]["texts"][0] == "A café."


def test_pascal_page_naming_an_image_twice_is_a_duplicate(pascal: Callable[..., Path], tmp_path: Path) -> None:
    raw = pascal()
    page = (raw / "index.html").read_text()
    write(raw / "index.html", page.replace("2008_000002", "2008_000001"))
    with pytest.raises(XmrError, match=r"duplicate.*2008_000001"):
        pascal_sentence(raw, tmp_path / "out", build=ALONE)


# What is missing


@pytest.mark.parametrize("builder", [pascal_sentence, flickr, folder])
def test_missing_or_empty_raw_folder_names_the_layout(builder: Callable[..., None], tmp_path: Path) -> None:
    with pytest.raises(XmrError, match=r"nowhere does not exist.*\n(.*\n)*.*\.jpg|Flicker8k_Dataset"):
        builder(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "raw").mkdir()
    with pytest.raises(XmrError, match=r"raw is empty.*expected as"):
        builder(tmp_path / "raw", tmp_path / "out")
    write(tmp_path / "raw/readme.txt", "nothing of use")
    with pytest.raises(XmrError, match=r"holds no.*expected as"):
        builder(tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_pascal_without_its_page_says_where_to_get_it_or_draw_it(tmp_path: Path) -> None:
    write(tmp_path / "raw/cat/1.jpg", image_bytes())
    done = command("pascal_sentence", tmp_path / "raw", tmp_path / "out")
    assert done.returncode == 2
    assert "vision.cs.uiuc.edu/pascal-sentences" in done.stderr and "preprocessing.synthetic" in done.stderr
    write(tmp_path / "raw/index.html", "<html>An unrelated page</html>")
    with pytest.raises(XmrError, match=r"no <img.*index\.html"):
        pascal_sentence(tmp_path / "raw", tmp_path / "out")


@pytest.mark.parametrize("builder", [pascal_sentence, flickr, folder, synthetic])
def test_unknown_option_is_refused_and_help_shows_an_example(
    builder: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_with(*arguments: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["builder", *arguments])
        with pytest.raises(SystemExit) as end:
            run(builder)
        captured = capsys.readouterr()
        return end.value.code, " ".join((captured.out + captured.err).split())

    status, shown = run_with("raw", "out", "--worker", "2")
    assert status == 2
    assert "Unrecognized options" in shown and "Perhaps you meant" in shown and "--workers" in shown
    status, shown = run_with("--help")
    assert status == 0
    assert f"Example: python -m preprocessing.{builder.__name__} " in shown


# Flickr8k and Flickr30k


@pytest.fixture
def flickr8k(tmp_path: Path) -> Path:
    return flickr8k_raw(tmp_path / "raw")


def test_flickr8k_without_labels_has_the_published_splits(flickr8k: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flickr(flickr8k, out, build=ALONE)
    assert splits(out) == {"train": 6, "val": 2, "test": 1}
    assert manifest(out)["classes"] == [] and manifest(out)["dataset"] == "flickr8k"
    assert samples(out)["3_a.jpg"]["texts"] == [f"Caption {k} of 3, with a comma ." for k in range(5)]
    assert manifest(out)["notes"] == [UNLABELLED, "1 images are in no split, not used"]


@pytest.mark.slow
def test_flickr_command_takes_images_splits_and_labels_of_the_table(flickr8k: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = ["0_a.jpg,train,a dog", "1_a.jpg,train,sea", "6_a.jpg,dev,sea", "8_a.jpg,test,a dog", "9_a.jpg,,sea"]
    table = write(tmp_path / "labels.csv", "image,split,label\n" + "\n".join(rows) + "\n\n")
    done = command("flickr", flickr8k, out, "--labels", table, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert manifest(out)["classes"] == ["a dog", "sea"]
    found = samples(out)
    assert {name: sample["split"] for name, sample in found.items()} == {
        "0_a.jpg": "train", "1_a.jpg": "train", "6_a.jpg": "val", "8_a.jpg": "test",
    }  # fmt: skip
    assert found["0_a.jpg"]["labels"] == ["a dog"]
    assert manifest(out)["notes"] == ["1 images of the label table have no split, not used"]


def test_flickr_labels_column_holds_several_classes(flickr8k: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    table = "image,split,labels\n0_a.jpg,train,dog sea\n1_a.jpg,test,\n6_a.jpg,val,snow\n7_a.jpg,train,sea\n"
    flickr(flickr8k, out, labels=write(tmp_path / "labels.csv", table), build=ALONE)
    assert samples(out)["0_a.jpg"]["labels"] == ["dog", "sea"]
    assert manifest(out)["multi_label"] and "1_a.jpg" not in samples(out)
    # 7_a.jpg is published as dev.
    assert [note.split(" images ")[0] for note in manifest(out)["notes"]] == ["1", "1"]
    assert any("another split" in note for note in manifest(out)["notes"])


def test_flickr_skips_images_without_captions_or_file(flickr8k: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (flickr8k / "Flicker8k_Dataset/1_a.jpg").unlink()
    write(flickr8k / "Flicker8k_Dataset/2_a.jpg", image_bytes()[:200])
    table = "image,split,label\n0_a.jpg,train,sea\n1_a.jpg,train,sea\n2_a.jpg,train,sea\nnone.jpg,train,sea\n"
    flickr(flickr8k, out, labels=write(tmp_path / "labels.csv", table), build=BuildOptions(workers=1, max_skipped=0.8))
    assert samples(out).keys() == {"0_a.jpg"}
    assert skipped(out).keys() == {"1_a.jpg", "2_a.jpg", "none.jpg"}
    assert skipped(out)["none.jpg"] == "has no captions"


def test_flickr_repairs_numbered_names_and_notes_broken_caption_lines(flickr8k: Path, tmp_path: Path) -> None:
    out, tokens = tmp_path / "out", flickr8k / "Flickr8k.token.txt"
    text = tokens.read_text().replace("3_a.jpg#", "3_a.jpg.1#")
    write(tokens, text + "4_a.jpg.1#0\tAnother caption .\nno caption\n4_a.jpg#7\t\n")
    flickr(flickr8k, out, build=ALONE)
    found = samples(out)
    assert len(found["3_a.jpg"]["texts"]) == len(found["4_a.jpg"]["texts"]) == 5
    notes = "\n".join(manifest(out)["notes"])
    assert "line 52: no caption line" in notes
    assert "3_a.jpg.1 taken for 3_a.jpg" in notes and "4_a.jpg.1 left out" in notes


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,label\n0_a.jpg,sea\n", r"labels\.csv: the columns are image, label; wanted are image, split,"),
        ("image,split\n0_a.jpg,train\n", "wanted are image, split, and either label or labels"),
        ("", "is empty: the first line must name the columns"),
        ("image,split,label\n0_a.jpg,training,sea\n", r"line 2: split 'training' is none of train"),
        ("image,split,label\n0_a.jpg,train,sea,sand\n", "line 2: 4 values for 3 columns"),
        ("image,split,label\n0_a.jpg,train,sea\n0_a.jpg,test,sea\n", "line 2 and line 3: duplicate sample '0_a.jpg'"),
    ],
)
def test_bad_label_table_is_an_error_that_names_it(flickr8k: Path, tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(XmrError, match=message):
        flickr(flickr8k, tmp_path / "out", labels=write(tmp_path / "labels.csv", table), build=ALONE)


def test_an_image_in_two_published_splits_is_an_error(flickr8k: Path, tmp_path: Path) -> None:
    write(flickr8k / "Flickr_8k.testImages.txt", "0_a.jpg\n")
    with pytest.raises(XmrError, match=r"testImages.txt: 0_a.jpg is in the split 'test' and in 'train'"):
        flickr(flickr8k, tmp_path / "out", build=ALONE)


@pytest.mark.parametrize("form", ["token", "csv"])
def test_flickr30k_reads_both_caption_files_and_karpathys_splits(tmp_path: Path, form: str) -> None:
    raw, out, names = tmp_path / "raw", tmp_path / "out", ["1.jpg", "2.jpg", "3.jpg"]
    for name in names:
        write(raw / "flickr30k-images" / name, image_bytes())
    if form == "token":
        lines = [f"{name}#{k}\tA | caption, {k} ." for name in names for k in (1, 0)]
        write(raw / "results_20130124.token", "\n".join(lines))
    else:
        lines = [f"{name}| {k}| A | caption, {k} ." for name in names for k in (1, 0)]
        write(
            raw / "results.csv", "\n".join(["image_name| comment_number| comment", *lines, "3.jpg| 4   A broken row ."])
        )
    with pytest.raises(XmrError, match=r"dataset_flickr30k\.json.*--labels"):
        flickr(raw, out, build=ALONE)
    images = [{"filename": name, "split": split} for name, split in zip(names, ("train", "val", "test"))]
    write(raw / "dataset_flickr30k.json", json.dumps({"images": images, "dataset": "flickr30k"}))
    flickr(raw, out, build=ALONE)
    assert splits(out) == {"train": 1, "val": 1, "test": 1}
    assert samples(out)["2.jpg"]["texts"] == ["A | caption, 0 .", "A | caption, 1 ."]
    assert len(manifest(out)["notes"]) == 1 + (form == "csv")


# Your own data


@pytest.mark.slow
def test_folder_command_reads_csv_with_commas_quotes_and_other_scripts(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    for red, name in enumerate(("zażółć.jpg", "sub/猫.jpg", "plain.jpg")):
        write(raw / name, image_bytes((80 * red, 120, 60)))
    table = (
        "\ufeffImage,Text2,text,labels,split,author\r\n"
        'zażółć.jpg,"said ""hello"", and left",one,pies; kot,train,me\r\n'
        "\r\n"
        "sub/猫.jpg,,一只猫,kot,val,me\r\n"
        'plain.jpg,"two\nlines",first,pies,test,me\r\n'
    )
    done = command("folder", raw, out, "--table", write(tmp_path / "table.csv", table), "--workers", 1)
    assert done.returncode == 0, done.stderr
    found = samples(out)
    assert found["zażółć.jpg"]["texts"] == ["one", 'said "hello", and left']
    assert found["zażółć.jpg"]["labels"] == ["pies", "kot"]
    assert found["sub/猫.jpg"]["texts"] == ["一只猫"]
    assert {name: sample["split"] for name, sample in found.items()} == {
        "zażółć.jpg": "train", "sub/猫.jpg": "val", "plain.jpg": "test",
    }  # fmt: skip
    assert manifest(out)["classes"] == ["kot", "pies"]
    assert manifest(out)["notes"] == ["table.csv: columns not used: author"]


def test_folder_jsonl_holds_lists_and_draws_splits_per_class(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    lines = []
    for i in range(20):
        write(raw / f"{i}.png", image_bytes(kind="PNG"))
        label = "even" if i % 2 == 0 else "odd"
        lines.append(json.dumps({"image": f"{i}.png", "captions": [f"number {i}", "a number"], "label": label}))
    table = write(tmp_path / "table.jsonl", "\n\n".join(lines))
    folder(raw, out, table=table, val=0.2, test=0.1, build=ALONE)
    counts = Counter((sample["labels"][0], sample["split"]) for sample in samples(out).values())
    for label in ("even", "odd"):
        assert [counts[label, split] for split in ("train", "val", "test")] == [7, 2, 1]
    assert samples(out)["4.png"]["texts"] == ["number 4", "a number"]


def test_folder_reads_class_folders_with_a_text_beside_each_image(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    for name in ("dog", "cat"):
        for i in range(5):
            write(raw / name / f"{i}.jpg", image_bytes((40 * i, 0, 90 if name == "dog" else 0)))
            write(raw / name / f"{i}.txt", f"a {name}\n\nnumber {i}\n")
    (raw / "cat/4.txt").unlink()
    write(raw / "stray.jpg", image_bytes())
    folder(raw, out, val=0.2, test=0.2, build=LENIENT)
    assert manifest(out)["dataset"] == "raw" and manifest(out)["classes"] == ["cat", "dog"]
    assert samples(out)["dog/3.jpg"]["texts"] == ["a dog", "number 3"]
    assert samples(out)["dog/3.jpg"]["labels"] == ["dog"]
    assert "there is no 4.txt beside it" in skipped(out)["cat/4.jpg"]
    assert manifest(out)["notes"] == ["1 images are in no class folder and not used, such as stray.jpg"]


def test_mending_an_unusable_sample_moves_no_other_to_another_split(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for i in range(12):
        write(raw / "dog" / f"{i}.jpg", image_bytes())
        write(raw / "dog" / f"{i}.txt", "a dog")
    (raw / "dog/7.txt").unlink()
    folder(raw, tmp_path / "before", val=0.25, test=0.25, build=LENIENT)
    write(raw / "dog/7.txt", "a dog")
    folder(raw, tmp_path / "after", val=0.25, test=0.25, build=LENIENT)
    before, after = samples(tmp_path / "before"), samples(tmp_path / "after")
    assert after.keys() - before.keys() == {"dog/7.jpg"}
    assert all(after[source]["split"] == before[source]["split"] for source in before)


def test_odd_images_are_used_and_broken_ones_listed(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good = {
        "png.jpg": image_bytes(kind="PNG"),
        "bmp.jpg": image_bytes(kind="BMP"),
        "cmyk.jpg": image_bytes(mode="CMYK"),
        "grey.jpg": image_bytes(mode="L"),
        "rgba.png": image_bytes(kind="PNG", mode="RGBA"),
    }
    broken = {"empty.jpg": b"", "cut.jpg": image_bytes()[:150], "text.jpg": b"no image"}
    for name, data in {**good, **broken}.items():
        write(raw / name, data)
    rows = [f"{name},a picture" for name in [*good, *broken, "missing.jpg"]] + ["grey2.jpg, "]
    write(raw / "grey2.jpg", good["grey.jpg"])
    table = write(tmp_path / "table.csv", "\n".join(["image,text", *rows]))
    folder(raw, out, table=table, val=0, test=0, build=BuildOptions(workers=1, max_skipped=0.6))
    assert samples(out).keys() == good.keys()
    assert skipped(out).keys() == {*broken, "missing.jpg", "grey2.jpg"}
    assert "no text" in skipped(out)["grey2.jpg"]


def test_a_label_in_no_class_list_is_skipped_with_its_name(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    for i in range(3):
        write(raw / f"{i}.jpg", image_bytes())
    table = write(tmp_path / "t.csv", "image,text,label,split\n" + "".join(
        f"{i}.jpg,text,{label},train\n" for i, label in enumerate(("dog", "cat", "unicorn"))
    ))  # fmt: skip
    folder(raw, out, table=table, classes=write(tmp_path / "classes.txt", "dog\ncat\n\nhorse\n"), build=LENIENT)
    assert manifest(out)["classes"] == ["dog", "cat", "horse"]
    assert "unicorn" in skipped(out)["2.jpg"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "file,text\na.jpg,one\n", r"t\.csv: the columns are file, text; wanted are image, text"),
        ("t.csv", "image,title\na.jpg,dog\n", r"t\.csv: the columns are image, title; wanted are image, text"),
        ("t.csv", "image,text,text\na.jpg,1,2\n", "'text' is named twice"),
        ("t.csv", "image,text\na.jpg,one, two\n", r"line 2: 3 values for 2 columns"),
        ("t.csv", 'image,text\na.jpg,"one\n', r"t\.csv, line 2: .*quotes"),
        ("t.csv", b"image,text\na.jpg,one\nb.jpg,caf\xe9\n", r"t\.csv, line 3: not UTF-8"),
        ("t.csv", "image,text,label\n,,dog\n", r"line 2: nothing stands in image, text"),
        ("t.csv", "image,text\n", "holds no image"),
        ("t.csv", "image,text,split\na.jpg,one,train\nb.jpg,two,\n", r"line 2 has a split, but .*line 3 has none"),
        ("t.csv", "image,text,split\na.jpg,one,dev2\n", r"line 2: split 'dev2'"),
        ("t.jsonl", '{"image": "a.jpg", "text": "one"}\n{"image":\n', r"t\.jsonl, line 2: not JSON"),
        ("t.jsonl", '["a.jpg"]\n', r"t\.jsonl, line 1: not a JSON object"),
        ("t.jsonl", '{"image": "a.jpg", "text": {"en": "one"}}\n', r'line 1: "text" must be a string'),
        ("t.jsonl", '{"image": 3, "text": "one"}\n', r'line 1: "image" must be'),
        ("t.xlsx", "", r"must be a \.csv or a \.jsonl"),
    ],
)
def test_bad_table_is_an_error_that_names_it(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    for image in ("a.jpg", "b.jpg"):
        write(tmp_path / "raw" / image, image_bytes())
    with pytest.raises(XmrError, match=message):
        folder(tmp_path / "raw", tmp_path / "out", table=write(tmp_path / name, content), build=ALONE)


def test_a_text_that_is_not_utf8_names_file_and_line(tmp_path: Path) -> None:
    write(tmp_path / "raw/dog/1.jpg", image_bytes())
    write(tmp_path / "raw/dog/1.txt", b"a dog\na caf\xe9\n")
    with pytest.raises(XmrError, match=r"1\.txt, line 2: not UTF-8"):
        folder(tmp_path / "raw", tmp_path / "out", build=ALONE)


def test_a_class_listed_twice_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "raw/dog/1.jpg", image_bytes())
    write(tmp_path / "raw/dog/1.txt", "a dog")
    with pytest.raises(XmrError, match=r"line 3: the class 'dog' is already on line 1"):
        folder(tmp_path / "raw", tmp_path / "out", classes=write(tmp_path / "classes.txt", "dog\ncat\ndog\n"))
