"""Builds in parts, by processes that know nothing of each other, give what one build gives."""

from __future__ import annotations

import multiprocessing
import random
import signal
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.helpers.drawn import COLORS
from tests.helpers.dying import die_after
from xmr_e2e.errors import XmrError
from xmr_e2e.files import sha256_of
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.shards.manifest import Manifest, load_manifest

pytestmark = pytest.mark.slow

Samples = tuple[RawSample, ...]
SHARDS = 9  # of the tiny samples, eight in a shard


def build(out: Path, samples: Samples, part: str, **options: int | float | bool) -> Manifest | None:
    chosen = BuildOptions(**{"shard_samples": 8, "workers": 1, **options}, part=part)  # type: ignore[arg-type]
    return build_shards(out, dataset="tiny", classes=list(COLORS), samples=samples, options=chosen)


def hashes(folder: Path) -> dict[str, str]:
    """All files, the manifest and what should not be there among them."""
    return {str(path.relative_to(folder)): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


def started(out: Path, samples: Samples, part: str, dies_after: str = "") -> BaseProcess:
    """A process that builds a part, and is killed when the file of this name has come into place."""

    def build_it() -> None:
        die_after(dies_after)
        build(out, samples, part)

    process = multiprocessing.get_context("fork").Process(target=build_it)
    process.start()
    return process


def ended(process: BaseProcess) -> int | None:
    process.join(60)
    return process.exitcode


@pytest.mark.parametrize("count", [2, 3, SHARDS, SHARDS + 2])
def test_the_part_that_ends_last_publishes_what_one_build_gives(
    count: int, tiny_shards: Path, tiny_samples: Samples, tmp_path: Path
) -> None:
    parts = random.Random(count).sample(range(count), count)
    busy = [index for index in parts if index < SHARDS]
    for index in busy[:-1]:
        assert build(tmp_path, tiny_samples, f"{index}/{count}") is None
        assert not (tmp_path / "manifest.json").exists()
    published = build(tmp_path, tiny_samples, f"{busy[-1]}/{count}")
    assert published == load_manifest(tmp_path)
    assert hashes(tmp_path) == hashes(tiny_shards)
    for index in parts:  # those that come late, or once more, change nothing
        assert build(tmp_path, tiny_samples, f"{index}/{count}") == published
    assert hashes(tmp_path) == hashes(tiny_shards)


@pytest.mark.parametrize("attempt", range(5))
def test_parts_that_run_at_the_same_time_publish_once(
    attempt: int, tiny_shards: Path, tiny_samples: Samples, tmp_path: Path
) -> None:
    processes = [started(tmp_path / "out", tiny_samples, f"{index}/2") for index in range(2)]
    assert [ended(process) for process in processes] == [0, 0]
    assert hashes(tmp_path / "out") == hashes(tiny_shards)


@pytest.mark.parametrize("dies_after", ["train-00001.index.safetensors", "train-00001.result.json"])
def test_a_part_that_was_killed_goes_on(
    dies_after: str, tiny_shards: Path, tiny_samples: Samples, tmp_path: Path
) -> None:
    assert ended(started(tmp_path, tiny_samples, "1/2", dies_after)) == -signal.SIGKILL
    kept = (tmp_path / ".building").rglob("train-00001.result.json")
    made = {path: path.stat().st_mtime_ns for path in kept}
    assert build(tmp_path, tiny_samples, "1/2") is None
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert build(tmp_path, tiny_samples, "0/2")
    assert hashes(tmp_path) == hashes(tiny_shards)


@pytest.mark.parametrize("again", ["1/2", "0/1"])
@pytest.mark.parametrize("dies_after", ["test-00000.tar", "train-00002.tar", "train-00002.index.safetensors"])
def test_what_was_killed_while_publishing_is_ended_by_the_same_part_or_a_whole_build(
    dies_after: str, again: str, tiny_shards: Path, tiny_samples: Samples, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    assert build(tmp_path, tiny_samples, "0/2") is None
    assert ended(started(tmp_path, tiny_samples, "1/2", "train-00003.result.json")) == -signal.SIGKILL
    assert ended(started(tmp_path, tiny_samples, "1/2", dies_after)) == -signal.SIGKILL
    assert not (tmp_path / "manifest.json").exists()
    with caplog.at_level("INFO"):
        assert build(tmp_path, tiny_samples, "0/2") is None  # it cannot know whether the other still lives
    assert "without --part" in caplog.text
    assert build(tmp_path, tiny_samples, again)
    assert hashes(tmp_path) == hashes(tiny_shards)


def test_a_part_says_how_many_shards_are_missing(
    tiny_samples: Samples, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        build(tmp_path, tiny_samples, "0/4")
    assert "part 0/4 is made; 6 of all 9 shards are still missing" in caplog.text


def test_a_part_of_another_build_is_refused_and_a_whole_one_replaces_it(
    tiny_shards: Path, tiny_samples: Samples, tmp_path: Path
) -> None:
    build(tmp_path, tiny_samples, "0/2", resize=20)
    begun = hashes(tmp_path)
    with pytest.raises(XmrError, match=r"\.building holds shards of another build"):
        build(tmp_path, tiny_samples, "1/2")
    assert hashes(tmp_path) == begun
    assert build(tmp_path, tiny_samples, "0/1")
    assert hashes(tmp_path) == hashes(tiny_shards)


def test_too_many_unusable_samples_fail_the_last_part_and_can_be_allowed_then(
    tiny_samples: Samples, tmp_path: Path
) -> None:
    samples = (replace(tiny_samples[0], texts=()), *tiny_samples[1:])
    assert build(tmp_path / "parts", samples, "0/2") is None
    with pytest.raises(XmrError, match="1 of 64 samples cannot be used"):
        build(tmp_path / "parts", samples, "1/2")
    assert build(tmp_path / "parts", samples, "0/2", max_skipped=0.5)
    build(tmp_path / "whole", samples, "0/1", max_skipped=0.5)
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole")


@pytest.mark.parametrize("part", ["8/8", "x", "1", "1/0", "-1/2", "1/2/3", "a/2", " 0/2", "٠/٢", ""])
def test_a_part_that_is_none_is_told(part: str, tiny_samples: Samples, tmp_path: Path) -> None:
    with pytest.raises(XmrError, match=r"--part .*: wanted is INDEX/COUNT"):
        build(tmp_path / "out", tiny_samples, part)
    assert not (tmp_path / "out").exists()


def test_parts_do_not_replace_a_dataset(tiny_samples: Samples, tmp_path: Path) -> None:
    with pytest.raises(XmrError, match="--part and --overwrite"):
        build(tmp_path, tiny_samples, "0/2", overwrite=True)
