"""Pictures decoded in the training process: the same samples in the same order, and nearly the same pixels."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from benchmarks.simulated_device import DEVICE, OnDevice, simulated_device
from tests.helpers.devices import GPUS
from xmr_e2e.data import batch_dataset, encoded
from xmr_e2e.data.batch import Batch
from xmr_e2e.data.batch_dataset import BatchDataset, sample_bytes
from xmr_e2e.data.config import Data
from xmr_e2e.data.encoded import EncodedImages, Interpolation, decode_images, decodes_later, pack_images
from xmr_e2e.data.images import is_plain_jpeg, load_square
from xmr_e2e.data.loader import Loader
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.shards.manifest import load_manifest

SIDE = 48
CPU = torch.device("cpu")
LEAST_PSNR = {"cpu": 45.0, "cuda": 35.0}
"""in dB, of each picture against that of the loader's processes: on a CPU sums are rounded in another way, and a GPU
enlarges colors in its own way"""
LARGE = "large"
"""the picture that the loader's processes let the JPEG decoder scale, for which 35 dB is their own bound"""


def drawn(width: int, height: int, seed: int = 0) -> Image.Image:
    """Something with edges and gradients, in color."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    random = np.random.default_rng(seed)
    waves = [np.sin(x * a + y * b) for a, b in random.uniform(-0.15, 0.15, (3, 2))]
    edges = ((x // 17 + y // 23) % 2)[..., None] * 40
    return Image.fromarray(np.clip(np.stack(waves, 2) * 80 + 110 + edges, 0, 255).astype(np.uint8))


def saved(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def turned(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(image, exif=exif)


FILES = {
    "wide": saved(drawn(130, 70)),
    "high": saved(drawn(61, 200, 1), quality=90, subsampling=0),
    LARGE: saved(drawn(500, 430, 2).filter(ImageFilter.GaussianBlur(3))),  # as what is photographed so large
    "small": saved(drawn(20, 31, 3)),
    "progressive": saved(drawn(90, 90, 4), progressive=True),
    "grey": saved(drawn(80, 60, 5).convert("L")),
    "cmyk": saved(drawn(80, 60, 6).convert("CMYK")),
    "turned": turned(drawn(80, 60, 7)),
    "png": saved(drawn(80, 60, 8), "PNG"),
    "without an end": saved(drawn(80, 60, 9)) + b"\0",
}
PLAIN = ("wide", "high", "large", "small", "progressive", "grey")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoded")
    samples = []
    for number, (name, content) in enumerate(FILES.items()):
        file = folder / f"{number}.{'png' if name == 'png' else 'jpg'}"
        file.write_bytes(content)
        samples.append(RawSample(name.replace(" ", "_"), "train", file, (f"a {name} picture",), ("all",)))
    options = BuildOptions(shard_samples=4, workers=1)
    build_shards(folder / "shards", dataset="kinds", classes=["all"], samples=samples, options=options)
    return folder / "shards"


def loader(shards: Path, decode: str, size: int = 3, device: torch.device = CPU, **options: object) -> Loader:
    given = {"image_size": SIDE, "load_size": SIDE, "workers": 0, **options}
    data = Data(shards, decode=decode, **given)  # type: ignore[arg-type]
    return Loader(BatchDataset(data, "train", {"image": "pixels"}, None, seed=3, is_training=True), size, device=device)


def psnr(one: Tensor, other: Tensor) -> float:
    error = (one.cpu().double() - other.cpu().double()).square().mean().item()
    return 10 * np.log10(255**2 / error) if error else float("inf")


def require_alike(expected: Sequence[Batch], found: Sequence[Batch], least: float) -> None:
    for one, other in zip(expected, found, strict=True):
        assert one.keys == other.keys and torch.equal(one.positions, other.positions)
        assert other.inputs["image"].dtype == torch.uint8
        for mine, theirs, key in zip(one.inputs["image"], other.inputs["image"], one.keys):
            assert psnr(mine, theirs) >= (35 if LARGE in key and least == LEAST_PSNR["cpu"] else least), key


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.processes)])
def test_the_same_samples_come_in_the_same_order_as_nearly_the_same_pixels(
    shards: Path, workers: int, interpolation: Interpolation
) -> None:
    cpu, device = (loader(shards, way, workers=workers, interpolation=interpolation) for way in ("cpu", "device"))
    require_alike([*cpu.epoch(1)], [*device.epoch(1)], LEAST_PSNR["cpu"])


@pytest.mark.gpu
def test_a_gpu_gives_nearly_the_same_pixels(shards: Path) -> None:
    there = loader(shards, "device", device=torch.device("cuda"))
    found = [*there.epoch(1)]
    assert all(batch.inputs["image"].is_cuda for batch in found)
    require_alike([*loader(shards, "cpu").epoch(1)], found, LEAST_PSNR["cuda"])


def test_an_epoch_that_is_gone_on_with_has_the_same_pixels(shards: Path) -> None:
    own = loader(shards, "device")
    whole, rest = [*own.epoch(2)], [*own.epoch(2, first_step=2)]
    require_alike(whole[2:], rest, float("inf"))


def test_only_files_of_kinds_that_all_decoders_know_are_handed_over(shards: Path) -> None:
    assert [name for name, content in FILES.items() if is_plain_jpeg(content)] == [*PLAIN]
    assert not is_plain_jpeg(FILES["large"], max_pixels=500 * 430 - 1)
    assert not is_plain_jpeg(b"\xff\xd8 no picture \xff\xd9")
    own = loader(shards, "device", size=len(FILES)).batches
    batch = own._load(batch_dataset.Request(0, own.positions))
    image = batch.inputs["image"]
    assert isinstance(image, EncodedImages) and len(image.squares) == len(FILES) - len(PLAIN)
    kinds = [key.partition("-")[0] if size else "" for key, size in zip(FILES, image.sizes.tolist())]
    assert len(batch.keys) == len(FILES) and sum(map(bool, kinds)) == len(PLAIN)
    sizes = [len(own.reader.image(position)) for position in own.positions.tolist()]
    assert all(size in (0, whole) for size, whole in zip(image.sizes.tolist(), sizes))


def test_evaluation_and_padding_are_decoded_by_the_loader(shards: Path) -> None:
    data = Data(shards, decode="device", image_size=SIDE, load_size=SIDE)
    evaluated = BatchDataset(data, "train", {"image": "pixels"}, None, seed=3)
    assert isinstance(evaluated._load(batch_dataset.Request(0, evaluated.positions)).inputs["image"], Tensor)
    parts = [*replace(loader(shards, "device", size=len(FILES) - 1), world_size=len(FILES)).epoch()]
    assert [len(batch) for batch in parts] == [0, 0]
    assert all(batch.inputs["image"].shape == (1, 3, SIDE, SIDE) for batch in parts)


def refuse(monkeypatch: pytest.MonkeyPatch, *refused: bytes) -> None:
    """Let the decoder refuse these files, and with them each list in which they are."""
    real = encoded._decode

    def decode(files: Sequence[Tensor], device: torch.device) -> list[Tensor]:
        if any(bytes(file.numpy()) in refused for file in files):
            raise RuntimeError("nvjpegDecodeBatched failed: 8")
        return real(files, device)

    monkeypatch.setattr(encoded, "_decode", decode)


def test_what_the_decoder_refuses_is_decoded_by_the_cpu_picture_by_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [FILES[name] for name in PLAIN]
    refuse(monkeypatch, files[1], files[3])
    asked: list[int] = []

    def decode_here(number: int) -> Tensor:
        asked.append(number)
        return load_square(files[number], SIDE, where=str(number))

    squares = decode_images(pack_images(files, [], SIDE), CPU, "bilinear", decode_here)
    assert asked == [1, 3]
    for number, (square, file) in enumerate(zip(squares, files)):
        expected = load_square(file, SIDE, where="file")
        least = 35.0 if PLAIN[number] == LARGE else LEAST_PSNR["cpu"]
        assert psnr(square, expected) >= (float("inf") if number in asked else least)


def test_a_picture_that_cannot_be_decoded_is_named_with_shard_and_key(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_dataset, "is_plain_jpeg", lambda data, most: True)
    own = loader(shards, "device", size=len(FILES))
    image, position = type(own.batches.reader).image, 4
    key = own.batches.reader.key(position)

    def broken(reader: object, place: int) -> bytes:
        return image(reader, place)[:300] if place == position else image(reader, place)  # type: ignore[arg-type]

    monkeypatch.setattr(type(own.batches.reader), "image", broken)
    with pytest.raises(XmrError, match=rf"train-\d+\.tar.*{key}.*the image ") as found:
        [*own.epoch()]
    with pytest.raises(XmrError) as expected:
        [*loader(shards, "cpu").epoch()]
    assert str(found.value) == str(expected.value)


def test_a_full_memory_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(files: Sequence[Tensor], device: torch.device) -> list[Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(encoded, "_decode", full)
    with pytest.raises(torch.OutOfMemoryError):
        decode_images(pack_images([FILES["wide"]], [], SIDE), CPU, "bilinear", lambda number: torch.empty(0))


def test_where_pictures_are_decoded_is_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not decodes_later("cpu") and not decodes_later("auto") and decodes_later("device")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(encoded, "_refusal", lambda: "")
    assert not decodes_later("cpu") and decodes_later("auto") and decodes_later("device")
    monkeypatch.setattr(encoded, "_refusal", lambda: "no nvJPEG")
    assert not decodes_later("cpu") and not decodes_later("auto")
    with pytest.raises(XmrError, match=r"--data\.decode device: .* \(no nvJPEG\); use --data\.decode cpu"):
        decodes_later("device")


@pytest.mark.skipif(bool(GPUS), reason="for a machine on which torchvision has no GPU to decode on")
def test_what_torchvision_says_without_a_gpu_is_a_refusal() -> None:
    encoded._refusal.cache_clear()
    assert encoded._refusal()


def test_the_host_does_not_wait_for_what_is_made_of_decoded_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder itself apart, whose way is its own."""
    here = [torch.from_numpy(simplejpeg.decode_jpeg(FILES[name])).permute(2, 0, 1) for name in ("wide", "high")]
    images = pack_images([FILES["wide"], b"", FILES["high"]], [torch.zeros(3, SIDE, SIDE, dtype=torch.uint8)], SIDE)
    with simulated_device() as device:
        monkeypatch.setattr(encoded, "_decode", lambda files, where: [OnDevice(pixels) for pixels in here])
        made = decode_images(images, DEVICE, "bilinear", lambda number: torch.empty(0))
        assert isinstance(made, OnDevice) and not +device.waits
    assert psnr(made.held[2], load_square(FILES["high"], SIDE, where="high")) >= LEAST_PSNR["cpu"]
    assert not made.held[1].any()


def test_files_count_as_what_the_loader_hands_over(shards: Path) -> None:
    manifest, data = load_manifest(shards), Data(shards, image_size=2, load_size=2)
    small = sample_bytes(data, {"image": "pixels"}, manifest)
    assert sample_bytes(replace(data, decode="device"), {"image": "pixels"}, manifest) > small + 1000


def test_the_bytes_of_a_picture_that_comes_as_a_file(shards: Path) -> None:
    """The mean of the shard where they are largest; of a decoded one its pixels."""
    manifest = load_manifest(shards)
    (split,) = manifest.splits.values()
    assert len(split.shards) > 1
    largest = max(math.ceil(shard.bytes / shard.samples) for shard in split.shards)
    rest = 4 + 8
    for decode, expected in (("cpu", 3 * 8 * 8), ("device", largest)):
        data = Data(shards, image_size=8, load_size=8, decode=decode)  # type: ignore[arg-type]
        assert sample_bytes(data, {"image": "pixels"}, manifest) == expected + rest
    large = Data(shards, image_size=2000, load_size=2000, decode="device")
    assert sample_bytes(large, {"image": "pixels"}, manifest) == 3 * 2000**2 + rest
