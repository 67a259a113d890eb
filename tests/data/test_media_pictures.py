"""Pictures of sounds, videos and shapes: what is drawn is where it belongs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.helpers.media_bytes import COLORS, mp4, off, wav
from xmr_e2e.data.media_pictures import (
    ELEVATION,
    FAR,
    NEAR,
    RANGE_DB,
    draw_media,
    draw_shape,
    draw_sound,
    spectrogram,
)
from xmr_e2e.errors import XmrError

SIZE = (240, 180)
RATE = 16_000


def pixels(image: Image.Image) -> NDArray[np.int64]:
    return np.asarray(image, np.int64)


def tone(pitch: float, seconds: float = 1.0) -> NDArray[np.float32]:
    return np.sin(2 * np.pi * pitch * np.arange(round(RATE * seconds)) / RATE).astype(np.float32)


def test_a_spectrogram_has_its_maximum_at_the_tones_frequency() -> None:
    sound = np.concatenate([tone(1000), tone(4000)])
    energy = spectrogram(sound, 100)
    assert energy.shape == (257, 100) and energy.max() == pytest.approx(0) and energy.min() >= -RANGE_DB
    frequencies = np.argmax(energy, axis=0) * RATE / 512
    assert np.abs(frequencies[5:45] - 1000).max() < 40 and np.abs(frequencies[55:95] - 4000).max() < 40
    assert (spectrogram(np.zeros(RATE, np.float32), 10) == -RANGE_DB).all()


def test_a_sound_is_drawn_as_waveform_above_spectrogram() -> None:
    quiet_then_loud = np.concatenate([0.05 * tone(6000), tone(500)])
    image = pixels(draw_sound(quiet_then_loud, SIZE, rate=RATE))
    assert image.shape == (180, 240, 3)
    ink = (image[:60] == image[30, 200]).all(2).sum(0)  # of each column, how much of it is waveform
    assert ink[10:110].max() < 8 < 40 < ink[130:230].min()
    low, high = image[168:177].sum(2).max(0), image[86:95].sum(2).max(0)  # rows of 500 Hz and of 6000 Hz
    assert low[150:230].mean() > 2 * low[60:110].mean() and high[60:110].mean() > 1.5 * high[150:230].mean()
    for short in (np.zeros(1, np.float32), np.full(700, 0.5, np.float32)):
        assert draw_sound(short, SIZE, rate=RATE).size == SIZE


def test_a_film_is_drawn_frame_by_frame() -> None:
    image = pixels(draw_media("video", "mp4", mp4(COLORS[:3], each=20), "here", size=SIZE))
    centers = [image[45 + 90 * row, 40 + 80 * column] for row in range(2) for column in range(3)]
    expected = [COLORS[number // 2] for number in range(6)]
    assert np.abs(np.array(centers) - np.array(expected)).max() < 30


def test_a_shape_stands_upright() -> None:
    for extension, axis in (("off", 2), ("glb", 1)):
        rod = np.random.default_rng(0).uniform(-0.02, 0.02, (500, 3)).astype(np.float32)
        rod[:, axis] = np.linspace(-1, 1, 500)
        upright = rod[:, [0, 2, 1]] * np.array([1, -1, 1], np.float32) if extension == "glb" else rod
        drawn = np.argwhere((pixels(draw_shape(upright, SIZE)) != pixels(draw_shape(upright, SIZE))[0, 0]).any(2))
        height, width = np.ptp(drawn, axis=0)
        assert height > 10 * width


def test_meshes_of_any_proportions_fit_into_the_picture() -> None:
    for size in ((1.0, 1.0, 1.0), (100.0, 0.1, 0.1), (0.1, 0.1, 9.0)):
        image = pixels(draw_media("shape3d", "off", off(size), "here", size=SIZE))
        drawn = np.argwhere((image != image[0, 0]).any(2))
        assert len(drawn) > 100 and np.ptp(drawn, axis=0).max() > 60
        assert (drawn.min(0) > 0).all() and (drawn.max(0) < np.array(SIZE[::-1]) - 1).all()


def test_what_cannot_be_decoded_names_where() -> None:
    for modality, extension in (("audio", "wav"), ("video", "mp4"), ("shape3d", "off")):
        with pytest.raises(XmrError, match=r"^train-00000\.tar: key: "):
            draw_media(modality, extension, bytes(300), "train-00000.tar: key")
    with pytest.raises(XmrError, match="smell is none of audio, video, shape3d"):
        draw_media("smell", "wav", wav(), "here")


def test_the_nearer_a_point_the_darker_it_is() -> None:
    ends = np.array([[-1, 0, 0], [0, 0, 0], [1, 0, 0]], np.float32) / np.cos(ELEVATION)
    image = pixels(draw_shape(ends, SIZE, azimuth=np.pi / 2))  # along the line of sight, but for the elevation
    drawn = {tuple(color) for color in image[(image != image[0, 0]).any(2)].tolist()}
    assert drawn == {tuple(color) for color in (NEAR, ((NEAR + FAR) / 2).astype(int), FAR)}
