"""A shard's bytes, beside those of WebDataset's own writer."""

from __future__ import annotations

import hashlib
from pathlib import Path

import webdataset

from xmr_e2e.shards.writer import write_shard

SAMPLES = [
    ("a", {"jpg": b"\xff" * 513, "json": b"{}"}),
    ("b" * 96, {"txt": b""}),  # 100 characters with the dot and the extension, which a plain header holds
    ("b" * 97, {"txt": b"z"}),
    ("c" * 300, {"json": b"x" * 512, "feature.npy": bytes(20_000)}),
    ("naïve 猫", {"json": b"y" * 511}),
]


def test_a_tar_has_the_bytes_of_webdatasets_writer(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.tar", tmp_path / "theirs.tar"
    sha256 = write_shard(ours, SAMPLES)
    with webdataset.TarWriter(
        str(theirs), encoder=False, user="xmr", group="xmr", mode=0o644, mtime=0, compress=False
    ) as tar:
        for key, members in SAMPLES:
            tar.write({"__key__": key, **members})
    assert ours.read_bytes() == theirs.read_bytes()
    assert sha256 == hashlib.sha256(ours.read_bytes()).hexdigest()
