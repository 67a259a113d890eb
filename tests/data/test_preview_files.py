"""Previews of sounds, videos and shapes: what plays is what is in the files, and it is small."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from tests.helpers.media_bytes import COLORS, frames_of, mp4, off, wav
from xmr_e2e.data.media_files import MediaBounds
from xmr_e2e.data.media_pictures import draw_media
from xmr_e2e.data.preview_files import (
    CLIP_FRAMES,
    MEDIA_TYPES,
    SOUND_SECONDS,
    VIEW_SIZE,
    VIEWS,
    PreviewFile,
    preview_file,
)
from xmr_e2e.data.videos import extract_frames
from xmr_e2e.errors import XmrError

SIZE = (240, 180)


def made(modality: str, extension: str, data: bytes) -> tuple[PreviewFile, bytes]:
    preview = preview_file(modality, extension, data, "here", size=SIZE)
    assert preview.plays is not None and preview.picture.size == SIZE
    return preview, preview.plays


def samples_of(mp3: bytes) -> tuple[NDArray[np.float32], int]:
    with av.open(io.BytesIO(mp3), "r", format="mp3") as container:
        (stream,) = container.streams.audio
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(stream)]), stream.rate


@pytest.mark.parametrize(("seconds", "heard"), [(1.0, 1.0), (60.0, SOUND_SECONDS)])
def test_the_beginning_of_a_sound_is_heard_at_its_pitch(seconds: float, heard: float) -> None:
    preview, mp3 = made("audio", "wav", wav(seconds, pitch=700))
    samples, rate = samples_of(mp3)
    assert len(samples) / rate == pytest.approx(heard, abs=0.2) and len(mp3) < 5000 * (heard + 1)
    assert float(np.abs(np.fft.rfft(samples)).argmax()) * rate / len(samples) == pytest.approx(700, rel=0.01)
    assert preview.picture.tobytes() == draw_media("audio", "wav", wav(seconds, pitch=700), "here").tobytes()


def duration(clip: bytes) -> float:
    with av.open(io.BytesIO(clip), "r") as container:
        assert container.duration is not None
        return container.duration / 1e6


@pytest.mark.parametrize(("each", "seconds"), [(1, 0.5), (5, 2.0), (50, 4.0)])
def test_a_video_is_seen_from_its_beginning_to_its_end(each: int, seconds: float) -> None:
    preview, clip = made("video", "mp4", mp4(COLORS, each=each, size=(480, 200)))  # ten frames a second
    frames = frames_of(clip)
    assert frames.shape == (CLIP_FRAMES, 180, 432, 3) and duration(clip) == pytest.approx(seconds, abs=0.02)
    expected = np.repeat(np.array(COLORS), CLIP_FRAMES // len(COLORS), axis=0)
    assert np.abs(frames[:, 90, 216].astype(int) - expected).max() < 40 and len(clip) < 20_000
    film = np.asarray(preview.picture, int)
    middles = [film[45 + 90 * row, 40 + 80 * column] for row in range(2) for column in range(3)]
    assert np.abs(np.array(middles) - np.array([COLORS[place] for place in (0, 1, 1, 2, 3, 3)])).max() < 30


def test_a_shape_turns_once_and_again_and_stays_upright() -> None:
    preview, webp = made("shape3d", "off", off((0.2, 0.8, 2.0)))
    image = Image.open(io.BytesIO(webp))
    views = [np.asarray(view.convert("L"), int) for view in ImageSequence.Iterator(image)]
    assert (image.format, image.size, len(views), image.info["loop"]) == ("WEBP", VIEW_SIZE, VIEWS, 0)
    boxes = [np.ptp(np.argwhere(view < 225), axis=0) for view in views]
    assert all(height > 1.5 * width for height, width in boxes)
    assert max(width for _, width in boxes) > 1.5 * min(width for _, width in boxes) and len(webp) < 100_000
    assert preview.picture.tobytes() == draw_media("shape3d", "off", off((0.2, 0.8, 2.0)), "here").tobytes()


def test_what_cannot_be_decoded_names_where() -> None:
    for modality, extension in (("audio", "wav"), ("video", "mp4"), ("shape3d", "off")):
        with pytest.raises(XmrError, match=r"^a\.tar: key: "):
            preview_file(modality, extension, bytes(300), "a.tar: key", size=SIZE)
    with pytest.raises(XmrError, match="here: smell is none of audio, video, shape3d"):
        preview_file("smell", "wav", wav(), "here", size=SIZE)


def test_a_video_of_which_too_much_would_be_decoded_has_a_picture_alone() -> None:
    data = extract_frames(mp4(each=20), "here", frames=60)  # each by itself
    bounds = MediaBounds(max_frame_pixels=20 * 96 * 64)
    preview = preview_file("video", "mp4", data, "here", size=SIZE, bounds=bounds)
    assert preview.plays is None
    assert preview.picture.tobytes() == draw_media("video", "mp4", data, "here").tobytes()
    with pytest.raises(XmrError, match="here: to read the video"):
        preview_file("video", "mp4", data, "here", size=SIZE, bounds=MediaBounds(max_frame_pixels=1000))


def test_without_its_encoder_a_medium_has_a_picture_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", set())
    for modality, extension, data in (("audio", "wav", wav()), ("video", "mp4", mp4())):
        preview = preview_file(modality, extension, data, "here", size=SIZE)
        assert preview.plays is None and preview.picture.size == SIZE
    assert set(MEDIA_TYPES) == {"audio", "video", "shape3d"}
