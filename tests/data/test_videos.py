"""Videos: which frames are taken, that they are exact and upright, and files that are odd or damaged.

Frames are drawn: each has its number in it, as eight blocks that are light for ones, so that coding cannot hide it.
"""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from PIL import Image

from xmr_e2e.data.images import center_square
from xmr_e2e.data.media_files import MediaBounds
from xmr_e2e.data.videos import decode_frames, extract_frames, whole_frames
from xmr_e2e.errors import XmrError

pytestmark = pytest.mark.slow

WHERE = "train-000000.tar: 12-dog"
WIDTH, HEIGHT, SIDE = 96, 64, 32


def drawn(number: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """The number's bits in two rows of four blocks of the centered square, on a ground that is redder to the right."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.linspace(40, 120, width)
    side = min(height, width)
    block, top, left = side // 4, (height - side) // 2, (width - side) // 2
    for bit in range(8):
        row, column = top + side // 4 + (bit // 4) * block, left + (bit % 4) * block
        picture[row : row + block, column : column + block, 1:] = 220 if number >> bit & 1 else 30
    return picture


def number_of(frame: NDArray[np.uint8]) -> int:
    """The number in a decoded square (3, s, s)."""
    block = frame.shape[1] // 4
    middles = [(block + (bit // 4) * block + block // 2, (bit % 4) * block + block // 2) for bit in range(8)]
    return sum((int(frame[1, row, column]) > 125) << bit for bit, (row, column) in enumerate(middles))


def numbers_of(data: bytes, frames: int, chances: Sequence[float] | None = None, **options: object) -> list[int]:
    found = decode_frames(data, WHERE, frames=frames, size=SIDE, chances=chances, **options)  # type: ignore[arg-type]
    assert found.shape == (frames, 3, SIDE, SIDE) and found.dtype == np.uint8
    return [number_of(frame) for frame in found]


def film(
    count: int,
    container: str = "mp4",
    codec: str = "libx264",
    *,
    times: Sequence[int] | None = None,
    keyframe_every: int = 12,
    b_frames: int = 2,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    aspect: Fraction | None = None,
    rate: int = 25,
) -> bytes:
    """A video of drawn frames that are shown at these times, in frames of the rate."""
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as file:
        video = file.add_stream(codec, rate=rate)
        video.width, video.height = size
        video.pix_fmt = {"mjpeg": "yuvj420p", "ffv1": "yuv444p", "png": "rgb24"}.get(codec, "yuv420p")
        video.gop_size = keyframe_every
        video.codec_context.max_b_frames = b_frames
        if codec == "libx264":
            video.options = {"sc_threshold": "0", "crf": "10"}
        else:
            video.bit_rate = 4_000_000
        if aspect:
            video.codec_context.sample_aspect_ratio = aspect
        for number, time in enumerate(times or range(count)):
            frame = av.VideoFrame.from_ndarray(drawn(number, *size), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, rate)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
    return stream.getvalue()


def all_frames(data: bytes) -> list[NDArray[np.uint8]]:
    """Every frame (h, w, 3), decoded one after the other."""
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def middles(count: int, frames: int) -> list[int]:
    """Numbers of the frames in the middle of each segment, at a constant rate."""
    return [int((segment + 0.5) * count / frames) for segment in range(frames)]


FORMATS = [
    ("mp4", "libx264", 2),
    ("mp4", "libx264", 0),
    ("mp4", "mpeg4", 2),
    ("mov", "libx264", 2),
    ("matroska", "libx264", 2),
    ("matroska", "ffv1", 0),
    ("webm", "libvpx", 0),
    ("webm", "libvpx-vp9", 0),
    ("avi", "mpeg4", 0),
    ("avi", "mpeg4", 2),
    ("avi", "libx264", 2),
    ("avi", "mjpeg", 0),
]


@pytest.mark.parametrize(("container", "codec", "b_frames"), FORMATS)
def test_frames_of_evaluation_are_the_middles_of_equal_segments(container: str, codec: str, b_frames: int) -> None:
    data = film(50, container, codec, b_frames=b_frames)
    assert [number_of(center_square(Image.fromarray(f), SIDE).numpy()) for f in all_frames(data)] == list(range(50))
    for frames in (1, 4, 7, 50):
        assert numbers_of(data, frames) == middles(50, frames)


@pytest.mark.parametrize(("container", "codec", "b_frames"), FORMATS)
def test_frames_of_training_are_anywhere_in_their_segments(container: str, codec: str, b_frames: int) -> None:
    data = film(48, container, codec, b_frames=b_frames)
    assert numbers_of(data, 4, [0, 0, 0, 0]) == [0, 12, 24, 36]
    assert numbers_of(data, 4, [0.999] * 4) == [11, 23, 35, 47]
    assert numbers_of(data, 3, np.array([0.1, 0.55, 0.8])) == [1, 24, 44]  # type: ignore[arg-type]


@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_frames_are_exactly_those_of_decoding_everything(codec: str) -> None:
    """Beginning in the middle changes no bit of a frame; and squares are those of pictures."""
    data = film(40, "matroska", codec, keyframe_every=15)
    every = all_frames(data)
    found = decode_frames(data, WHERE, frames=8, size=SIDE)
    for frame, number in zip(found, middles(40, 8)):
        np.testing.assert_array_equal(frame, center_square(Image.fromarray(every[number]), SIDE).numpy())


def test_lossless_frames_are_the_pictures_that_were_drawn() -> None:
    found = decode_frames(film(5, "matroska", "ffv1"), WHERE, frames=5, size=HEIGHT)
    for number, frame in enumerate(found):
        expected = drawn(number)[:, (WIDTH - HEIGHT) // 2 : (WIDTH + HEIGHT) // 2].transpose(2, 0, 1)
        assert np.abs(frame.astype(int) - expected).max() <= 4  # RGB to YUV and back, in whole numbers


@pytest.mark.parametrize("b_frames", [0, 2])
def test_a_video_whose_times_cannot_be_trusted_lasts_by_its_rate(b_frames: int) -> None:
    """In AVI, times are those of decoding, and frames that refer to later ones are counted."""
    _, seconds = whole_frames(film(20, "avi", "mpeg4", b_frames=b_frames, rate=10), WHERE, frames=2)
    assert seconds == 2


def test_interpolation_is_that_of_pictures() -> None:
    data = film(1, "matroska", "ffv1")
    (found,) = decode_frames(data, WHERE, frames=1, size=SIDE, interpolation="bicubic")
    np.testing.assert_array_equal(found, center_square(Image.fromarray(all_frames(data)[0]), SIDE, "bicubic").numpy())


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_at_a_variable_rate_segments_are_of_equal_time(container: str) -> None:
    """Ten frames within a second, then one per second: half of the time has one tenth of the frames."""
    times = [*range(10), *range(10, 110, 10)]  # in tenths of a second
    data = film(20, container, times=times, rate=10)
    # The last frame's time is at least that of a frame. Segments of 11 are 0 to 10, 10 to 20, ...
    found = numbers_of(data, 10, [0.05] * 10)
    shown = [max(n for n, time in enumerate(times) if time <= segment * 10 + 1) for segment in range(10)]
    assert found[0] in (0, 1) and all(abs(a - b) <= 1 for a, b in zip(found, shown))
    assert found[5:] != middles(20, 10)[5:] and len(set(found)) == 10


def test_a_video_of_fewer_frames_than_are_asked_for_gives_some_again() -> None:
    assert numbers_of(film(3), 6) == [0, 0, 1, 1, 2, 2]
    assert numbers_of(film(1), 4) == [0] * 4


def test_one_keyframe_for_a_whole_video() -> None:
    assert numbers_of(film(60, keyframe_every=1000), 5) == middles(60, 5)


def test_a_stream_of_which_neither_duration_nor_number_of_frames_is_known() -> None:
    """As live recordings are: Matroska that was written into a pipe has neither in its header."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.content = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.content += bytes(data)
            return len(data)

    pipe, source = Pipe(), film(50)
    with av.open(io.BytesIO(source)) as given, av.open(pipe, "w", format="matroska") as written:
        stream = written.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.size:
                packet.stream = stream
                written.mux(packet)
    data = bytes(pipe.content)
    with av.open(io.BytesIO(data)) as container:
        assert container.duration is None and container.streams.video[0].frames == 0
    assert numbers_of(data, 5) == middles(50, 5)


def turned(mp4: bytes, matrix: tuple[int, int, int, int]) -> bytes:
    """The file with another matrix in its track header, as a phone writes it that was not held upright."""
    place = mp4.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    numbers = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    return mp4[:place] + numbers + mp4[place + 36 :]


@pytest.mark.parametrize(
    ("matrix", "quarter_turns_clockwise"),
    [((1, 0, 0, 1), 0), ((0, 1, -1, 0), 1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 3)],
)
def test_a_phones_video_is_set_upright(matrix: tuple[int, int, int, int], quarter_turns_clockwise: int) -> None:
    """ISO 14496-12: the matrix maps (x, y) to (a x + c y, b x + d y), with y downwards."""
    data = film(4)
    found = decode_frames(turned(data, matrix), WHERE, frames=4, size=SIDE)
    plain = decode_frames(data, WHERE, frames=4, size=SIDE)
    for frame, expected in zip(found, plain):
        assert np.abs(frame.astype(int) - np.rot90(expected, -quarter_turns_clockwise, (1, 2))).max() <= 1


def test_pixels_that_are_no_squares_are_stretched() -> None:
    """As on a DVD: half of the columns, each twice as wide."""
    narrow = film(1, size=(WIDTH // 2, HEIGHT), aspect=Fraction(2))
    (frame,) = decode_frames(narrow, WHERE, frames=1, size=SIDE)
    wide = Image.fromarray(all_frames(narrow)[0]).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(frame.mean((0, 1)), center_square(wide, SIDE).numpy().mean((0, 1)), atol=4)
    (stored,) = all_frames(extract_frames(narrow, WHERE, frames=1))
    assert stored.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
def test_a_video_that_is_cut_is_read_as_far_as_it_goes(share: float) -> None:
    data = film(100, "matroska")
    found = numbers_of(data[: int(len(data) * share)], 4)
    assert found == sorted(found) and 0 < found[-1] < 100 * share + 12


def test_a_damaged_frame_is_replaced_by_its_neighbor() -> None:
    data = bytearray(film(24, "matroska", "mjpeg", keyframe_every=1, b_frames=0))
    with av.open(io.BytesIO(bytes(data))) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    content = bytes(packets[12])
    place = data.index(content)
    data[place : place + len(content)] = bytes(len(content))
    assert numbers_of(bytes(data), 1) == [13]
    assert numbers_of(bytes(data), 24) == [*range(12), 13, *range(13, 24)]


def sound(container: str) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros(1600), 16_000, format=container)
    return stream.getvalue()


def with_cover() -> bytes:
    """A sound with a picture, such as a record's cover, which FFmpeg shows as a video stream."""
    stream = io.BytesIO()
    Image.fromarray(drawn(3)).save(stream, "JPEG")
    picture = stream.getvalue()
    frame = b"\0image/jpeg\0\x03\0" + picture
    size = len(frame)
    block = b"APIC" + struct.pack(">I", size) + b"\0\0" + frame
    length = bytes(len(block) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + length + block + sound("MP3")


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile '/etc/hostname'\n"
UNBEGUN = film(5, "avi", "mpeg4", b_frames=0)
STILL = io.BytesIO()
Image.fromarray(drawn(1)).save(STILL, "PNG")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"the video is empty \(zero bytes\)"),
        (b"a sentence, and no video" * 50, "not a video that can be read"),
        (bytes(5000), "not a video that can be read"),
        (PLAYLIST, "not a video that can be read"),
        (CONCAT, "not a video that can be read"),
        (STILL.getvalue(), "not a video that can be read"),
        (film(5)[:200], "not a video that can be read|has no"),
        (sound("WAV"), "has no video in it, only audio"),
        (with_cover(), "has no video in it, only audio"),
        (UNBEGUN[: UNBEGUN.index(b"movi") + 4], "the video has no frames"),
    ],
)
def test_a_file_that_is_no_video_says_where_it_is_and_why(data: bytes, message: str) -> None:
    with pytest.raises(XmrError, match=f"^{WHERE}: .*({message})"):
        decode_frames(data, WHERE, frames=2, size=SIDE)


def test_a_video_all_of_whose_frames_are_damaged() -> None:
    data = bytearray(film(10, "matroska"))
    with av.open(io.BytesIO(bytes(data))) as container:
        for content in [bytes(packet) for packet in container.demux(video=0) if packet.size]:
            place = data.index(content)
            data[place : place + len(content)] = b"\xff" * len(content)
    with pytest.raises(XmrError, match=f"^{WHERE}: .*(none of its frames is whole|no frames|can be read)"):
        decode_frames(bytes(data), WHERE, frames=2, size=SIDE)


def test_a_video_above_the_bounds_is_refused_with_the_option() -> None:
    data = film(50)
    with pytest.raises(XmrError, match=rf"^{WHERE}: the video is 2 seconds .*--data.media.max-seconds"):
        decode_frames(data, WHERE, frames=2, size=SIDE, bounds=MediaBounds(max_seconds=1.9))
    assert numbers_of(data, 2, bounds=MediaBounds(max_seconds=2)) == middles(50, 2)


def test_pixels_are_bounded_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = WIDTH * HEIGHT
    with pytest.raises(XmrError, match=rf"^{WHERE}: .* 4 frames or more .*--frames.*--data.media.max-frame-pixels"):
        decode_frames(film(50), WHERE, frames=4, size=SIDE, bounds=MediaBounds(max_frame_pixels=4 * pixels - 1))


def test_pixels_are_bounded_while_frames_between_are_decoded() -> None:
    """Two frames are wanted, but nearly all are decoded for the second."""
    pixels = WIDTH * HEIGHT
    data = film(50, keyframe_every=1000, b_frames=0)
    with pytest.raises(XmrError, match=r"--data.media.max-frame-pixels"):
        decode_frames(data, WHERE, frames=2, size=SIDE, bounds=MediaBounds(max_frame_pixels=20 * pixels))
    assert numbers_of(data, 2, bounds=MediaBounds(max_frame_pixels=50 * pixels)) == middles(50, 2)
    # With keyframes, what lies between is not decoded.
    every = film(50, keyframe_every=1)
    assert numbers_of(every, 2, bounds=MediaBounds(max_frame_pixels=8 * pixels)) == middles(50, 2)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_frames_to_which_no_other_refers_are_not_decoded_in_vain(codec: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"FFmpeg without {codec}")
    data = film(50, codec=codec, keyframe_every=1000, b_frames=3)
    assert numbers_of(data, 4, bounds=MediaBounds(max_frame_pixels=35 * WIDTH * HEIGHT)) == middles(50, 4)


def test_a_frame_of_gigapixels_is_refused() -> None:
    """A PNG in QuickTime whose header claims 60,000 x 60,000 pixels."""
    data = bytearray(film(1, "mov", "png", b_frames=0))
    place = data.index(b"IHDR") + 4
    data[place : place + 8] = struct.pack(">II", 60_000, 60_000)
    with pytest.raises(XmrError, match=f"^{WHERE}: .*none of its frames is whole"):
        decode_frames(bytes(data), WHERE, frames=1, size=SIDE)


@pytest.mark.parametrize("data", [film(50), film(50, "avi", "mpeg4"), film(50, "webm", "libvpx")])
def test_stored_frames_are_those_of_evaluation(data: bytes) -> None:
    stored = extract_frames(data, WHERE, frames=8)
    assert numbers_of(stored, 8) == middles(50, 8)
    whole, kept = (decode_frames(d, WHERE, frames=8, size=SIDE).astype(int) for d in (data, stored))
    assert 10 * np.log10(255**2 / np.mean((whole - kept) ** 2)) > 33  # PSNR in dB
    assert extract_frames(data, WHERE, frames=8) == stored


def test_stored_frames_keep_time_and_shape_and_are_keyframes() -> None:
    data = turned(film(50, size=(128, 64)), (0, 1, -1, 0))
    stored = extract_frames(data, WHERE, frames=5, shorter_side=32)
    with av.open(io.BytesIO(stored)) as container:
        (stream,) = container.streams
        assert isinstance(stream, av.VideoStream)
        assert container.duration is not None and container.duration / 1e6 == pytest.approx(2, abs=0.05)
        assert (stream.codec_context.width, stream.codec_context.height) == (32, 64)
        packets = [packet for packet in container.demux(stream) if packet.size]
        assert len(packets) == 5 and all(packet.is_keyframe for packet in packets)


def test_stored_frames_of_odd_sides() -> None:
    data = film(6, "matroska", "ffv1", size=(97, 65))
    assert len(all_frames(extract_frames(data, WHERE, frames=3))) == 3


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the program ffmpeg is not installed")
@pytest.mark.parametrize(("container", "codec", "b_frames"), [*FORMATS, ("turned", "libx264", 2)])
def test_frames_are_those_that_ffmpeg_dumps(tmp_path: Path, container: str, codec: str, b_frames: int) -> None:
    turns = container == "turned"
    data = film(40, "mp4" if turns else container, codec, b_frames=b_frames)
    data = turned(data, (0, 1, -1, 0)) if turns else data
    (tmp_path / "film").write_bytes(data)
    command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "film"), "-fps_mode", "passthrough"]
    dump = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True
    ).stdout
    shape = (WIDTH, HEIGHT) if turns else (HEIGHT, WIDTH)
    every = np.frombuffer(dump, np.uint8).reshape(-1, *shape, 3)
    assert len(every) == 40
    found = decode_frames(data, WHERE, frames=8, size=SIDE).astype(int)
    for frame, number in zip(found, middles(40, 8)):
        expected = center_square(Image.fromarray(every[number]), SIDE).numpy()
        assert np.abs(frame - expected).max() <= 4  # another version's rounding of colors
        assert np.abs(frame - expected).mean() < 1
