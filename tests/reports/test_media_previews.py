"""Previews of sounds, videos and shapes: what is heard and seen is what is in the files, and a page has bounds."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.helpers.raw_media import RATE, five_modalities, write_clip, write_shape, write_sound
from xmr_e2e.data.media_pictures import draw_shape
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.reports import media_previews
from xmr_e2e.reports.media_previews import (
    FRAMES,
    SECONDS,
    SIDE,
    VIEWS,
    MediaPreviews,
    Reel,
    SoundPreview,
    Unshown,
    draw_waveform,
    preview_shape,
    preview_sound,
    preview_video,
)

ELEVATION = math.radians(25)
"""from which shapes are seen"""


def heard(mp3: bytes) -> NDArray[np.float32]:
    with av.open(io.BytesIO(mp3)) as container:
        (stream,) = container.streams.audio
        assert stream.rate == media_previews.RATE and stream.channels == 1
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(stream)])


def pixels(jpeg: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(jpeg)))


def media(path: Path) -> tuple[bytes, str]:
    return path.read_bytes(), path.name


def pitch(samples: NDArray[np.float32]) -> float:
    """The strongest frequency, in Hz."""
    spectrum = np.abs(np.fft.rfft(samples))
    return float(spectrum.argmax() * media_previews.RATE / len(samples))


@pytest.mark.parametrize("hertz", [300, 2000])
def test_a_sound_is_heard_at_its_own_pitch(tmp_path: Path, hertz: float) -> None:
    preview = preview_sound(*media(write_sound(tmp_path / "a.wav", hertz, seconds=1.0)))
    assert preview.mp3 is not None and preview.seconds == pytest.approx(1.0, abs=0.01)
    assert not preview.is_cut
    samples = heard(preview.mp3)
    assert len(samples) / media_previews.RATE == pytest.approx(1.0, abs=0.2)  # MP3 pads both ends
    assert pitch(samples) == pytest.approx(hertz, rel=0.01)


def test_of_a_long_sound_the_first_seconds_are_heard(tmp_path: Path) -> None:
    preview = preview_sound(*media(write_sound(tmp_path / "a.wav", 440, seconds=10.0)))
    assert preview.seconds == pytest.approx(10.0, abs=0.01) and preview.is_cut
    assert preview.mp3 is not None and len(preview.mp3) < 16_000
    assert len(heard(preview.mp3)) / media_previews.RATE == pytest.approx(SECONDS, abs=0.2)


def test_the_shortest_sound_has_a_preview(tmp_path: Path) -> None:
    preview = preview_sound(*media(write_sound(tmp_path / "a.wav", 440, seconds=40 / RATE)))
    assert preview.mp3 is not None and preview.waveform.count(b"V") > 10


def test_bars_of_the_waveform_are_as_high_as_the_sound_is_loud() -> None:
    quarters = np.repeat([0.1, 0.4, 0.0, 0.2], 400) * np.tile([1, -1], 800)
    bars = re.findall(r"M(\d+) ([\d.]+)V([\d.]+)", draw_waveform(quarters.astype(np.float32)).decode())
    heights = [float(bottom) - float(top) - 0.5 for _, top, bottom in bars]
    assert heights == pytest.approx(np.repeat([14, 56, 0, 28], 20), abs=0.11)  # the loudest fills 56 of 60


def test_silence_is_a_line() -> None:
    bars = re.findall(r"M\d+ ([\d.]+)V([\d.]+)", draw_waveform(np.zeros(1000, np.float32)).decode())
    assert {(float(top), float(bottom)) for top, bottom in bars} == {(30.0, 30.5)}


def middle_of_red(frame: NDArray[np.uint8]) -> float:
    """Of the columns, from 0 to SIDE."""
    red = (frame[..., 0] > 130).mean(0)
    return float((np.arange(SIDE) * red).sum() / red.sum())


def test_a_video_is_its_frames_from_left_to_right(tmp_path: Path) -> None:
    preview = preview_video(*media(write_clip(tmp_path / "a.mp4", (220, 40, 40), frames=6)))
    assert preview.frames == FRAMES
    strip = pixels(preview.strip).reshape(SIDE, FRAMES, SIDE, 3)
    middles = [middle_of_red(strip[:, number]) for number in range(FRAMES)]
    assert middles == sorted(middles) and middles[-1] - middles[0] > 40  # the bar moves to the right
    assert pixels(preview.first).shape == (SIDE, SIDE, 3)
    assert middle_of_red(pixels(preview.first)) == pytest.approx(middles[0], abs=3)


def box(preview: Reel, view: int) -> tuple[int, int]:
    """Width and height of what is not white."""
    dark = pixels(preview.strip).reshape(SIDE, VIEWS, SIDE, 3)[:, view].min(-1) < 225
    return int(np.ptp(np.flatnonzero(dark.any(0)))), int(np.ptp(np.flatnonzero(dark.any(1))))


def test_a_shape_stands_upright_and_turns(tmp_path: Path) -> None:
    tall, flat = (write_shape(tmp_path / f"{height}.off", height) for height in (3.0, 0.3))
    standing = preview_shape(*media(tall), "off", "z")
    assert standing.frames == VIEWS
    assert all(height > 1.5 * width for width, height in (box(standing, view) for view in range(VIEWS)))
    plate = preview_shape(*media(flat), "off", "z")
    assert all(width > height for width, height in (box(plate, view) for view in range(VIEWS)))
    lying = preview_shape(*media(tall), "off", "x")  # its long side turns now
    widths = [box(lying, view)[0] for view in range(VIEWS)]
    assert max(widths) > 1.8 * min(widths)


def render(*points: tuple[float, float, float]) -> NDArray[np.uint8]:
    return np.asarray(draw_shape(np.array(points, np.float32), (SIDE, SIDE), azimuth=0.0, paper="white"))


def test_a_point_is_drawn_where_its_projection_is() -> None:
    rows, columns = np.nonzero(render((0, 0, 1)).min(-1) < 255)
    # seen from 25 degrees above, the end of the vertical axis is at cos(25 degrees) of the radius
    assert SIDE / 2 - rows.mean() == pytest.approx(math.cos(ELEVATION) * (SIDE - 4) / 2, abs=1.5)
    assert columns.mean() == pytest.approx(SIDE / 2, abs=1.5)


def test_of_points_on_one_ray_of_sight_the_nearest_is_seen() -> None:
    near, far = ((0.0, t * math.cos(ELEVATION), -t * math.sin(ELEVATION)) for t in (-0.5, 0.5))
    assert np.array_equal(render(near, far), render(near))
    assert np.array_equal(render(far, near), render(near))
    assert render(near).min() < render(far).min()  # nearer is darker


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> SplitReader:
    return SplitReader(five_modalities(tmp_path_factory.mktemp("five"), train=2, test=2), "test")


def position_of(reader: SplitReader, modality: str) -> int:
    return int(reader.positions_with([modality])[0])


def test_each_medium_of_shards_has_its_preview_and_pictures_and_texts_have_none(reader: SplitReader) -> None:
    previews = MediaPreviews()
    kinds = {
        modality: type(previews.of(reader, position_of(reader, modality), modality))
        for modality in ("image", "text", "audio", "video", "shape3d")
    }
    assert kinds == {"image": type(None), "text": type(None), "audio": SoundPreview, "video": Reel, "shape3d": Reel}
    assert previews.of(reader, position_of(reader, "image"), "audio") is None  # a sample without one


def test_what_is_beyond_the_room_of_a_page_is_drawn_and_does_not_play(reader: SplitReader) -> None:
    video, sound = (position_of(reader, modality) for modality in ("video", "audio"))
    whole = MediaPreviews().of(reader, video, "video")
    assert isinstance(whole, Reel) and whole.frames == FRAMES
    previews = MediaPreviews(room=whole.size + 10)
    assert previews.of(reader, video, "video") == whole
    again = previews.of(reader, video, "video")  # a repeat takes its room, too
    assert isinstance(again, Reel) and again.frames == 1 and again.strip == whole.first
    silent = previews.of(reader, sound, "audio")
    assert isinstance(silent, SoundPreview) and silent.mp3 is None and silent.waveform


class Broken:
    """A reader of files that are none."""

    def media(self, position: int, modality: str) -> tuple[bytes, str]:
        if position == 9:
            raise XmrError("has features alone")
        return b"<script>RIFF" * 50, {"audio": "wav", "video": "mp4", "shape3d": "off"}[modality]

    def where(self, position: int) -> str:
        return f"secret/folder/x.tar: {position}"


@pytest.mark.parametrize("modality", ["audio", "video", "shape3d"])
def test_what_cannot_be_decoded_has_the_reason_in_a_line_without_the_path(modality: str) -> None:
    shown = MediaPreviews().of(Broken(), 0, modality)
    assert isinstance(shown, Unshown)
    assert 10 < len(shown.reason) <= media_previews.LONGEST_REASON
    assert "secret" not in shown.reason and "\n" not in shown.reason
    assert MediaPreviews().of(Broken(), 9, modality) is None
