"""Tables of strangers: what is damaged is named, no path leads out of the table's folder, and nothing is left."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from preprocessing.arrow.hub import OnDisk, Published
from preprocessing.arrow.pictures import picture_folder
from tests.helpers.arrow_tables import CAPTIONS, from_hf, from_parquet, jpeg, pictures, refused, rows, saved, table
from tests.helpers.built import write
from tests.helpers.stored import stored
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.raw import RawTree


def test_damaged_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = table(tmp_path / "whole.parquet", {"image": pictures(40), "text": ["t"] * 40}).read_bytes()
    for number, content in enumerate([b"", b"PAR1", whole[:-100], whole[:40] + bytes(600) + whole[640:]]):
        path = write(tmp_path / f"{number}.parquet", content)
        assert from_parquet(path, tmp_path / "out") == 2
        assert f"{path}" in refused(capsys, tmp_path / "out")


def test_files_of_other_columns_or_of_no_split_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(tmp_path / "raw" / "train-0.parquet", {"image": pictures(1), "text": ["t"]})
    table(tmp_path / "raw" / "train-1.parquet", {"image": pictures(1), "text": ["t"], "more": [1]})
    assert from_parquet(tmp_path / "raw", tmp_path / "out") == 2
    assert "its columns are not those of" in refused(capsys, tmp_path / "out")
    (tmp_path / "raw" / "train-1.parquet").unlink()
    table(tmp_path / "raw" / "rest.parquet", {"image": pictures(1), "text": ["t"]})
    assert from_parquet(tmp_path / "raw", tmp_path / "out") == 2
    assert "its name does not begin with a split's" in refused(capsys, tmp_path / "out")
    assert from_parquet(tmp_path / "raw" / "x*.parquet", tmp_path / "out") == 2
    assert "no Parquet files" in refused(capsys, tmp_path / "out")


@pytest.mark.parametrize("label", [3, -2])
def test_a_class_beyond_the_names_is_refused(label: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_pylist([{**rows(1)[0], "animal": label}], CAPTIONS.arrow_schema), path)
    assert from_parquet(path, tmp_path / "out") == 2
    assert f"row 0: animal: {label} is no class" in refused(capsys, tmp_path / "out")


def test_minus_one_is_a_label_that_is_not_published(tmp_path: Path) -> None:
    path = tmp_path / "test.parquet"
    table = [{**row, "animal": label} for row, label in zip(rows(3), [0, -1, None])]
    pq.write_table(pa.Table.from_pylist(table, CAPTIONS.arrow_schema), path)
    assert from_parquet(path, tmp_path / "out", "--val", "0", "--test", "0") == 0
    assert sorted(sample.labels for sample in stored(tmp_path / "out").values()) == [(), (), ("dog",)]


def test_a_damaged_saved_dataset_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Offsets that lead out of the file, which Arrow would follow."""
    raw = saved(tmp_path / "raw", train=3)
    (data,) = (raw / "train").glob("*.arrow")
    offsets = (0).to_bytes(4, "little") + len(jpeg(0)).to_bytes(4, "little")
    content = data.read_bytes()
    assert offsets in content
    data.write_bytes(content.replace(offsets, (0).to_bytes(4, "little") + (2**30).to_bytes(4, "little"), 1))
    assert from_hf(raw, tmp_path / "out") == 2
    assert "cannot be loaded as a dataset" in refused(capsys, tmp_path / "out")


def test_a_path_in_a_dataset_leads_nowhere_else(tmp_path: Path) -> None:
    """A published table may name any file of the reader's, and any address."""
    raw = saved(tmp_path / "raw", train=1)
    write(tmp_path / "mine.jpg", jpeg(0))
    on_disk = OnDisk(raw, None, RawTree(raw))
    hub = Published.__new__(Published)
    hub.where, hub.commit = "someone/set", "abc"
    for path in ("../mine.jpg", str(tmp_path / "mine.jpg"), "http://127.0.0.1:9/x.jpg", f"zip://x::{tmp_path}/a.zip"):
        with pytest.raises(XmrError, match="leads out of"):
            on_disk.find(path, "row 0")
    for path in (
        "../other/x.jpg",
        "http://127.0.0.1:9/x.jpg",
        "hf://datasets/someone/other@abc/x.jpg",
        "zip://x.jpg::http://127.0.0.1:9/a.zip",
        f"file://{tmp_path}/mine.jpg",
    ):
        with pytest.raises(XmrError, match="lies outside of someone/set"):
            hub.find(path, "row 0")


def test_a_hub_that_cannot_be_reached_and_a_name_that_is_none_are_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert from_hf("someone/set", tmp_path / "out") == 2
    assert "someone/set: cannot be loaded as a dataset" in refused(capsys, tmp_path / "out")
    assert from_hf("no/such/name", tmp_path / "out") == 2
    assert "no/such/name: cannot be loaded as a dataset" in refused(capsys, tmp_path / "out")


def test_after_an_error_nothing_is_left_and_after_ctrl_c_what_the_build_has_made(tmp_path: Path) -> None:
    for number, (error, left) in enumerate([(XmrError("no"), []), (KeyboardInterrupt(), [".building"])]):
        out = tmp_path / str(number)
        with pytest.raises(type(error)), picture_folder(out) as pictures:
            assert pictures.add(b"one") == pictures.add(b"one") != pictures.add(b"other")
            write(out / ".building" / "made" / "train-00000.tar", b"")
            raise error
        assert [path.name for path in out.glob("*")] == left
        assert out.exists() == bool(left)


def test_what_a_killed_command_left_goes_with_the_next(tmp_path: Path) -> None:
    write(tmp_path / "out" / ".pictures" / "ab" / "old", b"old")
    path = table(tmp_path / "t.parquet", {"image": pictures(2), "text": ["a", "b"]})
    assert from_parquet(path, tmp_path / "out", "--val", "0", "--test", "0") == 0
    assert not (tmp_path / "out" / ".pictures").exists()
