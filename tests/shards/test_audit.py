"""Duplicates within and across splits: what was planted is found and named, what only resembles it is not."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from xmr_e2e.cli import main
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.audit.audit import Audit, audit, counts_table, describe
from xmr_e2e.shards.audit.duplicates import ALIKE, ALIKE_IN_DETAIL, CASES, exact_duplicates, near_duplicates
from xmr_e2e.shards.audit.fingerprint import FINGERPRINT, perceptual_hashes
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.shards.manifest import load_manifest

PARTS = ("train", "val", "test")


def picture(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Soft blobs, as photographs have them, and some grain."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = rng.normal(0, 6, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, format: str = "JPEG", **options: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


ORIGINAL = picture(0)
PLANTED = {
    ("original", "train"): encoded(ORIGINAL, quality=95),
    ("copy", "test"): encoded(ORIGINAL, quality=95),
    ("encoded again", "val"): encoded(ORIGINAL, quality=40),
    ("smaller", "test"): encoded(ORIGINAL.resize((70, 52)), quality=85),
    ("mirrored", "test"): encoded(ImageOps.mirror(ORIGINAL), quality=95),
    ("upside down", "test"): encoded(ImageOps.flip(ORIGINAL), quality=95),
    ("cut", "test"): encoded(ORIGINAL.crop((60, 40, 160, 120)), quality=95),
}
"""(name, split) -> bytes; the copies of "original" are one by its bytes and two by their looks"""


def build(folder: Path, name: str, samples: list[RawSample], exclude: Path | None = None) -> Path:
    options = BuildOptions(shard_samples=5, workers=1, exclude=exclude)
    build_shards(folder / name, dataset=name, classes=("a",), samples=samples, options=options)
    return folder / name


def raw(folder: Path, name: str, split: str, data: bytes, text: str) -> RawSample:
    path = folder / f"{name}.img"
    path.write_bytes(data)
    return RawSample(name, split, path, (text,), ("a",))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    samples = [raw(folder, name, split, data, f"text of {name}") for (name, split), data in PLANTED.items()]
    for number in range(1, 13):
        split = PARTS[number % 3]
        samples.append(raw(folder, f"other {number}", split, encoded(picture(number)), f"another text, {number}"))
    samples.append(raw(folder, "same words", "train", encoded(picture(50)), "Another  text, 2"))  # of test
    for number in range(2):
        flat = encoded(Image.new("RGB", (64, 48), (number, 90, 200)), "PNG")
        samples.append(raw(folder, f"flat {number}", PARTS[number], flat, f"flat text {number}"))
    return build(folder, "shards", samples)


@pytest.fixture(scope="module")
def found(planted: Path) -> Audit:
    return audit([planted], workers=1)


def counts(result: Audit, kind: str) -> dict[str, int]:
    """Of the pairs of parts that have any."""
    table = result.found[kind].counts
    return {
        f"{result.title(one)} – {result.title(other)}": int(table[one, other]) for one, other in zip(*table.nonzero())
    }


def test_planted_pairs_are_counted_by_the_splits_that_they_lie_in(found: Audit) -> None:
    assert counts(found, "picture") == {"train – test": 1}
    # The original and its copy, each with the one encoded again (val) and the smaller one (test); and these two.
    assert counts(found, "look") == {"train – val": 1, "val – test": 2, "train – test": 1, "test – test": 1}
    assert counts(found, "texts") == {"train – test": 1}
    assert found.across == 1 + 4 + 1
    assert (found.flat, found.undecodable) == (2, ())


def test_pairs_are_named_by_shard_and_key_those_across_splits_first(found: Audit, planted: Path) -> None:
    lines = list(describe(found))
    exact = next(line for line in lines if "same picture" in line)
    for split, name in (("train", "original"), ("test", "copy")):
        key = next(key for shard, key in keys(planted) if key.endswith(f"-{name}") and shard.startswith(split))
        assert f"{split}-0000" in exact and key in exact
    across = [line.startswith(("test – test", "train – train", "val – val")) for line in lines[:-2]]
    assert across == sorted(across)
    assert lines[-1].startswith("6 pairs among 22 samples lie in two splits")
    assert [row for row in lines if "one colour" in row]
    assert len(list(counts_table(found).rows)) == 6
    for word in ("mirrored", "upside", "cut", "other", "flat_"):
        assert not any(word in line for line in lines if "picture" in line), word


def keys(folder: Path) -> list[tuple[str, str]]:
    from xmr_e2e.shards.index import load_index

    return [(shard.name, key) for shard in sorted(folder.glob("*.tar")) for key in load_index(shard).keys]


def test_the_command_exits_with_1_and_draws_the_pairs(
    planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "new" / "pairs.png"
    assert main(["shards", "audit", str(planted), "--sheet", str(sheet), "--workers", "1"]) == 1
    printed = capsys.readouterr().out
    assert "train – test" in printed and "6 pairs among 22 samples lie in two splits" in printed
    with Image.open(sheet) as image:
        assert image.width == 20 + 4 * 260  # two pairs in a row
        assert image.height > 600


def test_what_the_audit_lists_is_left_out_by_the_builder(
    planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed, exclude = tmp_path / "new/duplicates.csv", tmp_path / "exclude.txt"
    arguments = ["--duplicates", str(listed), "--exclude", str(exclude), "--workers", "1"]
    assert main(["shards", "audit", str(planted), *arguments]) == 1
    assert "for --exclude of the builder" in capsys.readouterr().out
    rows = list(csv.DictReader(listed.open(encoding="utf-8")))
    by_group: dict[str, list[tuple[str, str, str]]] = {}
    for row in rows:
        by_group.setdefault(row["group"], []).append((row["source"], row["split"], row["left_out"]))
    alike_ones, texts = by_group.values()
    assert sorted(alike_ones) == [("copy", "test", "no"), ("encoded again", "val", "yes"), ("original", "train", "yes"),
                                  ("smaller", "test", "no")]  # fmt: skip
    assert sorted(texts) == [("other 2", "test", "no"), ("same words", "train", "yes")]
    assert {row["kind"] for row in rows} == {"alike pictures", "same texts"}

    samples = [raw(tmp_path, *place, data, f"text of {place[0]}") for place, data in PLANTED.items()]
    samples += [raw(tmp_path, "same words", "train", encoded(picture(50)), "Another  text, 2"),
                raw(tmp_path, "other 2", "test", encoded(picture(2)), "another text, 2")]  # fmt: skip
    exclude.write_text(exclude.read_text() + "no such sample\n")
    folder = build(tmp_path, "again", samples, exclude=exclude)
    assert load_manifest(folder).notes[:2] == (
        "left out, as exclude.txt says: 2 of train, 1 of val",
        "exclude.txt: 1 lines are no sample's source or key, such as no such sample",
    )
    assert main(["shards", "audit", str(folder), "--workers", "1", "--exclude", str(exclude)]) == 0
    assert exclude.read_text() == ""
    assert load_manifest(build(tmp_path, "once more", samples, exclude=exclude)).notes == (
        "exclude.txt is empty: nothing is left out",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [("nobody\n", "none of its 1 lines is the source or the key of a sample"), ("one\ntwo\n", "no sample is left")],
)
def test_an_exclude_list_that_cannot_be_meant_is_an_error(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(content, encoding="utf-8-sig", newline="\r\n")
    samples = [raw(tmp_path, name, "train", encoded(picture(1)), "a text") for name in ("one", "two")]
    with pytest.raises(XmrError, match=rf"--exclude .*list.txt: {message}"):
        build(tmp_path, "none", samples, exclude=tmp_path / "list.txt")


@pytest.mark.processes
@pytest.mark.slow
def test_several_processes_find_the_same(planted: Path, found: Audit) -> None:
    again = audit([planted], workers=2)
    assert list(describe(again)) == list(describe(found))


def test_duplicates_within_a_split_alone_are_said_and_are_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = encoded(ORIGINAL)
    samples = [raw(tmp_path, f"copy {number}", "train", data, "one text") for number in range(3)]
    samples.append(raw(tmp_path, "alone", "test", encoded(picture(7)), "one text"))
    folder = build(tmp_path, "within", samples)
    assert main(["shards", "audit", str(folder), "--no-texts", "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "train – train, same picture" in printed and "no duplicates in two splits among 4 samples" in printed
    assert int(audit([folder], workers=1).found["picture"].counts[0, 0]) == 3
    assert main(["shards", "audit", str(folder), "--workers", "1"]) == 1  # by the text


def test_folders_are_compared_with_each_other(planted: Path, tmp_path: Path) -> None:
    samples = [
        raw(tmp_path, "theirs", "train", encoded(ORIGINAL, quality=60), "their text"),
        raw(tmp_path, "their test", "test", encoded(picture(3)), "their other text"),  # the first folder's training
    ]
    other = build(tmp_path, "others", samples)
    result = audit([planted, other], texts=False, workers=1)
    assert counts(result, "picture")["shards train – others test"] == 1
    assert counts(result, "look")["shards test – others train"] == 2
    own = audit([planted], texts=False, workers=1).across
    assert result.across == own + 1 + 1 + 2  # its test in training; its training in val and twice in test


def test_a_damaged_picture_is_left_out_and_said(planted: Path, tmp_path: Path) -> None:
    import shutil

    from xmr_e2e.shards.index import load_index

    folder = tmp_path / "damaged"
    shutil.copytree(planted, folder)
    shard = next(folder.glob("val-*.tar"))
    offset, size = load_index(shard).span("jpg", 0) or (0, 0)
    with open(shard, "r+b") as stream:
        stream.seek(offset)
        stream.write(bytes(size))
    result = audit([folder], workers=1)
    assert result.undecodable == (f"{shard.name}: {load_index(shard).keys[0]}",)
    assert any("cannot be decoded" in line and shard.name in line for line in describe(result))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--duplicates", "found.txt"], "found.txt: the name must end in .csv"),
        (["--exclude", "."], ". is a folder; name a file in it"),
        (["--exclude", "/dev/null/list.txt"], "/dev/null: "),
    ],
)
def test_what_cannot_be_written_is_said_before_all_is_read(
    arguments: list[str], message: str, planted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["shards", "audit", str(planted), *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and not printed.out


def test_what_is_no_folder_of_shards_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", "audit", str(tmp_path)]) == 2
    assert "manifest.json does not exist" in capsys.readouterr().err


# ---- the search among many


def hashes(count: int, seed: int) -> np.ndarray:
    """Random ones, of which many are near others: up to 8 bits of the coarse and 60 of the fine hash differ."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(count, FINGERPRINT)
    rows["look"] = rng.integers(0, 2**64 - 1, count, np.uint64, endpoint=True)
    rows["detail"] = rng.integers(0, 2**64 - 1, (count, 4), np.uint64, endpoint=True)
    rows["picture"] = rng.integers(1, 2**63, (count, 2), np.uint64)
    rows["has_look"] = True
    for target in rng.choice(count, count // 4, replace=False):
        source = rng.integers(count)
        rows["look"][target] = flipped(rows["look"][source : source + 1], int(rng.integers(9)), rng)[0]
        rows["detail"][target] = flipped(rows["detail"][source], int(rng.integers(61)), rng)
    rows["picture"][::17] = rows["picture"][0]  # the same picture, many times
    rows[["look", "detail"]][::17] = rows[["look", "detail"]][0]
    return rows


def flipped(words: np.ndarray, bits: int, rng: np.random.Generator) -> np.ndarray:
    unpacked = np.unpackbits(np.ascontiguousarray(words).view(np.uint8))
    unpacked[rng.choice(len(unpacked), bits, replace=False)] ^= 1
    return np.packbits(unpacked).view(np.uint64)


@pytest.mark.parametrize(("block", "candidates"), [(4096, 2**20), (97, 50)])
def test_pairs_equal_those_of_comparing_each_with_each(
    monkeypatch: pytest.MonkeyPatch, block: int, candidates: int
) -> None:
    monkeypatch.setattr("xmr_e2e.shards.audit.duplicates._BLOCK", block)
    monkeypatch.setattr("xmr_e2e.shards.audit.duplicates._CANDIDATES", candidates)
    rows = hashes(900, seed=1)
    part = np.arange(900) % 3
    exact, near = np.zeros((3, 3), int), np.zeros((3, 3), int)
    for one in range(900):
        coarse = np.bitwise_count(rows["look"][one] ^ rows["look"])
        fine = np.bitwise_count(rows["detail"][one] ^ rows["detail"]).sum(1)
        twin = (rows["picture"][one] == rows["picture"]).all(1)
        for other in range(one + 1, 900):
            a, b = sorted((part[one], part[other]))
            exact[a, b] += twin[other]
            near[a, b] += coarse[other] <= ALIKE and fine[other] <= ALIKE_IN_DETAIL and not twin[other]
    assert near.sum() > 100 and exact.sum() > 1000
    told: list[tuple[int, int]] = []
    found = near_duplicates(rows, part, 3, tell=lambda done, total: told.append((done, total)))
    assert np.array_equal(found.counts, near)
    assert np.array_equal(exact_duplicates(rows["picture"], part, 3).counts, exact)
    assert told[-1][0] == told[-1][1]
    for (a, b), cases in found.cases.items():
        assert 0 < len(cases) <= CASES
        for one, other in cases:
            assert (part[one], part[other]) == (a, b)
            assert np.bitwise_count(rows["look"][one] ^ rows["look"][other]) <= ALIKE


def test_nothing_is_equal_to_nothing() -> None:
    rows = np.zeros(4, FINGERPRINT)
    part = np.zeros(4, np.int64)
    assert exact_duplicates(rows["texts"], part, 1).counts.sum() == 0
    assert near_duplicates(rows, part, 1, tell=lambda *_: None).counts.sum() == 0


def test_a_hash_is_that_of_the_cosine_transform() -> None:
    """Against the transform written out."""
    image = picture(4)
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), np.float64)
    waves = np.cos(np.pi * (2 * np.arange(32)[None] + 1) * np.arange(16)[:, None] / 64)
    scale = np.where(np.arange(16) == 0, np.sqrt(1 / 32), np.sqrt(2 / 32))
    low = (scale[:, None] * waves) @ grey @ (scale[:, None] * waves).T
    found = perceptual_hashes(image)
    assert found is not None
    coarse, fine = low[:8, :8].ravel(), low.ravel()
    bits = np.unpackbits(np.array([found[0]], np.uint64).view(np.uint8)).astype(bool)
    assert (bits == (coarse > np.median(coarse))).all()
    bits = np.unpackbits(np.array(found[1], np.uint64).view(np.uint8)).astype(bool)
    assert (bits == (fine > np.median(fine))).all()
