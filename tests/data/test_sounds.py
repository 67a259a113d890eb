"""Sounds: the samples that independent decoders and formulas give, windows, and files that are odd or damaged."""

from __future__ import annotations

import builtins
import io
import struct

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from tests import ROOT
from xmr_e2e.data.media_files import RIFF_PROBE_BYTES, MediaBounds
from xmr_e2e.data.sounds import decode_sound, sound_window, sound_windows
from xmr_e2e.errors import XmrError

ANIMALS = ROOT.parent / "shared" / "data" / "animals4" / "audio"
WHERE = "train-000000.tar: 12-dog"


def noise(seconds: float = 0.5, rate: int = 16_000, channels: int = 1) -> NDArray[np.float64]:
    """Smooth enough that lossy formats keep most of it."""
    rng = np.random.default_rng(0)
    steps = np.cumsum(rng.normal(size=(round(seconds * rate), channels)), 0)
    centered = steps - steps.mean(0)
    return 0.8 * centered / np.abs(centered).max()


def tone(hertz: float, seconds: float, rate: int) -> NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def save(samples: NDArray[np.float64], rate: int, container: str = "WAV", coding: str | None = None) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=container, subtype=coding)
    return stream.getvalue()


def reference(data: bytes) -> NDArray[np.float64]:
    """libsndfile's samples, the mean of the channels: (t,)."""
    samples, _ = soundfile.read(io.BytesIO(data), always_2d=True)
    return samples.mean(1)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("container", "coding", "tolerance"),
    [
        ("WAV", "PCM_U8", 1e-6),
        ("WAV", "PCM_16", 1e-6),
        ("WAV", "PCM_24", 1e-6),
        ("WAV", "PCM_32", 1e-6),
        ("WAV", "FLOAT", 1e-6),
        ("WAV", "ALAW", 1e-6),
        ("WAV", "ULAW", 1e-6),
        ("WAV", "IMA_ADPCM", 1e-6),
        ("W64", "PCM_16", 1e-6),
        ("AIFF", "PCM_16", 1e-6),
        ("FLAC", "PCM_16", 1e-6),
        ("FLAC", "PCM_24", 1e-6),
    ],
)
def test_samples_are_those_of_libsndfile(container: str, coding: str, tolerance: float, channels: int) -> None:
    data = save(noise(channels=channels), 16_000, container, coding)
    found, expected = decode_sound(data, WHERE), reference(data)
    assert found.dtype == np.float32
    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected, atol=tolerance)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("container", "block", "tolerance"), [("MP3", 1152, 2**-14), ("OGG", 2048, 1e-5)])
def test_lossy_samples_are_those_of_libsndfile(container: str, block: int, tolerance: float, channels: int) -> None:
    data = save(noise(channels=channels), 16_000, container)
    found, expected = decode_sound(data, WHERE), reference(data)
    assert abs(len(found) - len(expected)) < block  # the padding of the last block, which one of the two may cut
    both = min(len(found), len(expected))
    np.testing.assert_allclose(found[:both], expected[:both], atol=tolerance)


@pytest.mark.parametrize("source", [8_000, 11_025, 22_050, 44_100, 48_000, 16_393])
def test_tones_keep_their_pitch_phase_and_length_at_another_rate(source: int) -> None:
    found = decode_sound(save(tone(440, 1, source), source, coding="FLOAT"), WHERE)
    expected = tone(440, 1, 16_000)
    assert abs(len(found) - len(expected)) <= 1
    middle = slice(400, 15_600)  # the ends are next to silence
    np.testing.assert_allclose(found[middle], expected[middle], atol=1e-3)


def test_what_the_new_rate_cannot_hold_is_filtered_out() -> None:
    found = decode_sound(save(tone(10_000, 1, 44_100), 44_100, coding="FLOAT"), WHERE)
    assert np.abs(found[400:-400]).max() < 0.005  # without a filter, a tone of 6,000 Hz of amplitude 0.5


def test_the_rate_is_the_one_that_is_asked_for() -> None:
    data = save(tone(440, 1, 44_100), 44_100)
    assert len(decode_sound(data, WHERE, rate=8_000)) == pytest.approx(8_000, abs=1)
    assert len(decode_sound(data, WHERE, rate=44_100)) == 44_100


def test_loud_channels_stay_within_the_range() -> None:
    loud = np.full((1600, 2), 0.99)
    np.testing.assert_allclose(decode_sound(save(loud, 16_000), WHERE), 0.99, atol=1e-4)
    opposite = loud * [1, -1]
    np.testing.assert_allclose(decode_sound(save(opposite, 16_000), WHERE), 0, atol=1e-4)


def test_six_channels_are_mixed_with_weights_of_at_most_one() -> None:
    found = decode_sound(save(np.full((1600, 6), 0.9), 16_000), WHERE)
    assert found.min() > 0.5 and found.max() <= 0.9 + 1e-4


def with_mp3_inside(mp3: bytes, rate: int) -> bytes:
    """A WAV file whose coding is number 0x55, as recorders and sound libraries of the nineties wrote it."""
    head = struct.pack("<HHIIHHHHIHHH", 0x55, 1, rate, 8_000, 1, 0, 12, 1, 2, 576, 1, 1393)
    chunks = b"fmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(mp3)) + mp3
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def test_mp3_inside_wav() -> None:
    mp3 = save(noise(2), 16_000, "MP3", "MPEG_LAYER_III")
    found, expected = decode_sound(with_mp3_inside(mp3, 16_000), WHERE), decode_sound(mp3, WHERE)
    # A WAV file does not know of the encoder's delay, by which the sound begins later.
    best = max(range(0, 2400), key=lambda shift: np.dot(found[shift : shift + 16_000], expected[:16_000]))
    np.testing.assert_allclose(found[best : best + 16_000], expected[:16_000], atol=1e-3)


def test_the_content_decides_and_not_the_name() -> None:
    """Decoders are not told the extension: a FLAC that is called .wav is a FLAC."""
    flac, wav = (save(noise(), 16_000, container) for container in ("FLAC", "WAV"))
    np.testing.assert_allclose(decode_sound(flac, "a.wav"), decode_sound(wav, "a.flac"), atol=1e-4)


def test_silence_is_zeros() -> None:
    assert not decode_sound(save(np.zeros(1600), 16_000), WHERE).any()


def test_one_sample_is_a_sound() -> None:
    assert decode_sound(save(np.full(1, 0.5), 16_000, coding="FLOAT"), WHERE).tolist() == [0.5]
    with pytest.raises(XmrError, match="too few to be resampled"):
        decode_sound(save(np.full(1, 0.5), 44_100), WHERE)


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_sound_that_is_cut_is_read_as_far_as_it_goes(container: str) -> None:
    data = save(noise(4), 16_000, container)
    whole, found = decode_sound(data, WHERE), decode_sound(data[: len(data) * 3 // 4], WHERE)
    assert 0.4 * len(whole) < len(found) < 0.9 * len(whole)
    compared = len(found) - 4096  # but for the last block, of which a part is missing
    np.testing.assert_allclose(found[:compared], whole[:compared], atol=1e-4)


@pytest.mark.parametrize("claimed", [0xFFFFFFFF, 2**31, 16_000 * 2 * 3600 * 10])
def test_a_header_that_claims_hours_is_not_believed(claimed: int) -> None:
    """As a program writes it that does not know yet how long the sound will be."""
    data = bytearray(save(noise(), 16_000, coding="PCM_16"))
    place = data.index(b"data") + 4
    data[place : place + 4] = struct.pack("<I", claimed)
    np.testing.assert_allclose(decode_sound(bytes(data), WHERE), reference(save(noise(), 16_000)), atol=1e-6)


def test_damage_in_the_middle_costs_only_its_surroundings() -> None:
    data = bytearray(save(noise(4), 16_000, "FLAC"))
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    found, whole = decode_sound(bytes(data), WHERE), decode_sound(save(noise(4), 16_000, "FLAC"), WHERE)
    assert len(found) > 0.8 * len(whole)
    np.testing.assert_allclose(found[:16_000], whole[:16_000], atol=1e-6)


def test_a_sound_most_of_which_is_damaged_is_refused() -> None:
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        audio = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(noise(4).T.astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        packets = [*audio.encode(frame), *audio.encode(None)]
        container.mux(packets)
    data = bytearray(stream.getvalue())
    for content in map(bytes, packets[2:]):
        place = data.index(content)
        data[place : place + len(content)] = b"\xff" * len(content)
    with pytest.raises(XmrError, match=f"^{WHERE}: the sound cannot be decoded: .* of its packets are damaged"):
        decode_sound(bytes(data), WHERE)


def of_format(rate: int = 16_000, channels: int = 1, bits: int = 16, payload: bytes = bytes(3200)) -> bytes:
    """A WAV file with that header."""
    frame = channels * bits // 8 % 65536
    head = struct.pack("<HHIIHH", 1, channels, rate, rate * frame % 2**32, frame, bits)
    chunks = b"fmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", len(payload)) + payload
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\nfile://%s\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"the sound is empty \(zero bytes\)"),
        (b"RIFF", "not a sound that can be read"),
        (b"no sound at all, but a sentence" * 100, "not a sound that can be read"),
        (bytes(10_000), "not a sound that can be read"),
        (PLAYLIST % b"/etc/hostname", "not a sound that can be read"),
        (of_format(payload=b""), "holds no samples"),
        (of_format(rate=0), "cannot be|can be read|samples per second"),
        (of_format(rate=1), "1 samples per second"),
        (of_format(rate=2**32 - 1), "samples per second|can be read"),
        (of_format(channels=0), "0 channels by its header"),
        (of_format(channels=65), "65 channels by its header"),
        (of_format(channels=9), "cannot be decoded"),
        (save(np.array([0.1, np.nan, 0.2]), 16_000, coding="FLOAT"), "samples of nan"),
        (save(np.array([0.1, np.inf, 0.2]), 16_000, coding="FLOAT"), "samples of inf"),
        (save(np.array([0.1, 12_000.0, 0.2]), 16_000, coding="FLOAT"), r"samples of 12,000.*\[-1, 1\]"),
        (save(noise(), 16_000, "FLAC")[:60], "can be read|no samples"),
    ],
    ids=lambda value: value if isinstance(value, str) else "data",  # of which some has the time in it
)
def test_a_file_that_is_no_sound_says_where_it_is_and_why(data: bytes, message: str) -> None:
    with pytest.raises(XmrError, match=f"^{WHERE}: .*({message})"):
        decode_sound(data, WHERE)


def test_samples_a_little_above_the_range_are_clipped() -> None:
    found = decode_sound(save(np.array([1.5, -1.2, 0.5]), 16_000, coding="FLOAT"), WHERE)
    np.testing.assert_allclose(found, [1, -1, 0.5])


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG"])
def test_a_sound_above_the_bound_is_refused_with_the_option(container: str) -> None:
    data = save(noise(3), 16_000, container)
    with pytest.raises(XmrError, match=rf"^{WHERE}: the sound is .* above the bound of 2; .*--data.media.max-seconds"):
        decode_sound(data, WHERE, bounds=MediaBounds(max_seconds=2))
    assert len(decode_sound(data, WHERE, bounds=MediaBounds(max_seconds=3.01))) == 48_000


def test_a_long_sound_whose_header_says_nothing_is_refused_while_it_is_decoded() -> None:
    flac = bytearray(save(np.zeros(16_000 * 30), 16_000, "FLAC"))
    flac[21] &= 0xF0  # the number of samples in STREAMINFO: 36 bits from here on; 0 is "unknown"
    flac[22:26] = bytes(4)
    with pytest.raises(XmrError, match=r"--data.media.max-seconds"):
        decode_sound(bytes(flac), WHERE, bounds=MediaBounds(max_seconds=2))


def test_a_window_is_a_part_of_the_sound_and_any_part_is_as_likely() -> None:
    data = save(noise(2), 16_000)
    sound = decode_sound(data, WHERE)
    for chance, start in ((0.0, 0), (0.5, 12_000), (np.nextafter(1, 0), 24_000)):
        windows, lengths = sound_window(data, WHERE, samples=8_000, chance=chance)
        assert windows.shape == (1, 8_000) and windows.dtype == np.float32 and lengths.tolist() == [8_000]
        np.testing.assert_array_equal(windows[0], sound[start : start + 8_000])


def test_a_sound_shorter_than_its_window_is_followed_by_zeros() -> None:
    data = save(noise(0.25), 16_000)
    for chance in (0.0, 0.9):
        windows, lengths = sound_window(data, WHERE, samples=10_000, chance=chance)
        np.testing.assert_array_equal(windows[0, :4_000], decode_sound(data, WHERE))
        assert lengths.tolist() == [4_000] and not windows[0, 4_000:].any()


def test_windows_of_evaluation_are_evenly_spaced_from_the_beginning_to_the_end() -> None:
    data = save(noise(2), 16_000)
    sound = decode_sound(data, WHERE)
    windows, lengths = sound_windows(data, WHERE, samples=8_000, count=5)
    assert windows.shape == (5, 8_000) and lengths.tolist() == [8_000] * 5
    for row, start in enumerate((0, 6_000, 12_000, 18_000, 24_000)):
        np.testing.assert_array_equal(windows[row], sound[start : start + 8_000])
    middle, _ = sound_windows(data, WHERE, samples=8_000, count=1)
    np.testing.assert_array_equal(middle[0], sound[12_000:20_000])


def test_a_short_sound_has_one_window_and_the_others_are_missing() -> None:
    data = save(noise(0.25), 16_000)
    windows, lengths = sound_windows(data, WHERE, samples=8_000, count=3)
    assert windows.shape == (3, 8_000) and lengths.tolist() == [4_000, 0, 0] and lengths.dtype == np.int64
    assert not windows[1:].any()


def test_without_pyav_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *arguments: object, **options: object) -> object:
        if name == "av":
            raise ImportError(name)
        return imported(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr("xmr_e2e.extras.find_spec", lambda name: None)
    with pytest.raises(XmrError, match=r"pip install 'xmr-e2e\[media\]'"):
        decode_sound(save(noise(), 16_000), WHERE)


@pytest.mark.skipif(not ANIMALS.is_dir(), reason="shared/data/animals4 is not here")
def test_real_sounds_are_those_of_libsndfile() -> None:
    """Field recordings and sound libraries: 8 and 16 bits, 8 to 44 kHz, some MP3 inside WAV."""
    compared = inside = 0
    for path in sorted(ANIMALS.rglob("*.wav"))[::4]:
        data = path.read_bytes()
        native = decode_sound(data, path.name, rate=soundfile.info(path).samplerate)
        assert np.abs(native).max() > 0.01, path
        expected = reference(data)
        is_mp3 = soundfile.info(path).subtype.startswith("MPEG")
        # libsndfile cuts the end of MP3 inside WAV where the file's own count says so.
        assert len(native) == len(expected) or (is_mp3 and len(native) >= len(expected)), path
        np.testing.assert_allclose(
            native[: len(expected)], np.clip(expected, -1, 1), atol=2**-14 if is_mp3 else 1e-5, err_msg=path.name
        )
        compared, inside = compared + 1, inside + is_mp3
    assert compared >= 40 and inside


def test_an_mp3_behind_a_title_larger_than_what_is_read_of_a_wav_file_is_found() -> None:
    plain = save(noise(), 16_000, "MP3", "MPEG_LAYER_III")
    size = 4 * RIFF_PROBE_BYTES
    header = b"ID3\x04\0\0" + bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    found, expected = (decode_sound(data, WHERE) for data in (header + bytes(size) + plain, plain))
    assert np.array_equal(found, expected)
