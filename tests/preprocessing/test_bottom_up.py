"""Regions that others computed: their files' forms, which picture they belong to, what is refused, and a training."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocessing.bottom_up.command import bottom_up
from preprocessing.bottom_up.picture_ids import PictureIds, names_of, read_names
from preprocessing.bottom_up.region_files import to_stored
from preprocessing.bottom_up.region_tsv import LXMERT
from preprocessing.common.command import run
from tests.helpers.made_regions import COCO, COUNT, PICTURES, SIDES, WIDTH, Array, box, make_shards, picture, write_tsv
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.extend import extend_shards
from xmr_e2e.shards.features import UNKNOWN_CLASS, StoredRegions
from xmr_e2e.shards.manifest import load_manifest


@pytest.fixture
def coco(tmp_path: Path, make_image: Callable[..., Path]) -> Path:
    """Three pictures as the MSCOCO builder calls them, and a text without one."""
    return make_shards(tmp_path / "coco", [*COCO.values()], make_image)


def stored(shards: Path, split: str = "train") -> dict[str, StoredRegions]:
    """Source -> regions of the samples that have some."""
    reader = SplitReader(shards, split)
    found = {}
    for position in range(len(reader)):
        with suppress(XmrError):
            found[reader.metadata(position).source] = reader.regions(position)
    return found


def check(found: StoredRegions, arrays: dict[str, Array], order: list[int], classes: bool) -> None:
    assert np.array_equal(found.features, arrays["features"][order].astype(np.float16))
    for row, place in enumerate(order):
        x1, y1, x2, y2 = (float(value) for value in arrays["boxes"][place])
        expected = [x1 / 64, y1 / 48, x2 / 64, y2 / 48, (x2 - x1) * (y2 - y1) / (64 * 48)]
        assert found.boxes[row].tolist() == pytest.approx(expected, abs=1e-6)
        assert found.classes[row] == (arrays["objects_id"][place] + 1 if classes else UNKNOWN_CLASS)


# ---- the forms


def test_a_tsv_of_bottom_up_attention_gives_each_picture_its_first_regions(coco: Path, tmp_path: Path) -> None:
    bottom_up(coco, (write_tsv(tmp_path / "a.tsv", PICTURES),), count=3)
    found = stored(coco)
    assert set(found) == set(COCO.values())
    for name, arrays in PICTURES.items():
        check(found[COCO[name]], arrays, [0, 1, 2], classes=False)
    manifest = load_manifest(coco)
    assert manifest.shapes["regions"] == (3, WIDTH)
    assert manifest.extended["regions.safetensors"].startswith("3 regions of a.tsv (sha256 ")


def test_a_tsv_with_objects_gives_the_most_certain_regions_and_classes_behind_the_background(
    coco: Path, tmp_path: Path
) -> None:
    bottom_up(coco, (write_tsv(tmp_path / "a.tsv", PICTURES, LXMERT),), count=3)
    for name, found in ((name, stored(coco)[COCO[name]]) for name in COCO):
        scores = PICTURES[name]["objects_conf"].tolist()
        order = sorted(range(COUNT), key=lambda place: -scores[place])[:3]
        check(found, PICTURES[name], order, classes=True)


def test_a_tsv_may_have_a_header_or_columns_that_are_named(coco: Path, tmp_path: Path) -> None:
    columns = ("features", "boxes", "num_boxes", "image_w", "image_h", "image_id")
    plain = write_tsv(tmp_path / "plain.tsv", PICTURES, columns)
    headed = tmp_path / "headed.tsv"
    headed.write_text("\t".join(columns) + "\n" + plain.read_text())
    bottom_up(coco, (headed,), count=COUNT)
    expected = stored(coco)
    bottom_up(coco, (plain,), count=COUNT, columns=columns, overwrite=True)
    for source, found in stored(coco).items():
        assert all(np.array_equal(a, b) for a, b in zip(found, expected[source], strict=True))
        assert found.features.any()
    with pytest.raises(XmrError, match=r"3 of 3 pictures .* .*\(ids there: '[\w+/]"):
        bottom_up(coco, (plain,), count=COUNT, overwrite=True)


def test_one_array_of_all_pictures_is_read_with_its_list_of_ids(coco: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "train_ims.npy", np.stack([arrays["features"] for arrays in PICTURES.values()]))
    np.save(tmp_path / "train_boxes.npy", np.stack([arrays["boxes"] for arrays in PICTURES.values()]))
    (tmp_path / "train_ids.txt").write_text("".join(f"{name}\n" for name in COCO for _ in range(5)))  # for each text
    bottom_up(coco, (tmp_path / "train_ims.npy",), count=COUNT)  # sizes: of the shards' pictures
    for name, arrays in PICTURES.items():
        check(stored(coco)[COCO[name]], arrays, [0, 1, 2, 3], classes=False)
    np.save(tmp_path / "wide.npy", np.full((3, 2), (128, 48)))
    bottom_up(coco, (tmp_path / "train_ims.npy",), count=1, sizes=tmp_path / "wide.npy", overwrite=True)
    assert stored(coco)[COCO["9"]].boxes[0, 0] == pytest.approx(PICTURES["9"]["boxes"][0, 0] / 128)


@pytest.mark.parametrize("form", ["npz", "transposed", "npy"])
def test_a_folder_with_a_file_for_each_picture_is_read(coco: Path, tmp_path: Path, form: str) -> None:
    folder, boxes = tmp_path / "regions", tmp_path / "boxes"
    folder.mkdir()
    boxes.mkdir()
    for name, arrays in PICTURES.items():
        features = arrays["features"].T if form == "transposed" else arrays["features"]
        if form == "npy":
            np.save(folder / f"{name}.npy", features)
            np.save(boxes / f"{name}.npy", arrays["boxes"])
        else:
            more = {"image_w": SIDES[0], "image_h": SIDES[1], "info": np.array([{"a": 1}], object)}
            np.savez_compressed(
                folder / f"{name}.npz", x=features, bbox=arrays["boxes"], objects=arrays["objects_id"], **more
            )
    bottom_up(coco, (folder,), count=COUNT, boxes=boxes if form == "npy" else None)
    for name, arrays in PICTURES.items():
        check(stored(coco)[COCO[name]], arrays, [0, 1, 2, 3], classes=form != "npy")


def test_boxes_may_be_fractions_or_the_whole_picture(coco: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((3, 2, 5), np.float32))
    (tmp_path / "a_ids.txt").write_text("\n".join(COCO))
    with pytest.raises(XmrError, match=r"a.npy, row \d: there are no boxes; name them with --boxes"):
        bottom_up(coco, (tmp_path / "a.npy",), count=2)
    bottom_up(coco, (tmp_path / "a.npy",), count=2, whole_picture=True)
    assert stored(coco)[COCO["9"]].boxes.tolist() == [[0, 0, 1, 1, 1]] * 2
    np.save(tmp_path / "parts.npy", np.tile([0.25, 0.5, 0.75, 1.0], (3, 2, 1)))
    options: dict[str, Any] = {"count": 2, "boxes": tmp_path / "parts.npy", "overwrite": True}
    bottom_up(coco, (tmp_path / "a.npy",), box_unit="fractions", **options)
    assert stored(coco)[COCO["9"]].boxes.tolist() == [[0.25, 0.5, 0.75, 1, 0.25]] * 2


# ---- which picture


def test_a_picture_is_known_by_its_path_its_name_or_its_number() -> None:
    assert [*names_of("val2014/COCO_val2014_000000391895.jpg#fold2")][1:] == [
        "val2014/COCO_val2014_000000391895.jpg",
        "COCO_val2014_000000391895.jpg",
        "COCO_val2014_000000391895",
        "391895",
    ]
    for identity in (
        "391895",
        "COCO_val2014_000000391895",
        "000000391895.jpg",
        "val2014/COCO_val2014_000000391895.jpg",
    ):
        ids: PictureIds[int] = PictureIds()
        ids.add(identity, 7)
        assert ids.find("val2014/COCO_val2014_000000391895.jpg", "key") == 7
        assert ids.find("COCO_val2014_000000391896.jpg", "key") is None
    ids = PictureIds()
    ids.add("0a-some_key", 7)
    assert ids.find("", "0a-some_key") == 7
    assert ids.find("dog.v2", "b") is None and [*names_of("dog.v2")] == ["dog.v2"]


def test_one_id_for_two_pictures_and_two_ids_for_one_are_refused() -> None:
    ids: PictureIds[int] = PictureIds()
    ids.add("1", 1)
    assert ids.find("dog/0001.jpg", "a") == ids.find("dog/0001.jpg", "a") == 1
    with pytest.raises(XmrError, match=r"'1' stands for both dog/0001.jpg and cat/0001.jpg; say which with --names"):
        ids.find("cat/0001.jpg", "b")
    ids.add("0001", 2)
    assert ids.find("cat/0001.jpg", "b") == 2  # its name says more than its number
    ids.add("cat/01.png", 3)
    with pytest.raises(XmrError, match=r"several ids stand for '1'"):
        ids.find("bird/00001.jpg", "c")


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_table_says_which_id_is_which_picture(coco: Path, tmp_path: Path, form: str) -> None:
    table = tmp_path / f"names.{form}"
    names = {str(number): source.partition("#")[0] for number, source in enumerate(COCO.values())}
    names["77"] = "elsewhere.jpg"
    rows = "".join(f"{number},{name}\n" for number, name in names.items())
    table.write_text(json.dumps(names) if form == "json" else f"id,name\n{rows}")
    tsv = write_tsv(tmp_path / "a.tsv", {str(number): arrays for number, arrays in enumerate(PICTURES.values())})
    bottom_up(coco, (tsv,), count=COUNT, names=table)
    check(stored(coco)[COCO["25"]], PICTURES["25"], [0, 1, 2, 3], classes=False)
    assert "names " in load_manifest(coco).extended["regions.safetensors"]


def test_wrong_tables_of_names_are_refused(tmp_path: Path) -> None:
    for name, content, message in (
        ("a.csv", "number,file\n1,a\n", "the columns are number, file; wanted are id, name"),
        ("b.csv", "id,name\n1,a\n1,b\n", "b.csv, line 3: the id '1' has another name above"),
        ("c.json", '{"1": 2}', "c.json: 2 is no name of a picture"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(XmrError, match=message):
            read_names(tmp_path / name)


def test_missing_pictures_are_counted_and_refused_before_anything_is_changed(
    coco: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = {path.name: path.read_bytes() for path in coco.iterdir()}
    tsv = write_tsv(tmp_path / "a.tsv", {"9": PICTURES["9"], "1000": PICTURES["25"], "2000": PICTURES["25"]})
    listed = tmp_path / "missing.txt"
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(XmrError, match=r"2 of 3 pictures of .* such as .*jpg.*--allow-missing"),
    ):
        bottom_up(coco, (tsv,), count=COUNT, missing_list=listed)
    assert "2 of 3 ids stand for no picture" in caplog.text
    assert set(listed.read_text().splitlines()) == {COCO["391895"], COCO["25"]}
    assert {path.name: path.read_bytes() for path in coco.iterdir()} == before
    bottom_up(coco, (tsv,), count=COUNT, allow_missing=True)
    assert set(stored(coco)) == {COCO["9"]}
    nothing = write_tsv(tmp_path / "b.tsv", {"1000": PICTURES["25"]})
    with pytest.raises(XmrError, match="3 of 3 pictures"):
        bottom_up(coco, (nothing,), count=COUNT, allow_missing=True, overwrite=True)


def test_pictures_that_are_there_twice_must_have_the_same_regions(coco: Path, tmp_path: Path) -> None:
    one = write_tsv(tmp_path / "one.tsv", PICTURES)
    two = write_tsv(tmp_path / "two.tsv", {"9": PICTURES["9"]})
    bottom_up(coco, (one, two), count=COUNT)
    write_tsv(two, {"9": PICTURES["25"]})
    with pytest.raises(XmrError, match=r"two.tsv, line 1: other regions of '9' than .*one.tsv, line 2"):
        bottom_up(coco, (one, two), count=COUNT, overwrite=True)


# ---- how many


def test_fewer_regions_are_refused_or_repeated(coco: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tsv = write_tsv(tmp_path / "a.tsv", {**PICTURES, "9": picture(5, count=2)})
    with pytest.raises(XmrError, match=r"a.tsv, line 2: 2 regions; wanted are 4: .*--repeat"):
        bottom_up(coco, (tsv,), count=4)
    with caplog.at_level(logging.WARNING):
        bottom_up(coco, (tsv,), count=4, repeat=True, precision="float32")
    assert "1 pictures have fewer than 4 regions" in caplog.text
    found = stored(coco)[COCO["9"]]
    assert np.array_equal(found.features, picture(5, count=2)["features"][[0, 1, 0, 1]])


def test_an_interrupted_call_goes_on_where_it_was(coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tsv = write_tsv(tmp_path / "a.tsv", PICTURES)
    whole = Path(shutil.copytree(coco, tmp_path / "whole"))
    bottom_up(whole, (tsv,), count=COUNT)
    calls = []

    def to_stored_once(*arguments: Any, **options: Any) -> StoredRegions:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return to_stored(*arguments, **options)

    monkeypatch.setattr("preprocessing.bottom_up.command.to_stored", to_stored_once)
    with pytest.raises(KeyboardInterrupt):
        bottom_up(coco, (tsv,), count=COUNT)
    assert not (coco / "manifest.json").exists()
    bottom_up(coco, (tsv,), count=COUNT)
    assert len(calls) < 6  # what was done is not done again
    assert {path.name: path.read_bytes() for path in coco.iterdir()} == {
        path.name: path.read_bytes() for path in whole.iterdir()
    }


def test_boxes_that_rounding_puts_beyond_the_edge_are_cut(coco: Path, tmp_path: Path) -> None:
    pictures = {name: {**arrays, "boxes": box(-0.5, 0, 64.9, 48.2)} for name, arrays in PICTURES.items()}
    bottom_up(coco, (write_tsv(tmp_path / "a.tsv", pictures),), count=COUNT)
    assert stored(coco)[COCO["9"]].boxes[0].tolist() == [0, 0, 1, 1, 1]


def test_other_regions_that_are_there_are_replaced_only_when_asked(coco: Path, tmp_path: Path) -> None:
    def encode(records: Any) -> list[None]:
        return [None for _ in records]

    extend_shards(coco, "regions.safetensors", encode, batch=2, note="none")
    bottom_up(coco, (write_tsv(tmp_path / "a.tsv", PICTURES),), count=COUNT)
    with pytest.raises(XmrError, match=r"already has regions.safetensors \(4 regions of a.tsv.*--overwrite"):
        bottom_up(coco, (tmp_path / "a.tsv",), count=3)


def test_help_shows_an_example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["bottom_up", "--help"])
    with pytest.raises(SystemExit, match="0"):
        run(bottom_up)
    shown = " ".join(capsys.readouterr().out.split())
    assert "python -m preprocessing.bottom_up data/shards/mscoco trainval_resnet101_faster_rcnn_genome_36.tsv" in shown
