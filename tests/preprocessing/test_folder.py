"""Tables and class folders as strangers have them: read, or named in one line; nothing is passed over in silence."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from preprocessing.common.splits import draw_splits
from preprocessing.common.tables import numbered_lines
from preprocessing.common.tags import tag_lines
from preprocessing.folder.class_folders import samples_of_folders
from preprocessing.folder.columns import Columns
from preprocessing.folder.command import folder
from preprocessing.folder.copies import find_copies
from preprocessing.folder.drawn import Fractions, with_splits
from preprocessing.folder.found import Found
from preprocessing.folder.table_samples import samples_of_table
from tests.helpers.built import UNLABELLED, manifest, write
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import BuildOptions
from xmr_e2e.shards.schema import split_member_name

IMAGES = [f"{name}/{number}.jpg" for name in ("dog", "sea") for number in range(10)]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Class folders whose pictures all differ; they are not pictures at all, for those who do not decode them."""
    for number, image in enumerate(IMAGES):
        write(tmp_path / "raw" / image, f"picture {number}")
        write((tmp_path / "raw" / image).with_suffix(".txt"), f"a text of {image}")
    return tmp_path / "raw"


def table_of(raw: Path, content: str | bytes, name: str = "t.csv", chosen: Columns = Columns()) -> Found:
    return samples_of_table(raw, write(raw.parent / name, content), chosen)


def csv(header: str, row: str, end: str = "\n") -> str:
    """A row for each image, in which {i} is its path, {c} its class and {n} its number."""
    lines = [row.format(i=image, c=image[:3], n=number) for number, image in enumerate(IMAGES)]
    return end.join([header, *lines, ""])


def splits_of(found: Found) -> dict[str, str]:
    return {sample.source: sample.split for sample in found.samples}


# ---- class folders


def test_what_is_not_used_is_counted_and_named(raw: Path) -> None:
    for name in ("dog/h.HEIC", "dog/more/0.jpg", "sea/k.avif", "sea/j.jfif", "sea/x.JPE", "fox/0.heic", "sea/two.png"):
        write(raw / name, name)
        write((raw / name).with_suffix(".txt"), "a text")
    write(raw / "sea/two.jpg", "another")
    write(raw / "sea/UP.JPG", "upper")
    write(raw / "sea/UP.TXT", "in capitals")
    write(raw / "dog/alone.txt", "no picture")
    write(raw / "dog/notes.json", "{}")
    write(raw / "dog/a\nb.xml", "a name of two lines")
    write(raw / "top.heic", "a stray one")
    (raw / "dog/folder.jpg").mkdir()
    os.mkfifo(raw / "dog/pipe.jpg")  # who reads it waits for ever
    found = samples_of_folders(raw)
    assert {sample.source for sample in found.samples} - {*IMAGES} == {
        "sea/j.jfif", "sea/x.JPE", "sea/two.png", "sea/two.jpg", "sea/UP.JPG",
    }  # fmt: skip
    assert next(sample for sample in found.samples if "UP" in sample.source).texts == ("in capitals",)
    assert sorted(found.notes) == [
        "1 entries are neither files nor folders and not used, such as dog/pipe.jpg",
        "1 files in .json are of no kind that is read and not used, such as dog/notes.json",
        "1 files in .xml are of no kind that is read and not used, such as dog/a\\nb.xml",
        "1 folders hold no file that is read, and are no classes, such as fox",
        "1 pictures have a text with others of the same name and stay in their split, such as "
        "sea/two.jpg and sea/two.png",
        "1 pictures in .avif are not read and not used; convert them to JPEG, such as sea/k.avif",
        "1 texts have no picture beside them, such as dog/alone.txt",
        "2 folders lie within class folders and are not read, such as dog/folder.jpg",
        "3 pictures in .heic are not read and not used; convert them to JPEG, such as dog/h.HEIC",
    ]
    assert found.together == [["sea/two.jpg", "sea/two.png"]]


def test_hidden_files_and_those_of_a_system_change_nothing(raw: Path) -> None:
    before = with_splits(samples_of_folders(raw), raw, Fractions(seed=3))
    for image in IMAGES:
        write(raw / image.replace("/", "/._"), b"\x00\x05\x16\x07")
    for name in ("dog/.DS_Store", "dog/Thumbs.db", "__MACOSX/0.jpg", ".hidden/0.jpg", "desktop.ini", "._top.jpg"):
        write(raw / name, "litter")
    assert with_splits(samples_of_folders(raw), raw, Fractions(seed=3)) == before
    assert not before.notes


def test_folders_that_are_called_as_splits_are_said(raw: Path) -> None:
    (raw / "dog").rename(raw / "Train")
    (raw / "sea").rename(raw / "test")
    assert samples_of_folders(raw).notes == [
        "the folders Train, test are taken for classes; splits are given in a table (--table), or as folders of class "
        "folders"
    ]


def test_a_folder_of_folders_says_what_lies_too_deep(raw: Path) -> None:
    with pytest.raises(
        XmrError,
        match=r"no image with a text, no sound, video or shape; 2 folders lie within class folders.*such as raw/dog",
    ):
        folder(raw.parent, raw.parent / "out")


@pytest.mark.parametrize("name", [b"dog/\xe9.jpg", b"\xe9/0.jpg", b"\xe9/text.txt"])
def test_a_name_that_is_not_utf8_is_an_error(raw: Path, name: bytes) -> None:
    path = Path(bytes(raw).decode()) / name.decode("utf-8", "surrogateescape")
    write(path, "a picture without a text")
    with pytest.raises(XmrError, match="not valid UTF-8; rename it"):
        samples_of_folders(raw)


def test_blanks_around_the_name_of_a_folder_are_no_part_of_the_class(raw: Path) -> None:
    (raw / "dog").rename(raw / "  dog ")
    assert {sample.labels for sample in samples_of_folders(raw).samples} == {("dog",), ("sea",)}
    (raw / "sea").rename(raw / " ")
    with pytest.raises(XmrError, match=r"raw/ ': the folder's name is blank.*rename it"):
        samples_of_folders(raw)


def test_jfif_and_jpe_are_jpeg_in_tars_too() -> None:
    assert [split_member_name(f"k.{ending}") for ending in ("jfif", "JPE", "jpeg")] == [("k", "jpg")] * 3


# ---- tables of other dialects


DIALECTS = {
    "semicolons": csv("image;text;label", "{i};a, b;{c}"),
    "tabs": csv("image\ttext\tlabel", "{i}\ta, b\t{c}"),
    "bars": csv("image|text|label", "{i}|a, b|{c}"),
    "quoted names": csv('"image";"text";"label"', '"{i}";"a, b";"{c}"'),
    "BOM, a line for spreadsheets, CRLF, blank lines": csv(
        "\ufeffsep=;\r\n\r\nimage;text;label", "{i};a, b;{c}", "\r\n"
    ),
    "carriage returns": csv("image,text,label", '{i},"a, b",{c}', "\r"),
    "UTF-16": csv("image\ttext\tlabel", "{i}\ta, b\t{c}", "\r\n").encode("utf-16"),
    "blanks and capitals": csv(" Image ,TEXT, Label", '{i} ,"a, b", {c}'),
    "two marks, and blanks that nobody sees": csv("\ufeff\ufeffimage\u00a0,text\u200b,label", '{i},"a, b",{c}'),
    "columns without a name": csv("image,text,label,,", '{i},"a, b",{c},,,') + ",,,,\n",
    "paths of Windows": csv("image,text,label", '{i},"a, b",{c}').replace("/", "\\"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_other_dialects_are_read(raw: Path, dialect: str) -> None:
    found = table_of(raw, DIALECTS[dialect])
    assert [(sample.image, sample.texts, sample.labels) for sample in found.samples] == [
        (raw / image, ("a, b",), (image[:3],)) for image in IMAGES
    ]
    assert not found.notes


def test_a_path_may_be_spelled_as_on_another_system(raw: Path) -> None:
    composed, parted = "dog/caf\u00e9.jpg", "dog/cafe\u0301.jpg"
    write(raw / composed, "a picture")
    rows = [{"image": name, "text": "t"} for name in (parted, "sea\\1.jpg", " sea/2.jpg ", "sea\\none.jpg")]
    found = table_of(raw, "\n".join(map(json.dumps, rows)), "t.jsonl")
    assert [sample.source for sample in found.samples] == [composed, "sea/1.jpg", "sea/2.jpg", "sea\\none.jpg"]
    write(raw.parent / "out.jpg", "a picture elsewhere")
    with pytest.raises(XmrError, match=r"line 2: ../out.jpg lies outside of"):
        table_of(raw, "image,text\n..\\out.jpg,one\n")


@pytest.mark.parametrize("name", ["t.tsv", "t.json", "t.jsonl"])
def test_other_endings_are_read(raw: Path, name: str) -> None:
    rows = [{"image": image, "text": 'a "b", c', "label": image[:3]} for image in IMAGES]
    content = csv("image\ttext\tlabel", '{i}\ta "b", c\t{c}') if name == "t.tsv" else json.dumps(rows, indent=1)
    found = table_of(raw, content, name)
    assert [(sample.source, sample.texts, sample.labels) for sample in found.samples] == [
        (image, ('a "b", c',), (image[:3],)) for image in IMAGES
    ]


def test_quotes_between_tabs_may_be_plain_characters(raw: Path) -> None:
    found = table_of(raw, csv("image\ttext", '{i}\t"Wait" says one'), "t.tsv")
    assert [sample.texts for sample in found.samples] == [('"Wait" says one',)] * len(IMAGES)
    with pytest.raises(XmrError, match=r"line 2: .*see to its quotes"):
        table_of(raw, csv("image\ttext", '{i}\t"Wait" says one') + "dog/0.jpg\n", "t.tsv")


def test_a_text_may_be_longer_than_the_limit_of_the_csv_module(raw: Path) -> None:
    text = "word, " * 30_000 + "end"
    assert table_of(raw, f'image,text\n{IMAGES[0]},"{text}"\n').samples[0].texts == (text,)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "file;caption_de;class\na;b;c\n", "the columns are file, caption_de, class; wanted are image, text"),
        ("t.csv", "image;text\na.jpg;b;c\n", "line 2: 3 values for 2 columns; put texts with ';' into quotes"),
        ("t.csv", "image,Text,text\n", "'text' is named twice"),
        ("t.csv", 'image,text\na.jpg,one\n\nb.jpg,"two\nc.jpg,3\n', "line 4: .*see to its quotes"),
        ("t.csv", "image,text\n../raw2/a.jpg,one\n", "line 2: ../raw2/a.jpg lies outside of"),
        ("t.csv", "image,text\n/etc/a.jpg,one\n", "line 2: /etc/a.jpg lies outside of"),
        ("t.csv", f"image,text\n{'word ' * 60},one\n", 'line 2: "image" is not the path of a file'),
        ("t.csv", "image,text\n".encode("utf-16-le"), "line 1: a zero byte"),
        ("t.csv", b"\xff\xfei\x00m\x00a", "line 1: not UTF-8"),
        ("t.jsonl", '{"image": "a.jpg", "Text": "one", "text": "two"}', "line 1: the key 'text' is given twice"),
        ("t.jsonl", '[{"image": "a.jpg", "text": "one"}, 3]', "entry 2: not a JSON object"),
        ("t.json", "[]", "the columns are none; wanted are image"),
        ("t.json", '{\n"image": "a.jpg"}', "line 1: not JSON: .*wanted is one object a line"),
    ],
)
def test_what_cannot_be_read_is_named(raw: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(XmrError, match=message):
        table_of(raw, content, name)


@pytest.mark.parametrize("content", ["\ufeffone\r\n\r\ntwo\r\n", "one\rtwo\r", "one\ntwo"])
def test_lines_end_as_on_any_system(tmp_path: Path, content: str) -> None:
    assert [line for _, line in numbered_lines(write(tmp_path / "lines.txt", content))] == ["one", "two"]


def test_a_mark_before_tags_is_no_part_of_them(tmp_path: Path) -> None:
    assert list(tag_lines(write(tmp_path / "tags.txt", "\ufeffdog sea\r\n\r\nfox\r\n"))) == [
        (1, ["dog", "sea"]),
        (3, ["fox"]),
    ]


# ---- columns and rows


def test_a_semicolon_parts_labels_in_csv_alone(raw: Path) -> None:
    lines = [
        {"image": IMAGES[0], "text": "t", "label": "a; b"},
        {"image": IMAGES[1], "text": "t", "label": ["a; b", " c "]},
    ]
    labels = [sample.labels for sample in table_of(raw, "\n".join(map(json.dumps, lines)), "t.jsonl").samples]
    assert labels == [("a; b",), ("a; b", "c")]
    assert table_of(raw, f"image,text,label\n{IMAGES[0]},t,a; b\n").samples[0].labels == ("a", "b")


def test_columns_can_be_chosen_and_the_others_are_named(raw: Path) -> None:
    content = csv("file;body;title;class;label;part", "{i};b;t;{c};x;train")
    chosen = Columns(image="File", text=("title", "body"), label=("class",), split="part")
    found = table_of(raw, content, chosen=chosen)
    assert found.samples[0].texts == ("t", "b") and found.has_splits
    assert found.samples[0].labels == ("dog",)
    assert found.notes == ["t.csv: columns not used: label"]
    with pytest.raises(XmrError, match=r"--label-column: .*t\.csv has no column 'kind'; it has file, body"):
        table_of(raw, content, chosen=Columns(image="file", text=("body",), label=("kind",)))
    with pytest.raises(XmrError, match="--text-column chooses a column of a table: name the table with --table"):
        folder(raw, raw.parent / "out", text_column=("body",))


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (csv("image,text,class", "{i},t,{c}"), "no column is called label or labels; if class holds the labels: "
         "--label-column class"),
        (csv("image,text,author", "{i},t,me"), "no column is called label or labels; if another holds the labels, "
         "choose it with --label-column"),
        (csv("image,text", "{i},t"), "no column is called label or labels"),
        (csv("id,image,text,label,label_name", "{n},{i},t,{n},name of {n}"), "the labels are numbers, and the column "
         "label_name has a name for each: --label-column label_name takes these"),
    ],
)  # fmt: skip
def test_labels_that_are_missing_or_only_numbers_are_said(raw: Path, content: str, note: str) -> None:
    assert table_of(raw, content).notes[0] == f"t.csv: {note}"


def test_rows_of_one_picture_are_one_sample_with_several_texts(raw: Path) -> None:
    rows = [f"{image},text {number % 4},b;a,train" for image in IMAGES for number in range(5)]
    rows += [f"./{IMAGES[0]},last,a;b,train"]
    found = table_of(raw, "\n".join(["image,caption,labels,split", *rows]))
    assert [sample.source for sample in found.samples] == IMAGES
    assert found.samples[0].texts == ("text 0", "text 1", "text 2", "text 3", "last")
    assert found.samples[0].labels == ("b", "a")
    assert found.notes == ["t.csv: 101 rows are of 20 pictures, whose texts are put together"]


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ("dog/0.jpg,two,sea,train", "line 2 and line 4 are both of dog/0.jpg and have other labels: dog and sea"),
        ("dog/0.jpg,two,,train", "line 2 and line 4 are both of dog/0.jpg and have other labels: dog and none"),
        ("dog/0.jpg,two,dog,test", "line 2 and line 4 are both of dog/0.jpg and have other splits: train and test"),
    ],
)
def test_rows_of_one_picture_that_differ_are_an_error(raw: Path, last: str, message: str) -> None:
    with pytest.raises(XmrError, match=message):
        table_of(raw, f"image,text,label,split\ndog/0.jpg,one,dog,train\nsea/0.jpg,one,sea,train\n{last}\n")


def test_pictures_in_no_row_and_of_other_formats_are_counted(raw: Path) -> None:
    write(raw / "dog/h.heic", "")
    write(raw / "dog/.hidden.jpg", "")
    found = table_of(raw, csv("image,text,label", "{i},t,{c}").replace("dog/9.jpg", "dog/9.HEIC"))
    assert found.notes == [
        "2 pictures are in no row of the table and not used, such as dog/9.jpg",
        "1 pictures in .heic are not read and not used; convert them to JPEG, such as dog/9.HEIC",
    ]


# ---- splits


def labeled(raw: Path, splits: str = "") -> Found:
    """Of the letters, one after the other, each is the split of an image."""
    names = {"r": "train", "v": "val", "t": "test"}
    lines = [f"{image},t,{image[:3]},{names[splits[n % len(splits)]]}" for n, image in enumerate(IMAGES)]
    return table_of(raw, "\n".join(["image,text,label,split", *lines]))


def test_a_missing_validation_split_is_drawn_from_train(raw: Path) -> None:
    given = labeled(raw, "rrrrt")
    found = with_splits(given, raw, Fractions(val=0.25, seed=1))
    tested = {source for source, split in splits_of(given).items() if split == "test"}
    assert {source for source, split in splits_of(found).items() if split == "test"} == tested
    assert Counter((source[:3], split) for source, split in splits_of(found).items()) == {
        (name, split): count for name in ("dog", "sea") for split, count in {"train": 6, "val": 2, "test": 2}.items()
    }
    assert found.notes == ["of each class in the table's train, 0.25 for val was drawn with seed 1"]
    assert splits_of(with_splits(given, raw, Fractions(val=0.25, seed=2))) != splits_of(found)
    (note,) = with_splits(given, raw, Fractions()).notes
    assert "no split val" in note and "--val 0.1 draws one from train" in note


@pytest.mark.parametrize(
    ("splits", "wanted", "message"),
    [
        ("rt", Fractions(val=0.1, test=0.2, seed=1), "--test 0.2: the table has the split test already"),
        ("rvt", Fractions(val=0.1), "--val 0.1: the table has the split val already"),
        ("rvt", Fractions(seed=1), "--seed 1: no split is drawn"),
        ("rt", Fractions(seed=0), "--seed 0: no split is drawn"),
        ("vt", Fractions(val=0.0, seed=1), "--val 0.0: the table has the split val already"),
        ("t", Fractions(val=0.1), "--val: the table has no split train to draw from"),
        ("rt", Fractions(val=float("nan")), "the fractions val nan and test 0.0 must not be negative"),
        ("rt", Fractions(val=1.0), "must add to less than 1"),
    ],
)
def test_options_for_splits_that_go_unused_are_refused(raw: Path, splits: str, wanted: Fractions, message: str) -> None:
    with pytest.raises(XmrError, match=message):
        with_splits(labeled(raw, splits), raw, wanted)


def test_copies_of_a_picture_are_drawn_into_one_split(raw: Path) -> None:
    copies = ["dog/0.jpg", "dog/3.jpg", "sea/5.jpg"]
    for copy in copies:
        write(raw / copy, "the same bytes")
    write(raw / "sea/8.jpg", "same sized bytes"[:14])
    (raw / "dog/3.txt").unlink()  # cannot be used, and has its place in a split all the same
    drawn = set()
    for seed in range(30):
        found = with_splits(samples_of_folders(raw), raw, Fractions(val=0.3, test=0.3, seed=seed))
        split_of = splits_of(found) | {item.source: item.split for item in found.skipped}
        assert len({split_of[copy] for copy in copies}) == 1
        drawn.add(split_of[copies[0]])
    assert found.notes == [
        "3 pictures have the same bytes as others and stay in one split with them, such as dog/0.jpg and dog/3.jpg"
    ]
    assert drawn == {"train", "val", "test"}


def test_copies_are_found_by_their_bytes(tmp_path: Path) -> None:
    long = b"x" * 100_000
    contents = {"a": long + b"end", "b": b"y" + long[1:] + b"end", "c": long + b"end", "d": b"", "e": b"", "f": b"1"}
    files = [write(tmp_path / name, content) for name, content in contents.items()]
    assert find_copies([*files, tmp_path / "none", tmp_path]) == [[tmp_path / "a", tmp_path / "c"]]


def test_a_draw_without_copies_is_as_ever_and_one_of_little_else_has_all_splits() -> None:
    class_of = {f"{name}{number}": name for name in "ab" for number in range(12)}
    alone = draw_splits(class_of, val=0.25, test=0.25, seed=0)
    same = draw_splits(class_of, val=0.25, test=0.25, seed=0, together=[["a3", "a7"]])
    assert {key: alone[key] for key in class_of if key[0] == "b"} == {
        key: same[key] for key in class_of if key[0] == "b"
    }
    assert Counter(same[key] for key in class_of if key[0] == "a") == {"train": 6, "val": 3, "test": 3}
    groups = [[f"a{number + 3 * step}" for step in range(4)] for number in range(3)]  # three pictures, four times each
    few = draw_splits(class_of, val=0.1, test=0.1, seed=0, together=groups)
    assert sorted(few[group[0]] for group in groups) == ["test", "train", "val"]
    one = draw_splits(class_of, val=0.25, test=0.25, seed=0, together=[[f"a{number}" for number in range(12)]])
    assert one == alone  # a single picture: there is nothing to keep apart


# ---- what the build says


def test_a_build_says_how_many_samples_have_no_label(tmp_path: Path) -> None:
    for number, image in enumerate(IMAGES):
        (tmp_path / "raw" / image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "raw" / image)
    lines = [f"{image},t,{image[:3] if n % 5 else ''},{('train', 'val')[n >= 16]}" for n, image in enumerate(IMAGES)]
    for name, content, note in (
        ("some", ["image,text,label,split", *lines], "samples without a label: 4 of 16 in train (the first: "
         "dog/0.jpg); most methods train by labels: give them some, or leave them out with --exclude"),
        ("none", ["image,text", *(f"{image},t" for image in IMAGES)], UNLABELLED),
    ):  # fmt: skip
        table = write(tmp_path / f"{name}.csv", "\n".join(content))
        folder(tmp_path / "raw", tmp_path / name, table=table, build=BuildOptions(workers=1))
        assert manifest(tmp_path / name)["notes"][0] == note


def test_a_build_names_classes_that_look_alike_or_are_not_trained_on(tmp_path: Path, raw: Path) -> None:
    lines = [f"{IMAGES[n]},t,{label},{split}" for n, (label, split) in enumerate(
        [("dog", "train"), ("Dog ", "train"), ("sea", "test")]
    )]  # fmt: skip
    for image in IMAGES[:3]:
        Image.new("RGB", (8, 8)).save(raw / image)
    table = write(tmp_path / "t.csv", "\n".join(["image,text,label,split", *lines]))
    folder(raw, tmp_path / "out", table=table, build=BuildOptions(workers=1))
    assert manifest(tmp_path / "out")["notes"][-2:] == [
        "2 class names differ in case, spaces or encoding alone, such as 'Dog' and 'dog'",
        "1 classes have no sample in train, such as sea",
    ]
