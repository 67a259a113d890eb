"""MSCOCO 2014 in miniature, with what can be wrong in its files, becomes shards or a clear error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from preprocessing.common.command import run
from preprocessing.mscoco.command import mscoco
from tests.helpers.builders import ALONE, LENIENT, command, skipped, splits
from tests.helpers.built import image_bytes, manifest, samples, write
from xmr_e2e.errors import XmrError

Documents = dict[str, dict[str, Any]]
CATEGORIES = [{"id": 17, "name": "cat"}, {"id": 3, "name": "traffic light"}, {"id": 90, "name": "toothbrush"}]
TEST_IDS = tuple(range(300, 290, -1))  # Karpathy's order is not that of the ids
SPLIT_OF = {9: "train", 25: "train", 30: "train", 42: "restval", 73: "val", 74: "val"} | dict.fromkeys(TEST_IDS, "test")
KARPATHY, INSTANCES, CAPTIONS = "dataset_coco.json", "annotations/instances_{}.json", "annotations/captions_{}.json"


def folder_of(image_id: int) -> str:
    return "train2014" if image_id < 40 else "val2014"


def name_of(image_id: int) -> str:
    return f"COCO_{folder_of(image_id)}_{image_id:012d}.jpg"


def path_of(image_id: int) -> str:
    return f"{folder_of(image_id)}/{name_of(image_id)}"


def caption_of(image_id: int, number: int) -> str:
    return f"Caption {number} of {image_id}."


def karpathy() -> dict[str, Any]:
    images = []
    for number, (image_id, split) in enumerate(SPLIT_OF.items()):
        sentences = [{"tokens": ["x"], "raw": f"Karpathy's {image_id}, {k}.", "imgid": number} for k in range(2)]
        images.append(
            {"filepath": folder_of(image_id), "filename": name_of(image_id), "imgid": number, "cocoid": image_id,
             "split": split, "sentences": sentences}
        )  # fmt: skip
    return {"images": images, "dataset": "coco"}


def instances(folder: str) -> dict[str, Any]:
    """Each image has a cat twice (one of them a crowd) and a traffic light; 30 and 297 have nothing."""
    ids = [image_id for image_id in SPLIT_OF if folder_of(image_id) == folder]
    annotations: list[dict[str, Any]] = []
    for image_id in ids:
        for category, crowd in ((17, 0), (3, 0), (17, 1)) if image_id not in (30, 297) else ():
            outline = [[0.5, 1.5]] if not crowd else {"counts": [1], "size": [8, 12]}
            annotations.append(
                {"id": len(annotations), "image_id": image_id, "category_id": category, "iscrowd": crowd,
                 "segmentation": outline}
            )  # fmt: skip
    return {"images": [{"id": image_id} for image_id in ids], "annotations": annotations, "categories": CATEGORIES}


def captions(folder: str) -> dict[str, Any]:
    ids = [image_id for image_id in SPLIT_OF if folder_of(image_id) == folder]
    annotations = [
        {"id": 1000 * image_id + number, "image_id": image_id, "caption": caption_of(image_id, number)}
        for number in range(6)
        for image_id in ids
        if number < 5 or image_id == 9
    ]
    return {"images": [{"id": image_id} for image_id in ids], "annotations": annotations}


@pytest.fixture
def documents() -> Documents:
    """The JSON files of the miniature, for a test to change before it writes them."""
    found: Documents = {KARPATHY: karpathy()}
    for folder in ("train2014", "val2014"):
        found[INSTANCES.format(folder)] = instances(folder)
        found[CAPTIONS.format(folder)] = captions(folder)
    return found


@pytest.fixture
def lay_out(documents: Documents, tmp_path: Path) -> Callable[[], Path]:
    def lay() -> Path:
        raw = tmp_path / "raw"
        for image_id in SPLIT_OF:
            write(raw / path_of(image_id), image_bytes((image_id % 256, 0, 200)))
        for name, document in documents.items():
            write(raw / name, json.dumps(document))
        return raw

    return lay


@pytest.mark.slow
def test_mscoco_command_builds_karpathys_splits_with_all_captions_and_labels(
    lay_out: Callable[[], Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = command("mscoco", lay_out(), out, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert splits(out) == {"train": 3, "val": 2, "test": 9}
    document = manifest(out)
    assert document["dataset"] == "mscoco" and document["multi_label"]
    assert document["classes"] == ["traffic light", "cat", "toothbrush"]  # by category id
    found = samples(out)
    assert found[path_of(9)]["texts"] == [caption_of(9, number) for number in range(6)]
    assert found[path_of(9)]["labels"] == ["traffic light", "cat"]
    assert found[path_of(42)]["split"] == "train" and found[path_of(73)]["split"] == "val"
    assert "1 images of restval are in train" in document["notes"]
    assert "reading" in done.stderr and "instances_train2014.json" in done.stderr


def test_mscoco_without_restval_trains_on_karpathys_train_alone(lay_out: Callable[[], Path], tmp_path: Path) -> None:
    mscoco(lay_out(), tmp_path / "out", splits="without-restval", build=ALONE)
    assert splits(tmp_path / "out") == {"train": 2, "val": 2, "test": 9}
    assert "1 images of restval are not used" in manifest(tmp_path / "out")["notes"]


def test_test_images_end_in_their_fold_and_an_unlabelled_one_keeps_its_place(
    lay_out: Callable[[], Path], tmp_path: Path
) -> None:
    mscoco(lay_out(), tmp_path / "out", build=ALONE)
    tested = {source for source, sample in samples(tmp_path / "out").items() if sample["split"] == "test"}
    # Ten images in five folds; 297, the fourth, has no label.
    folds = zip(TEST_IDS, (0, 0, 1, 1, 2, 2, 3, 3, 4, 4))
    assert tested == {f"{path_of(image_id)}#fold{fold}" for image_id, fold in folds if image_id != 297}
    assert any("#fold0 to #fold4" in note and "COCO1K" in note for note in manifest(tmp_path / "out")["notes"])


def test_images_without_annotated_objects_are_counted_and_not_skipped(
    lay_out: Callable[[], Path], tmp_path: Path
) -> None:
    mscoco(lay_out(), tmp_path / "out", build=ALONE)
    document = manifest(tmp_path / "out")
    assert document["skipped"] == []
    for split in ("train", "test"):
        assert f"1 images of {split} have no annotated object, so no label, and are not used" in document["notes"]


@pytest.mark.parametrize("gone", [("train2014", "val2014"), ("val2014",)])
def test_karpathys_captions_stand_in_for_the_publishers(
    documents: Documents, lay_out: Callable[[], Path], tmp_path: Path, gone: tuple[str, ...]
) -> None:
    for folder in gone:
        del documents[CAPTIONS.format(folder)]
    mscoco(lay_out(), tmp_path / "out", build=ALONE)
    assert samples(tmp_path / "out")[path_of(9)]["texts"] == ["Karpathy's 9, 0.", "Karpathy's 9, 1."]
    (note,) = [note for note in manifest(tmp_path / "out")["notes"] if "captions" in note]
    assert "dataset_coco.json" in note and all(f"captions_{folder}.json" in note for folder in gone)


def test_no_captions_at_all_is_an_error_that_says_where_to_get_them(
    documents: Documents, lay_out: Callable[[], Path], tmp_path: Path
) -> None:
    for folder in ("train2014", "val2014"):
        del documents[CAPTIONS.format(folder)]
    for image in documents[KARPATHY]["images"]:
        del image["sentences"]
    with pytest.raises(XmrError, match=r"captions_train2014\.json does not exist.*\n(.*\n)*.*cocodataset\.org"):
        mscoco(lay_out(), tmp_path / "out", build=ALONE)


def test_images_that_cannot_be_used_are_skipped_and_listed(
    documents: Documents, lay_out: Callable[[], Path], tmp_path: Path
) -> None:
    texts = documents[CAPTIONS.format("val2014")]
    texts["annotations"] = [entry for entry in texts["annotations"] if entry["image_id"] != 73]
    objects = documents[INSTANCES.format("train2014")]
    objects["images"] = [entry for entry in objects["images"] if entry["id"] != 9]
    objects["annotations"] = [entry for entry in objects["annotations"] if entry["image_id"] != 9]
    raw = lay_out()
    (raw / path_of(25)).unlink()
    write(raw / path_of(300), image_bytes()[:100])
    mscoco(raw, tmp_path / "out", build=LENIENT)
    reasons = skipped(tmp_path / "out")
    assert reasons.keys() == {path_of(9), path_of(25), path_of(73), f"{path_of(300)}#fold0"}
    assert "instances" in reasons[path_of(9)] and "no captions" in reasons[path_of(73)]
    assert samples(tmp_path / "out").keys().isdisjoint(reasons)


@pytest.mark.slow
def test_too_many_unusable_images_fail_the_command(lay_out: Callable[[], Path], tmp_path: Path) -> None:
    raw = lay_out()
    (raw / path_of(25)).unlink()
    done = command("mscoco", raw, tmp_path / "out", "--workers", 1)
    assert done.returncode == 2 and name_of(25) in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out/manifest.json").exists()


def test_images_outside_karpathys_file_are_not_used_and_counted(
    documents: Documents, lay_out: Callable[[], Path], tmp_path: Path
) -> None:
    documents[KARPATHY]["images"] = [
        image for image in documents[KARPATHY]["images"] if image["cocoid"] not in (25, 74)
    ]
    mscoco(lay_out(), tmp_path / "out", build=ALONE)
    assert splits(tmp_path / "out") == {"train": 2, "val": 1, "test": 9}
    assert "2 images are not in dataset_coco.json, not used" in manifest(tmp_path / "out")["notes"]


# What is missing or malformed


@pytest.mark.slow
def test_missing_parts_are_named_together_with_layout_and_origin(lay_out: Callable[[], Path], tmp_path: Path) -> None:
    with pytest.raises(XmrError, match=r"nowhere does not exist.*expected as"):
        mscoco(tmp_path / "nowhere", tmp_path / "out")
    raw = lay_out()
    (raw / KARPATHY).unlink()
    (raw / INSTANCES.format("val2014")).unlink()
    done = command("mscoco", raw, tmp_path / "out")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    shown = done.stderr
    assert "lacks annotations/instances_val2014.json, dataset_coco.json. MSCOCO 2014 is expected as" in shown
    assert "cocodataset.org" in shown and "cs.stanford.edu/people/karpathy/deepimagesent" in shown
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (KARPATHY, '{"images": [', r"dataset_coco\.json: not JSON, or cut off: .*line 1 column 13"),
        (INSTANCES.format("val2014"), "[1, 2]", r"instances_val2014\.json must hold a JSON object"),
        (CAPTIONS.format("train2014"), "{}", r"captions_train2014\.json: there is no list 'images'"),
        (CAPTIONS.format("train2014"), b'{"images": "\xff"}', r"captions_train2014\.json, line 1: not UTF-8"),
    ],
)
def test_a_file_that_is_no_such_json_is_an_error_that_names_it(
    lay_out: Callable[[], Path], tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    raw = lay_out()
    write(raw / name, content)
    with pytest.raises(XmrError, match=message):
        mscoco(raw, tmp_path / "out", build=ALONE)


def change(name: str, section: str, number: int, **fields: Any) -> Callable[[Documents], None]:
    """Other fields for one entry of a list; None takes a field away."""

    def apply(documents: Documents) -> None:
        entry = documents[name][section][number]
        entry.update(fields)
        for field, value in fields.items():
            if value is None:
                del entry[field]

    return apply


def add(name: str, section: str, entry: object) -> Callable[[Documents], None]:
    return lambda documents: documents[name][section].append(entry)


MALFORMED = {
    "karpathy: unknown split": (
        change(KARPATHY, "images", 1, split="training"),
        r"dataset_coco\.json, train2014/COCO_train2014_000000000025\.jpg: split 'training' is none of",
    ),
    "karpathy: no file name": (
        change(KARPATHY, "images", 2, filename=None),
        r"images\[2\]: 'filename' must be a string",
    ),
    "karpathy: no id": (
        change(KARPATHY, "images", 2, cocoid="30"),
        r"dataset_coco\.json, images\[2\]: 'cocoid' must be a whole number",
    ),
    "karpathy: another id": (
        change(KARPATHY, "images", 2, cocoid=31),
        r"images\[2\]: filename 'COCO_train2014_000000000030\.jpg' does not fit .*000031",
    ),
    "karpathy: another folder": (
        change(KARPATHY, "images", 2, filepath="../elsewhere"),
        r"images\[2\]: filepath '\.\./elsewhere' is none of",
    ),
    "karpathy: twice": (
        add(KARPATHY, "images", karpathy()["images"][1]),
        r"images\[16\]: COCO_train2014_000000000025\.jpg is also images\[1\]",
    ),
    "karpathy: no object": (add(KARPATHY, "images", 7), r"images\[16\]: not a JSON object"),
    "karpathy: sentences": (change(KARPATHY, "images", 0, sentences=["A text"]), r"images\[0\]: 'sentences' must be"),
    "karpathy: no raw sentence": (
        change(KARPATHY, "images", 0, sentences=[{"tokens": []}]),
        r"images\[0\], sentences\[0\]: 'raw' must be a string",
    ),
    "instances: unknown category": (
        change(INSTANCES.format("train2014"), "annotations", 4, category_id=4),
        r"instances_train2014\.json, annotations\[4\]: category_id 4 is none",
    ),
    "instances: unknown image": (
        change(INSTANCES.format("train2014"), "annotations", 4, image_id=42),
        r"instances_train2014\.json, annotations\[4\]: image_id 42 is none",
    ),
    "instances: annotation twice": (
        change(INSTANCES.format("train2014"), "annotations", 4, id=0),
        r"instances_train2014\.json, annotations\[4\]: the id 0 is given twice",
    ),
    "instances: image twice": (
        add(INSTANCES.format("train2014"), "images", {"id": 9}),
        r"instances_train2014\.json, images\[3\]: the id 9 is given twice",
    ),
    "instances: image in both": (
        add(INSTANCES.format("val2014"), "images", {"id": 9}),
        r"instances_val2014\.json: image 9 is in the file of train2014 too",
    ),
    "instances: true is no id": (
        change(INSTANCES.format("train2014"), "annotations", 0, category_id=True),
        r"annotations\[0\]: 'category_id' must be a whole number",
    ),
    "captions: unknown image": (
        change(CAPTIONS.format("val2014"), "annotations", 0, image_id=9),
        r"captions_val2014\.json, annotations\[0\]: image_id 9 is none",
    ),
    "captions: twice": (
        change(CAPTIONS.format("val2014"), "annotations", 1, id=42000),
        r"captions_val2014\.json, annotations\[1\]: the id 42000 is given twice",
    ),
    "captions: no text": (
        change(CAPTIONS.format("val2014"), "annotations", 2, caption=None),
        r"captions_val2014\.json, annotations\[2\]: 'caption' must be a string",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_entry_is_an_error_that_names_file_and_entry(
    documents: Documents, lay_out: Callable[[], Path], tmp_path: Path, case: str
) -> None:
    spoil, message = MALFORMED[case]
    spoil(documents)
    with pytest.raises(XmrError, match=message):
        mscoco(lay_out(), tmp_path / "out", build=ALONE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("category", "message"),
    [
        ({"id": 17, "name": "dog"}, r"instances_val2014\.json, categories\[3\]: the id 17 is given twice"),
        ({"id": 18, "name": "cat"}, r"instances_val2014\.json: two categories have the same name"),
        ({"id": 18, "name": "dog"}, r"instances_val2014\.json: its categories differ"),
    ],
)
def test_categories_must_be_unique_and_the_same_in_both_files(
    documents: Documents,
    lay_out: Callable[[], Path],
    tmp_path: Path,
    category: dict[str, Any],
    message: str,
) -> None:
    documents[INSTANCES.format("val2014")]["categories"] = [*CATEGORIES, category]
    with pytest.raises(XmrError, match=message):
        mscoco(lay_out(), tmp_path / "out", build=ALONE)


def test_mscoco_help_shows_splits_folds_and_an_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mscoco", "--help"])
    with pytest.raises(SystemExit) as end:
        run(mscoco)
    shown = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0
    assert "Example: python -m preprocessing.mscoco " in shown
    assert "without-restval" in shown and "#fold0 to #fold4" in shown
