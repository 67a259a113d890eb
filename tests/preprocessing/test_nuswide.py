"""NUS-WIDE's layout in miniature becomes the papers' subsets, and what does not fit in it an error with its line."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from preprocessing.common.command import run
from preprocessing.common.held_out import hold_out
from preprocessing.nuswide.command import nuswide
from tests.helpers.built import manifest, samples, write
from tests.helpers.raw_nuswide import CONCEPTS, TEN, Labels, lay_out, name_of
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import BuildOptions

RARE = ("concept00", "toy", "window")
"""Left out of the 21 most frequent of the 24."""
ALONE = BuildOptions(workers=1)
LENIENT = BuildOptions(workers=1, max_skipped=0.5)


def edit(path: Path, change: Callable[[list[str]], None]) -> None:
    lines = path.read_text().splitlines()
    change(lines)
    write(path, "\r\n".join(lines) + "\r\n")


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    """20 images for each class of 10k, 5 images with two of these, 5 with none; one of each class has no tag."""
    labels: Labels = {}
    for number in range(200):
        labels[name_of(number)] = (TEN[number // 20], "concept03")
    for number in range(200, 205):
        labels[name_of(number)] = ("sky", "water")
    for number in range(205, 210):
        labels[name_of(number)] = ("concept07",)
    tags = {image: "" if i % 20 == 7 else f"tag{i} photo café" for i, image in enumerate(labels)}
    return lay_out(tmp_path / "raw", labels, tags)


@pytest.fixture
def many(tmp_path: Path) -> tuple[Path, Labels, dict[str, str]]:
    """120 images with any number of 24 concepts, the later ones and RARE less often; some without label or tag."""
    draw = random.Random(5)
    chance = {concept: 0.04 if concept in RARE else 0.25 - 0.006 * i for i, concept in enumerate(CONCEPTS)}
    labels = {name_of(i): tuple(c for c in CONCEPTS if draw.random() < chance[c]) for i in range(120)}
    labels[name_of(3)] = ()
    labels[name_of(4)] = ("toy",)
    tags = {image: "" if i % 17 == 16 else f"tag{i} nikon" for i, image in enumerate(labels)}
    return lay_out(tmp_path / "raw", labels, tags), labels, tags


def most_frequent(labels: Labels, count: int) -> set[str]:
    total = Counter(label for names in labels.values() for label in names)
    return set(sorted(CONCEPTS, key=lambda concept: -total[concept])[:count])


def in_split(out: Path, split: str) -> set[str]:
    return {source for source, sample in samples(out).items() if sample["split"] == split}


def listed(raw: Path, name: str) -> set[str]:
    return set((raw / f"ImageList/{name}.txt").read_text().replace("\\", "/").split())


# 10k


@pytest.mark.slow
def test_10k_command_draws_as_many_of_each_class_and_splits_them_8_1_1(ten: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = [sys.executable, "-m", "preprocessing.nuswide", str(ten), str(out), "--subset", "10k", "--workers", "1"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = manifest(out)
    assert (document["dataset"], document["classes"], document["multi_label"]) == ("nuswide_10k", list(TEN), False)
    # 19 of the 20 images of a class have a tag; round(1.9) of them are drawn for val, and for test.
    for split, count in {"train": 15, "val": 2, "test": 2}.items():
        assert document["splits"][split]["labels"] == dict.fromkeys(TEN, count)
    found = samples(out)
    assert found["folder2/0002_777002.jpg"]["texts"] == ["tag2 photo café"]
    assert found["folder2/0002_777002.jpg"]["labels"] == ["animal"]
    assert not found.keys() & {name_of(i) for i in [7, 27, *range(200, 210)]}
    assert "found here: 190 (150 train, 20 val, 20 test)" in document["notes"][0]
    assert "published: 10,000 (8,000 train, 1,000 val, 1,000 test)" in document["notes"][0]
    assert any("10 images of these classes have no tag" in note for note in document["notes"])
    assert document["skipped"] == []


def test_10k_is_as_large_as_its_smallest_class_allows(ten: Path, tmp_path: Path) -> None:
    labels = ten / "Groundtruth/AllLabels/Labels_food.txt"
    edit(labels, lambda lines: lines.__setitem__(slice(60, 65), ["0"] * 5))
    nuswide(ten, tmp_path / "out", subset="10k", build=ALONE)
    total: Counter[str] = Counter()
    for split in manifest(tmp_path / "out")["splits"].values():
        total.update(split["labels"])
    assert total == dict.fromkeys(TEN, 14)  # 20, less 5 and one without a tag
    assert any(note.startswith("14 images of each class") for note in manifest(tmp_path / "out")["notes"])


def test_another_seed_draws_other_images_and_the_same_seed_the_same(ten: Path, tmp_path: Path) -> None:
    edit(ten / "Groundtruth/AllLabels/Labels_food.txt", lambda lines: lines.__setitem__(slice(60, 70), ["0"] * 10))
    outs = [tmp_path / f"out{i}" for i in range(3)]
    for out, seed in zip(outs, (1, 1, 2)):
        nuswide(ten, out, subset="10k", seed=seed, build=ALONE)
    first, again, other = ({name: item["split"] for name, item in samples(out).items()} for out in outs)
    assert first == again
    assert first.keys() != other.keys()


def test_10k_without_an_image_of_a_class_or_with_another_val_is_an_error(ten: Path, tmp_path: Path) -> None:
    with pytest.raises(XmrError, match="--val: the splits of 10k are 8,000/1,000/1,000"):
        nuswide(ten, tmp_path / "out", subset="10k", val=5, build=ALONE)
    edit(ten / "Groundtruth/AllLabels/Labels_toy.txt", lambda lines: lines.__setitem__(slice(None), ["0"] * 210))
    with pytest.raises(XmrError, match="no image with a tag has 'toy' as its only concept"):
        nuswide(ten, tmp_path / "out", subset="10k", build=ALONE)


# The publisher's split


def test_10_class_holds_images_with_one_of_the_most_frequent_and_takes_val_from_test(
    many: tuple[Path, Labels, dict[str, str]], tmp_path: Path
) -> None:
    raw, labels, tags = many
    out = tmp_path / "out"
    frequent = most_frequent(labels, 10)
    wanted = {image for image, names in labels.items() if len(frequent & set(names)) == 1 and tags[image]}
    nuswide(raw, out, subset="10-class", build=ALONE)
    found = samples(out)
    assert found.keys() == wanted and len(wanted) > 20
    assert set(manifest(out)["classes"]) == frequent and manifest(out)["dataset"] == "nuswide_10_class"
    assert all(set(sample["labels"]) == frequent & set(labels[source]) for source, sample in found.items())
    assert in_split(out, "train") == wanted & listed(raw, "TrainImagelist")
    test = wanted & listed(raw, "TestImagelist")
    assert in_split(out, "test") | in_split(out, "val") == test
    assert len(in_split(out, "val")) == len(test) // 5 > 0


def test_val_0_leaves_the_publishers_split(many: tuple[Path, Labels, dict[str, str]], tmp_path: Path) -> None:
    raw, out = many[0], tmp_path / "out"
    nuswide(raw, out, subset="10-class", val=0, build=ALONE)
    assert manifest(out)["splits"].keys() == {"train", "test"}
    assert in_split(out, "test") <= listed(raw, "TestImagelist")
    assert not any("val" in note for note in manifest(out)["notes"])


def test_tc21_official_takes_val_from_train(many: tuple[Path, Labels, dict[str, str]], tmp_path: Path) -> None:
    raw, labels, tags = many
    out = tmp_path / "out"
    nuswide(raw, out, subset="tc21-official", val=7, build=ALONE)
    wanted = {i for i, names in labels.items() if most_frequent(labels, 21) & set(names) and tags[i]}
    assert in_split(out, "test") == wanted & listed(raw, "TestImagelist")
    assert in_split(out, "train") | in_split(out, "val") == wanted & listed(raw, "TrainImagelist")
    assert len(in_split(out, "val")) == 7


def test_images_that_neither_official_list_names_are_noted(
    many: tuple[Path, Labels, dict[str, str]], tmp_path: Path
) -> None:
    raw, out = many[0], tmp_path / "out"
    edit(raw / "ImageList/TrainImagelist.txt", lambda lines: lines.__delitem__(slice(0, 2)))
    nuswide(raw, out, subset="tc21-official", build=ALONE)
    assert not samples(out).keys() & {name_of(0), name_of(1)}
    assert any(note.startswith("2 images are in neither TrainImagelist.txt") for note in manifest(out)["notes"])


# tc21


def test_tc21_keeps_all_labels_among_the_21_most_frequent_concepts(
    many: tuple[Path, Labels, dict[str, str]], tmp_path: Path
) -> None:
    raw, labels, tags = many
    out = tmp_path / "out"
    nuswide(raw, out, subset="tc21", build=ALONE)
    frequent = most_frequent(labels, 21)
    assert frequent == set(CONCEPTS) - set(RARE)
    expected = {image: frequent & set(names) for image, names in labels.items() if tags[image]}
    expected = {image: names for image, names in expected.items() if names}
    found = samples(out)
    assert {source: set(sample["labels"]) for source, sample in found.items()} == expected
    assert all(sample["texts"] == [tags[source]] for source, sample in found.items())
    assert name_of(3) not in found and name_of(4) not in found
    assert manifest(out)["multi_label"] and manifest(out)["classes"] == sorted(frequent)
    total = len(found)
    assert len(in_split(out, "test")) == total // 5
    assert len(in_split(out, "val")) == (total - total // 5) // 5


def test_another_val_leaves_the_test_images_as_they_are(
    many: tuple[Path, Labels, dict[str, str]], tmp_path: Path
) -> None:
    for val in (0, 30):
        nuswide(many[0], tmp_path / f"out{val}", subset="tc21", val=val, build=ALONE)
    assert in_split(tmp_path / "out0", "test") == in_split(tmp_path / "out30", "test")
    assert len(in_split(tmp_path / "out30", "val")) == 30 and not in_split(tmp_path / "out0", "val")


@pytest.mark.parametrize(("pool", "usual"), [(28661, 5000), (195834, 5000), (190420, 1000), (114117, 5000)])
def test_the_published_counts_are_drawn_from_the_published_files(pool: int, usual: int) -> None:
    drawn = hold_out({str(i): "train" for i in range(pool)}, "val", pool="train", count=None, usual=usual, seed=0)
    assert Counter(drawn.values()) == {"train": pool - usual, "val": usual}


def test_what_is_held_out_depends_on_seed_and_not_on_order_or_other_splits() -> None:
    pool = {f"a{i}": "test" for i in range(50)}
    others = {f"b{i}": "train" for i in range(50)}
    alone = hold_out(pool, "val", pool="test", count=9, usual=1, seed=3)
    together = hold_out({**others, **dict(reversed(pool.items()))}, "val", pool="test", count=9, usual=1, seed=3)
    assert Counter(alone.values()) == {"test": 41, "val": 9}
    assert {source: together[source] for source in pool} == alone
    assert {source: together[source] for source in others} == others
    assert hold_out(pool, "val", pool="test", count=9, usual=1, seed=4) != alone


@pytest.mark.parametrize("val", [-1, 95])
def test_val_must_leave_something_where_it_is_taken_from(
    many: tuple[Path, Labels, dict[str, str]], tmp_path: Path, val: int
) -> None:
    with pytest.raises(XmrError, match=rf"--val {val}: it must be at least 0 and less than the \d+ samples of train"):
        nuswide(many[0], tmp_path / "out", subset="tc21", val=val, build=ALONE)


# Tags


def test_1k_tags_come_from_the_matrix_and_images_without_any_are_not_used(
    many: tuple[Path, Labels, dict[str, str]], tmp_path: Path
) -> None:
    raw, labels, _ = many
    names = ["nature", "sky", "nikon"]
    rows = [[int(i % 2 == 0), int(i % 3 == 0), int(i % 5 == 0)] for i in range(len(labels))]
    write(raw / "NUS_WID_Tags/TagList1k.txt", "\n".join(names))
    matrix = "".join("\t".join(map(str, row)) + "\t\r\n" for row in rows)
    write(raw / "NUS_WID_Tags/AllTags1k.txt", matrix + "\r\n")
    nuswide(raw, tmp_path / "out", subset="tc21", tags="1k", build=ALONE)
    expected = {}
    for image, row in zip(labels, rows):
        text = " ".join(name for name, flag in zip(names, row) if flag)
        if text and set(labels[image]) - set(RARE):
            expected[image] = [text]
    assert {source: sample["texts"] for source, sample in samples(tmp_path / "out").items()} == expected


def test_a_tag_that_is_not_utf8_is_read_as_cp1252_and_its_neighbours_are_not(
    many: tuple[Path, Labels, dict[str, str]], tmp_path: Path
) -> None:
    raw, out = many[0], tmp_path / "out"
    path = raw / "NUS_WID_Tags/All_Tags.txt"
    write(path, path.read_bytes().replace(b"tag5 nikon", b"caf\xe9 na\xc3\xafve \xe7\x8c\xab"))
    nuswide(raw, out, subset="tc21", build=ALONE)
    assert samples(out)[name_of(5)]["texts"] == ["café naïve 猫"]


# What is wrong with the files


def test_missing_photographs_are_skipped_and_count_against_the_budget(ten: Path, tmp_path: Path) -> None:
    gone = [name_of(i) for i in range(100, 106)]
    for image in gone:
        (ten / "Flickr" / image).unlink()
    write(ten / "Flickr" / name_of(106), b"no image")
    with pytest.raises(XmrError, match=r"7 of 190 samples cannot be used, more than --max-skipped 0\.01"):
        nuswide(ten, tmp_path / "strict", subset="10k", build=ALONE)
    nuswide(ten, tmp_path / "out", subset="10k", build=LENIENT)
    skipped = {item["source"] for item in manifest(tmp_path / "out")["skipped"]}
    assert skipped == {*gone, name_of(106)}
    assert len(samples(tmp_path / "out")) == 190 - 7


def test_no_photograph_at_all_says_that_they_need_a_signed_form(ten: Path, tmp_path: Path) -> None:
    for path in ten.glob("Flickr/*/*.jpg"):
        path.unlink()
    with pytest.raises(XmrError, match=r"none of the 190 images(.*\n)*.*sign its Agreement and Disclaimer Form"):
        nuswide(ten, tmp_path / "out", subset="10k", build=ALONE)


@pytest.mark.parametrize(
    "missing",
    [
        "Flickr",
        "ImageList/Imagelist.txt",
        "ImageList/TestImagelist.txt",
        "ConceptsList/Concepts81.txt",
        "Groundtruth/AllLabels/Labels_sky.txt",
        "NUS_WID_Tags/All_Tags.txt",
    ],
)
def test_a_missing_file_is_named_with_where_to_get_it(ten: Path, tmp_path: Path, missing: str) -> None:
    (ten / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(XmrError, match=rf"{missing.split('/')[-1]}(.*\n)*.*Publisher: lms\.comp\.nus\.edu\.sg"):
        nuswide(ten, tmp_path / "out", subset="tc21-official", build=ALONE)


def test_a_missing_matrix_of_tags_is_named(ten: Path, tmp_path: Path) -> None:
    for name in ("AllTags1k.txt", "TagList1k.txt"):
        with pytest.raises(XmrError, match=rf"{name} does not exist"):
            nuswide(ten, tmp_path / "out", subset="10k", tags="1k", build=ALONE)
        write(ten / "NUS_WID_Tags" / name, "0\n")


@pytest.mark.parametrize(
    ("file", "line", "content", "message"),
    [
        ("Groundtruth/AllLabels/Labels_sky.txt", 9, "-1130179", r"Labels_sky\.txt, line 9: '-1130179' is neither 0"),
        ("Groundtruth/AllLabels/Labels_sky.txt", 9, "2", r"Labels_sky\.txt, line 9: '2' is neither"),
        ("Groundtruth/AllLabels/Labels_sky.txt", 9, None, r"Labels_sky\.txt has 119 values for the 120 images"),
        ("ConceptsList/Concepts81.txt", 5, None, rf"Labels_{CONCEPTS[4]}\.txt: its concept is not in Concepts81"),
        ("ImageList/Imagelist.txt", 9, name_of(2), r"line 9: duplicate image folder2/0002_777002.jpg, .* line 3"),
        ("ImageList/Imagelist.txt", 9, "0008_777008.jpg", r"line 9: '0008_777008.jpg' has not the form <folder>"),
        ("ImageList/Imagelist.txt", 9, None, r"values for the 119 images of Imagelist\.txt"),
        ("ImageList/TestImagelist.txt", 2, name_of(0), r"line 2: folder0/0000_777000.jpg is already in TrainImagelist"),
        ("ImageList/TestImagelist.txt", 2, "a/b.jpg", r"TestImagelist\.txt, line 2: a/b\.jpg is not in Imagelist"),
        ("NUS_WID_Tags/All_Tags.txt", 9, "123 sea", r"All_Tags\.txt, line 9: photograph 123, but .* has folder2/0008"),
        ("NUS_WID_Tags/All_Tags.txt", 9, None, r"All_Tags\.txt, line 9: photograph 777009, but"),
        ("NUS_WID_Tags/All_Tags.txt", 120, None, r"All_Tags\.txt has 119 lines for the 120 images"),
    ],
)
def test_a_malformed_entry_is_an_error_that_names_file_and_line(
    many: tuple[Path, Labels, dict[str, str]], tmp_path: Path, file: str, line: int, content: str | None, message: str
) -> None:
    def change(lines: list[str]) -> None:
        lines[line - 1 : line] = [] if content is None else [content]

    edit(many[0] / file, change)
    with pytest.raises(XmrError, match=message):
        nuswide(many[0], tmp_path / "out", subset="tc21-official", build=ALONE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("row", ["0\t1\t0", "0\t2", "0\t-1", "0\tx"])
def test_a_malformed_row_of_the_matrix_of_tags_is_named(
    many: tuple[Path, Labels, dict[str, str]], tmp_path: Path, row: str
) -> None:
    write(many[0] / "NUS_WID_Tags/TagList1k.txt", "nature\nsky\n")
    write(many[0] / "NUS_WID_Tags/AllTags1k.txt", "1\t0\t\n" * 4 + row + "\n")
    with pytest.raises(XmrError, match=r"AllTags1k\.txt, line 5: not 2 values of 0 and 1"):
        nuswide(many[0], tmp_path / "out", subset="tc21", tags="1k", build=ALONE)
    write(many[0] / "NUS_WID_Tags/AllTags1k.txt", "1\t0\t\n" * 4)
    with pytest.raises(XmrError, match=r"AllTags1k\.txt has 4 lines for the 120 images"):
        nuswide(many[0], tmp_path / "out", subset="tc21", tags="1k", build=ALONE)


def test_a_file_without_any_tag_is_an_error(many: tuple[Path, Labels, dict[str, str]], tmp_path: Path) -> None:
    path = many[0] / "NUS_WID_Tags/All_Tags.txt"
    edit(path, lambda lines: lines.__setitem__(slice(None), [line.split()[0] for line in lines]))
    with pytest.raises(XmrError, match=r"All_Tags\.txt: no image has a tag"):
        nuswide(many[0], tmp_path / "out", subset="tc21", build=ALONE)


@pytest.mark.parametrize(
    ("subset", "message"),
    [("10k", "lacks the concept 'toy'"), ("tc21", "names 3 concepts; this subset needs at least 21")],
)
def test_too_few_concepts_for_the_subset_are_an_error(tmp_path: Path, subset: Any, message: str) -> None:
    labels: Labels = {name_of(i): ("sky",) for i in range(4)}
    concepts = tuple(name for name in TEN if name != "toy") if subset == "10k" else ("sky", "toy", "water")
    raw = lay_out(tmp_path / "raw", labels, dict.fromkeys(labels, "tag"), concepts=concepts)
    with pytest.raises(XmrError, match=message):
        nuswide(raw, tmp_path / "out", subset=subset, build=ALONE)


def test_help_explains_each_subset_and_one_must_be_chosen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_with(*arguments: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["builder", *arguments])
        with pytest.raises(SystemExit) as end:
            run(nuswide)
        captured = capsys.readouterr()
        return end.value.code, " ".join((captured.out + captured.err).split())

    status, shown = run_with("--help")
    assert status == 0 and "Example: python -m preprocessing.nuswide " in shown
    for counts in ("8,000/1,000/1,000", "42,941/28,661", "189,834/5,000/1,000", "114,117/76,303"):
        assert counts in shown
    status, shown = run_with("raw", "out")
    assert status == 2 and "--subset {10k,10-class,tc21,tc21-official}" in shown
