"""Sounds, videos and shapes as a person gives them are embedded as a split's are, and what cannot be is named."""

from __future__ import annotations

import json
import shutil
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import xmr_e2e
from tests.helpers.five_models import FIVE, data_of_five, make_five
from tests.helpers.made_models import make_model
from tests.helpers.raw_media import RATE, five_modalities, write_sound
from xmr_e2e.cli import main
from xmr_e2e.data.inputs import Waveforms
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.models.given import load_clips, load_images, load_shapes, load_sounds
from xmr_e2e.shards.schema import MODALITIES

MEDIA = ("audio", "video", "shape3d")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return five_modalities(tmp_path_factory.mktemp("given"))


@pytest.fixture(scope="module")
def model(shards: Path) -> xmr_e2e.SavedModel:
    return make_five(shards)


def embed(model: xmr_e2e.SavedModel, modality: str, items: Any, **options: Any) -> np.ndarray:
    functions: dict[str, Callable[..., np.ndarray]] = {
        "image": model.embed_images,
        "audio": model.embed_audio,
        "video": model.embed_video,
        "shape3d": model.embed_shapes,
    }
    return functions[modality](items, **options)


def files_of(shards: Path, modality: str, split: str = "test") -> list[Path]:
    """The files of which the split's samples were made, in order of position."""
    reader = SplitReader(shards, split)
    positions = reader.positions_with([modality]).tolist()
    return [shards.parent / "raw" / reader.metadata(position).source for position in positions]


@pytest.mark.parametrize("modality", ["image", *MEDIA])
def test_paths_and_bytes_are_embedded_as_a_split_is(model: xmr_e2e.SavedModel, shards: Path, modality: str) -> None:
    files, expected = files_of(shards, modality), model.embed_split("test", modality)
    assert len(files) == 4 and len(np.unique(expected.round(5), axis=0)) == 4
    for given in (files, map(str, files), [file.read_bytes() for file in files]):
        np.testing.assert_allclose(embed(model, modality, given), expected, rtol=1e-4, atol=1e-6)
    for one in (files[1], files[1].read_bytes()):
        np.testing.assert_allclose(embed(model, modality, one), expected[1:2], rtol=1e-4, atol=1e-6)


def test_a_sound_as_an_array_is_what_its_file_is(model: xmr_e2e.SavedModel, shards: Path) -> None:
    file = files_of(shards, "audio")[0]
    with wave.open(str(file)) as stream:
        samples = np.frombuffer(stream.readframes(stream.getnframes()), "<i2") / 32768
    for array in (samples, samples.astype(np.float32)):
        np.testing.assert_allclose(model.embed_audio(array), model.embed_audio(file), rtol=1e-4, atol=1e-6)
    with pytest.raises(AssertionError):  # of another rate, it is another sound
        np.testing.assert_allclose(model.embed_audio(samples, rate=RATE // 2), model.embed_audio(file), atol=1e-3)


def test_the_windows_of_an_array_are_evenly_spaced_over_it(shards: Path) -> None:
    data = data_of_five(shards)
    samples = np.linspace(-0.9, 0.9, RATE, dtype=np.float32)  # a second, of which three windows of 0.2 s are heard
    found = load_sounds([samples, samples[:800]], data)
    assert isinstance(found, Waveforms) and found.samples.shape == (2, 3, 1600)
    for window, start in zip(found.samples[0].numpy(), (0, 3200, 6400)):
        np.testing.assert_array_equal(window, samples[start : start + 1600])
    assert found.lengths.tolist() == [[1600] * 3, [800, 0, 0]]


def test_a_video_as_an_array_gives_the_middle_frames_of_equal_parts(shards: Path) -> None:
    data = data_of_five(shards)
    frames = np.random.default_rng(0).integers(0, 256, (10, 50, 70, 3), dtype=np.uint8)
    expected = load_images([Image.fromarray(frames[number]) for number in (1, 5, 8)], data)  # of 10/6, 30/6 and 50/6
    assert torch.equal(load_clips([frames], data)[0], expected)
    assert torch.equal(load_clips([frames[:1]], data)[0], load_images([Image.fromarray(frames[0])] * 3, data))


def test_a_video_as_an_array_is_what_its_file_is(shards: Path) -> None:
    file = files_of(shards, "video")[0]
    with av.open(str(file)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    data = data_of_five(shards)
    assert torch.equal(load_clips([frames], data), load_clips([file], data))


def test_a_shape_as_an_array_is_a_cloud(model: xmr_e2e.SavedModel) -> None:
    points = np.random.default_rng(0).normal(3, 2, (500, 3))
    text = "\n".join(["OFF", "500 0 0", *(f"{x!r} {y!r} {z!r}" for x, y, z in points.tolist())])
    expected = load_shapes([text.encode()], model.data)
    assert expected.shape == (1, 64, 3) and torch.linalg.norm(expected, dim=2).max() <= 1 + 1e-6
    assert torch.equal(load_shapes([points], model.data), expected)
    np.testing.assert_allclose(load_shapes([points.astype(np.float32)], model.data), expected, atol=1e-5)


def test_an_extension_tells_the_bytes_that_do_not_say_what_they_are(model: xmr_e2e.SavedModel) -> None:
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]], "<f4")
    faces = [(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)]
    triangles = b"".join(bytes(12) + corners[list(face)].tobytes() + bytes(2) for face in faces)
    stl = bytes(80) + len(faces).to_bytes(4, "little") + triangles + b"\0"  # with a byte too many, as some have it
    with pytest.raises(XmrError, match="the given bytes: the shape cannot be read"):
        model.embed_shapes(stl)
    assert model.embed_shapes(stl, extension="stl").shape == (1, 8)


def test_what_cannot_be_embedded_is_named(model: xmr_e2e.SavedModel, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "words.wav").write_text("no sound")
    for modality in MEDIA:
        with pytest.raises(XmrError, match=r"words\.wav: .*(not a|cannot be read)"):
            embed(model, modality, tmp_path / "words.wav")
        with pytest.raises(XmrError, match=r"gone: cannot be read: No such file"):
            embed(model, modality, [files_of(shards, modality)[0], tmp_path / "gone"])
        with pytest.raises(XmrError, match="the given bytes: "):
            embed(model, modality, b"nothing")
        with pytest.raises(XmrError, match=r"as an array has .*, not \(2, 2\) of bool"):
            embed(model, modality, np.zeros((2, 2), bool))
        with pytest.raises(XmrError, match="and item 1 is int: '3'"):
            embed(model, modality, [b"", 3])
        with pytest.raises(XmrError, match="nothing to embed"):
            embed(model, modality, [])
        with pytest.raises(XmrError, match="not float"):
            embed(model, modality, 0.5)
    with pytest.raises(XmrError, match="the given array: the sound has samples of 300"):
        model.embed_audio(np.full(4000, 300.0))
    with pytest.raises(XmrError, match=r"the given array: .*samples"):
        model.embed_audio(np.zeros(0))


def test_a_model_without_the_modality_says_what_it_embeds(tiny_shards: Path, tmp_path: Path) -> None:
    model = make_model(tiny_shards)
    sound = write_sound(tmp_path / "a.wav", 300)
    for modality in MEDIA:
        with pytest.raises(XmrError, match=f"this model has no {modality}; it embeds image, text"):
            embed(model, modality, sound)


@pytest.mark.slow
def test_a_model_that_leaves_its_run_embeds_the_same(model: xmr_e2e.SavedModel, shards: Path, tmp_path: Path) -> None:
    run, exported = tmp_path / "run", tmp_path / "exported"
    run.mkdir()
    model.save(run, model.method.state_dict(), "untrained")
    model.save_pretrained(exported)
    card = (exported / "README.md").read_text()
    for line in ('embed_audio(["bark.wav"])', 'embed_video(["clip.mp4"])', 'embed_shapes(["chair.off"])'):
        assert f"model.{line}" in card
    assert "Of a sound it hears 3 evenly spaced windows of 0.2 seconds, at 8000 samples per second" in card
    assert "Of a video it sees 3 evenly spaced frames" in card and "Of a shape it sees 64 points" in card
    for folder in (run, exported):
        loaded = xmr_e2e.load(folder, shards=shards)
        assert loaded.fingerprint == model.fingerprint and loaded.config == FIVE
        for modality in MEDIA:
            file = files_of(shards, modality)[2]
            np.testing.assert_allclose(
                embed(loaded, modality, file), embed(model, modality, file), rtol=1e-5, atol=1e-6
            )


def test_the_fingerprint_knows_how_much_is_read(model: xmr_e2e.SavedModel, shards: Path) -> None:
    own = model.data
    others = [
        replace(own, audio=replace(own.audio, windows=2)),
        replace(own, audio=replace(own.audio, seconds=0.3)),
        replace(own, video=replace(own.video, frames=4)),
        replace(own, shape3d=replace(own.shape3d, points=65)),
    ]
    found = {make_five(shards, data=data).fingerprint for data in (own, *others)}
    assert len(found) == 5 and model.fingerprint in found


@pytest.mark.slow
def test_splits_and_files_are_written_with_what_they_are(
    model: xmr_e2e.SavedModel, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, folder = tmp_path / "run", tmp_path / "things"
    run.mkdir()
    model.save(run, model.method.state_dict(), "untrained")
    assert main(["embed", str(run), str(shards), "--split", "test", "--out", str(tmp_path / "split.parquet")]) == 0
    table = pq.read_table(tmp_path / "split.parquet")
    assert table["modality"].to_pylist() == [name for name in MODALITIES for _ in range(4)]
    expected = np.concatenate([model.embed_split("test", name) for name in MODALITIES])
    np.testing.assert_allclose(np.stack(table["embedding"].to_numpy()), expected, rtol=1e-4, atol=1e-6)
    folder.mkdir()
    for modality in ("image", *MEDIA):
        shutil.copy(files_of(shards, modality)[0], folder)
    (folder / "broken.flac").write_bytes(b"fLaC")
    (folder / "notes.pdf").write_text("words")
    out = tmp_path / "files.npz"
    assert main(["embed", str(run), str(folder), "--out", str(out)]) == 2
    assert "broken.flac: " in capsys.readouterr().err and not out.exists()
    assert main(["embed", str(run), str(folder), "--out", str(out), "--max-skipped", "1"]) == 0
    printed = capsys.readouterr().out
    assert "4 embeddings written" in printed and "1 files left out" in printed and "1 .pdf" in printed
    read = np.load(out)
    assert read["modality"].tolist() == ["image", *MEDIA] and set(read["text"].tolist()) == {""}
    rows = [model.embed_split("test", name)[0] for name in ("image", *MEDIA)]
    np.testing.assert_allclose(read["embedding"], rows, rtol=1e-4, atol=1e-6)


def test_a_folder_of_sounds_alone_is_nothing_for_a_model_of_pictures(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, folder, other = tmp_path / "run", tmp_path / "sounds", make_model(tiny_shards)
    run.mkdir()
    folder.mkdir()
    other.save(run, other.method.state_dict(), "untrained")
    sound = write_sound(folder / "a.wav", 300)
    for given, message in ((folder, "1 file is not used: 1 .wav"), (sound, "this model has no audio")):
        assert main(["embed", str(run), str(given), "--out", str(tmp_path / "x.npy")]) == 2
        assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"audio": {"rate": 96_000, "seconds": 600.0, "windows": 100}}, r"23\.0 GB of each sound"),
        ({"load_size": 10_000, "video": {"frames": 1000}}, r"300\.0 GB of each video"),
        ({"video": {"frames": 0}}, "frames"),
        ({"shape3d": {"points": 10**9}}, "points"),
    ],
)
def test_a_received_model_does_not_ask_for_more_than_memory_holds(
    model: xmr_e2e.SavedModel, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    model.save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    document = json.loads(file.read_bytes())
    for name, value in changed.items():
        document["data"][name] = {**document["data"][name], **value} if isinstance(value, dict) else value
    file.write_text(json.dumps(document))
    with pytest.raises(XmrError, match=message):
        xmr_e2e.load(tmp_path / "model")
