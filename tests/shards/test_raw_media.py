"""`xmr shards` on sounds, videos and shapes: they are decoded, drawn, counted and compared."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.media_bytes import mp4, off, wav
from xmr_e2e.cli import main
from xmr_e2e.data.command import _draw_samples
from xmr_e2e.data.media_check import bounds_of_options, check_media
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.audit.audit import audit
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.shards.index import load_index
from xmr_e2e.shards.verify import verify

CONTENTS = {
    ("one.wav", "train"): wav(pitch=300),
    ("same.wav", "test"): wav(pitch=300),
    ("other.wav", "test"): wav(pitch=500),
    ("one.mp4", "train"): mp4(),
    ("same.mp4", "val"): mp4(),
    ("one.off", "train"): off(),
    ("same.off", "train"): off(),
    ("other.off", "test"): off((1.0, 2.0, 3.0)),
}
MODALITIES = {"wav": "audio", "mp4": "video", "off": "shape3d"}


def build(folder: Path, contents: dict[tuple[str, str], bytes], exclude: Path | None = None) -> Path:
    samples = []
    for (name, split), data in contents.items():
        path = folder / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        samples.append(RawSample(name, split, labels=("a",), media={MODALITIES[name[-3:]]: path}))
    samples.append(RawSample("words", "val", texts=("a text",), labels=("a",)))
    options = BuildOptions(workers=1, exclude=exclude)
    out = folder / ("again" if exclude else "shards")
    build_shards(out, dataset="five", classes=("a",), samples=samples, required=(), options=options)
    return out


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("media"), CONTENTS)


def test_verify_decodes_them_and_names_what_does_not(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["shards", "verify", str(shards), "--workers", "1"]) == 0
    assert "every sound and video and shape decodes" in capsys.readouterr().out
    broken = {("cut.wav", "train"): wav()[:30], ("noise.mp4", "train"): bytes(500), ("cut.off", "train"): off()[:60]}
    folder = build(tmp_path, {**CONTENTS, **broken})  # stored as they are: nothing decodes them at building
    found = {
        problem.key.partition("-")[2]: problem.what for problem in verify(folder, workers=1, check_media=check_media)
    }
    assert set(found) == {"cut_wav", "noise_mp4", "cut_off"}
    assert found["cut_off"].startswith(".off: the shape is cut or damaged") and found["noise_mp4"].startswith(".mp4: ")
    assert main(["shards", "verify", str(folder), "--workers", "1"]) == 1
    assert verify(folder, workers=1) == []


def test_verify_keeps_to_the_bounds_of_the_build() -> None:
    bounds = bounds_of_options({"max_seconds": 1, "resize": None, "max_points": 7})
    assert (bounds.max_seconds, bounds.max_points) == (1, 7)
    with pytest.raises(XmrError, match=r"^here: the sound is .* above the bound of 1"):
        check_media("audio", "wav", wav(2.0), "here", bounds)
    with pytest.raises(XmrError, match=r"^here: the shape has 8 vertices or points, above the bound of 7"):
        check_media("shape3d", "off", off(), "here", bounds)
    check_media("audio", "wav", wav(2.0), "here", bounds_of_options({"max_seconds": None}))


def test_the_sheet_shows_each_of_them(shards: Path, tmp_path: Path) -> None:
    tiles = _draw_samples(shards, "train", 10, 0)
    assert len(tiles) == 4 and all(isinstance(tile.image, Image.Image) for tile in tiles)
    assert len({np.asarray(tile.image).tobytes() for tile in tiles}) == 3  # the same shape twice
    assert [tile.image for tile in _draw_samples(shards, "val", 10, 0) if isinstance(tile.image, str)] == [
        "no image; the sample has text"
    ]
    assert main(["shards", "sheet", str(shards), str(tmp_path / "s.png")]) == 0
    broken = build(tmp_path, {("cut.off", "train"): off()[:60]})
    (tile,) = _draw_samples(broken, "train", 1, 0)
    assert isinstance(tile.image, str) and tile.image.startswith(".off: the shape is cut")


def test_the_audit_finds_the_same_files_in_two_splits(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = audit([shards], workers=1)
    parts = [part.split for part in result.parts]
    pairs = {
        kind: {
            (parts[a], parts[b]): int(counts) for (a, b), counts in np.ndenumerate(found.counts) if counts and a <= b
        }
        for kind, found in result.found.items()
    }
    assert pairs == {
        "picture": {},
        "look": {},
        "audio": {("train", "test"): 1},
        "video": {("train", "val"): 1},
        "shape3d": {("train", "train"): 1},
        "texts": {},
    }
    table, names = tmp_path / "d.csv", tmp_path / "exclude.txt"
    assert main(["shards", "audit", str(shards), "--workers", "1", "--duplicates", str(table), "--exclude", str(names),
                 "--sheet", str(tmp_path / "d.png")]) == 1  # fmt: skip
    assert "same sound" in capsys.readouterr().out
    rows = [*csv.DictReader(table.open())]
    assert {(row["kind"], row["source"], row["left_out"]) for row in rows} == {
        ("same sound", "one.wav", "yes"), ("same sound", "same.wav", "no"),
        ("same video", "one.mp4", "yes"), ("same video", "same.mp4", "no"),
        ("same shape", "one.off", "no"), ("same shape", "same.off", "no"),
    }  # fmt: skip
    again = build(tmp_path, CONTENTS, exclude=names)
    assert audit([again], workers=1).across == 0
    assert sum(len(load_index(path)) for path in again.glob("*.tar")) == len(CONTENTS) + 1 - 2


def test_kinds_that_no_folder_has_are_no_column(tiny_shards: Path) -> None:
    assert list(audit([tiny_shards], workers=1).found) == ["picture", "look", "texts"]


def test_info_counts_each_and_says_how_many_frames(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", "info", str(shards)]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("audio", "video", "shape3d", "original image bytes"))
    from xmr_e2e.shards.info import _heading
    from xmr_e2e.shards.manifest import load_manifest

    manifest = load_manifest(shards)
    assert "8 frames of each video" in _heading(replace(manifest, options={**manifest.options, "frames": 8})).plain
