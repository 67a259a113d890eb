"""Files with regions from somebody else: whatever is in them, they are read or refused with file, row and reason."""

from __future__ import annotations

import base64
import io
import os
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from preprocessing.bottom_up.command import bottom_up
from preprocessing.bottom_up.region_arrays import ArrayRegions, FolderRegions
from preprocessing.bottom_up.region_files import to_stored
from preprocessing.bottom_up.region_tsv import BOTTOM_UP, LXMERT, TsvRegions
from tests.helpers.fuzzing import damaged, fuzzed
from tests.helpers.made_regions import COUNT, PICTURES, WIDTH, Array, box, make_shards, write_tsv
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.features import UNKNOWN_CLASS, StoredRegions, UnusableFeatures, decode_regions, encode_regions


def changed(**changes: Any) -> dict[str, dict[str, Array]]:
    return {"9": {**PICTURES["9"], **changes}}


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (changed(boxes=box(0, 0, 70, 10)), r"line 1: a box outside of the picture of 64 x 48: 0, 0, 70, 10"),
        (changed(boxes=box(0, 0, 10, 64)), "outside of the picture"),
        (changed(boxes=box(-3, 0, 10, 40)), "outside of the picture"),
        (changed(boxes=box(30, 0, 10, 40)), r"a box with corners in another order than x1 y1 x2 y2"),
        (changed(boxes=box(np.nan, 0, 10, 40)), "boxes hold numbers that are not finite"),
        (changed(boxes=box(0, 0, 10)), r"line 1: boxes has 48 bytes in base64; wanted are 64"),
        (changed(features=np.full((COUNT, WIDTH), np.nan, np.float32)), "features hold numbers that are not finite"),
        (changed(features=np.full((COUNT, WIDTH), 1e6, np.float32)), "not finite, or too large for float16"),
        (changed(objects_id=np.full(COUNT, -2)), "objects beyond 0"),
        (changed(objects_conf=np.full(COUNT, np.nan, np.float32)), "scores of the objects hold numbers"),
        (changed(objects_id=np.arange(3)), r"objects_id has 24 bytes in base64; wanted are 32"),
    ],
)
def test_wrong_regions_end_in_one_line_with_file_line_and_what_is_wrong(
    tmp_path: Path, make_image: Callable[..., Path], pictures: Any, message: str
) -> None:
    shards = make_shards(tmp_path / "s", ["9.jpg"], make_image)
    with pytest.raises(XmrError, match=rf"a.tsv, {message}|a.tsv, line 1: .*{message}") as error:
        bottom_up(shards, (write_tsv(tmp_path / "a.tsv", pictures, LXMERT),), count=COUNT)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no regions there"),
        (b"1\t2\t3\n", "line 1: 3 columns between tabs; wanted are the 6 of bottom-up attention"),
        (b"\t64\t48\t1\tAA==\tAA==\n", "line 1: no id of a picture"),
        (b"9\t64\t48\t1\tAA==\tAA==\n9\t64\t48\n", "line 2: 3 columns between tabs; wanted are 6: the file is cut"),
        (b"9\tx\t48\t1\tAA==\tAA==\n", "line 1: image_w is 'x'"),
        (b"9\t64\t48\t0\t\t\n", "line 1: num_boxes is 0"),
        (b"9\t64\t48\t9999999\tAA==\tAA==\n", "line 1: num_boxes is 9999999"),
        (b"9\t64\t48\t1\tAA==\t!!\n", "line 1: features is no base64"),
        (b"9\t64\t48\t2\tAA==\tAAAAAAAAAAAAAAAA\n", "features are 3 numbers, which 2 regions"),
        (b"9\t64\t48\t1\tAA==\tAAAA\n", "features has 3 bytes in base64; wanted are a multiple of 4"),
        (b"\xff\t64\t48\t1\tAA==\tAA==\n", "line 1: not UTF-8"),
    ],
)
def test_a_tsv_that_is_none_is_refused(
    tmp_path: Path, make_image: Callable[..., Path], content: bytes, message: str
) -> None:
    shards = make_shards(tmp_path / "s", ["9.jpg"], make_image)
    (tmp_path / "a.tsv").write_bytes(content)
    with pytest.raises(XmrError, match=message):
        bottom_up(shards, (tmp_path / "a.tsv",), count=1)


def test_options_that_do_not_fit_the_file_are_refused(tmp_path: Path, make_image: Callable[..., Path]) -> None:
    coco = make_shards(tmp_path / "coco", ["9.jpg"], make_image)
    tsv = write_tsv(tmp_path / "a.tsv", PICTURES)
    for options, message in (
        ({"ids": tsv}, "--ids is for a .npy"),
        ({"count": 0}, "--count 0: wanted are 1 to 1000"),
        ({"columns": ("image_id", "boxes")}, "lack image_w, image_h, num_boxes, features"),
    ):
        with pytest.raises(XmrError, match=message):
            bottom_up(coco, (tsv,), **options)  # type: ignore[arg-type]
    with pytest.raises(XmrError, match=r"nothing.tsv: no such file"):
        bottom_up(coco, (tmp_path / "nothing.tsv",))
    np.savez(tmp_path / "all.npz", x=np.ones(3))
    with pytest.raises(XmrError, match="would be read whole"):
        bottom_up(coco, (tmp_path / "all.npz",))


def test_wrong_arrays_are_refused(tmp_path: Path) -> None:
    def save(name: str, array: Any) -> Path:
        np.save(tmp_path / name, array, allow_pickle=True)
        return tmp_path / name

    good = save("a_ims.npy", np.ones((2, 3, 4), np.float32))
    with pytest.raises(XmrError, match=r"a_ids.txt: there is no list of the ids"):
        list(ArrayRegions(good).entries())
    (tmp_path / "a_ids.txt").write_text("1\n2\n3\n")
    with pytest.raises(XmrError, match=r"a_ids.txt: 3 ids for the 2 rows"):
        list(ArrayRegions(good).entries())
    (tmp_path / "a_ids.txt").write_text("1\n2\n1\n2\n")
    with pytest.raises(XmrError, match=r"a_ids.txt: 4 ids for the 2 rows"):
        list(ArrayRegions(good).entries())
    with pytest.raises(XmrError, match=r"an array of shape \(2, 3\)"):
        ArrayRegions(save("flat.npy", np.ones((2, 3), np.float32)))
    with pytest.raises(XmrError, match=r"boxes of shape \(2, 3, 5\); wanted is \(2, 3, 4\)"):
        ArrayRegions(good, boxes=save("b.npy", np.ones((2, 3, 5))))
    with pytest.raises(XmrError, match="holds Python objects, which can run code"):
        ArrayRegions(good, sizes=save("sizes.npy", np.array([{"image_w": 1}, {}], object)))
    with pytest.raises(XmrError, match="features are <U1, not numbers"):
        ArrayRegions(save("words.npy", np.array([[["a"]]])))
    good.write_bytes(good.read_bytes()[:-4])
    with pytest.raises(XmrError, match=r"no .npy that can be read"):
        ArrayRegions(good)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(XmrError, match=r"no \.npz and no \.npy"):
        FolderRegions(empty)


def test_classes_are_known_of_all_regions_of_a_picture_or_of_none() -> None:
    features, boxes = np.ones((2, 3), np.float32), np.ones((2, 5), np.float32)
    for classes in ([UNKNOWN_CLASS, UNKNOWN_CLASS], [0, 7]):
        stored = StoredRegions(features, boxes, np.array(classes))
        assert decode_regions(encode_regions(stored)).classes.tolist() == classes
    for classes in ([UNKNOWN_CLASS, 7], [-2, -2]):
        with pytest.raises(UnusableFeatures, match="classes hold negative numbers"):
            encode_regions(StoredRegions(features, boxes, np.array(classes)))


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "victim"),)

    (tmp_path / "a_ims.npy").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(XmrError, match=r"no .npy that can be read"):
        ArrayRegions(tmp_path / "a_ims.npy")
    folder = tmp_path / "folder"
    folder.mkdir()
    np.savez(folder / "9.npz", x=np.array([Hostile()], object))
    with pytest.raises(XmrError, match=r"9.npz: holds nothing; wanted is features"):
        FolderRegions(folder).read(0)
    assert not (tmp_path / "victim").exists()


def npy_bytes(array: Array) -> bytes:
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()


def npz_bytes(**arrays: Any) -> bytes:
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    return data.getvalue()


TSV = b"9\t64\t48\t2\t" + base64.b64encode(np.float32([[0, 0, 9, 9]] * 2).tobytes()) + b"\t"
TSV += base64.b64encode(np.ones((2, 3), np.float32).tobytes()) + b"\r\n"
ONE = {"x": np.ones((2, 3), np.float32), "bbox": np.float32([[0, 0, 9, 9]] * 2), "image_w": 64, "image_h": 48}


@pytest.mark.slow
@fuzzed
@given(data=damaged(TSV, TSV * 3, "\t".join(BOTTOM_UP).encode() + b"\n" + TSV))
def test_a_damaged_tsv_is_read_or_refused(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.tsv"
    path.write_bytes(data)
    file = TsvRegions(path)
    with suppress(XmrError):
        for _, number in file.entries():
            raw = file.read(number)
            to_stored(raw, raw.size or (1, 1), "w", count=2, repeat=True, unit="pixels", precision="float16")


@pytest.mark.slow
@fuzzed
@given(
    data=damaged(npz_bytes(**ONE), npz_bytes(**{**ONE, "objects": np.arange(2)})), plain=damaged(npy_bytes(ONE["x"]))
)
def test_damaged_arrays_are_read_or_refused(
    data: bytes, plain: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    folder.mkdir(exist_ok=True)
    (folder / "1.npz").write_bytes(data)
    (folder / "2.npy").write_bytes(plain)
    for number in range(2):
        with suppress(XmrError):
            file = FolderRegions(folder)
            raw = file.read(number)
            to_stored(raw, raw.size or (64, 48), "w", count=2, repeat=True, unit="pixels", precision="float16")


def test_a_header_that_asks_for_room_gets_none(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (100000, 100000), }"
    header += b" " * (117 - len(header)) + b"\n"
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(tmp_path / "1.npz", "w") as archive:
        archive.writestr("x.npy", npy + b"\0" * 64)
    (tmp_path / "2.npy").write_bytes(npy + b"\0" * 64)
    tracemalloc.start()
    for number, message in enumerate([r"an array of shape \(100000, 100000\)", "no .npy that can be read"]):
        with pytest.raises(XmrError, match=message):
            FolderRegions(tmp_path).read(number)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    line = b"\t64\t48\t36\t" + b"A" * 768 + b"\t" + b"A" * (36 * 256 * 16 // 3) + b"\n"
    path = tmp_path / "large.tsv"
    with open(path, "wb") as stream:
        for number in range(400):
            stream.write(str(number).encode() + line)
    assert path.stat().st_size > 19e6
    file = TsvRegions(path)
    list(file.entries())  # the progress bar's own memory
    tracemalloc.start()
    found = list(TsvRegions(path).entries())
    assert len(found) == 400 and tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()
    assert file.read(399).features.shape == (36, 256)
