"""Sounds, videos and shapes on the search page: asked with, found, and played; by HTTP and in a real browser."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import pytest
from fastapi.testclient import TestClient
from httpx import Response
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

import xmr_e2e
from tests.helpers.five_models import save_five
from tests.helpers.media_bytes import mp4, off, wav
from tests.helpers.raw_media import five_modalities, write_clip, write_shape, write_sound
from tests.helpers.served import serving
from xmr_e2e.data.media_files import MediaBounds
from xmr_e2e.data.preview_files import CLIP_FRAMES, MEDIA_TYPES, VIEW_SIZE, VIEWS
from xmr_e2e.search import uploads
from xmr_e2e.search.access import Rules
from xmr_e2e.search.app import create_app
from xmr_e2e.search.index import Index, search_index
from xmr_e2e.search.indexing import make_index
from xmr_e2e.shards.schema import MODALITIES

if TYPE_CHECKING:
    from tests.helpers.browser import Browser

pytestmark = pytest.mark.slow

pytest_plugins = ["tests.helpers.browser"]

PATIENCE = 60
RULES = Rules(frozenset({"testserver"}))
ENDINGS = {"image": ".png", "audio": ".wav", "video": ".mp4", "shape3d": ".off"}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return five_modalities(tmp_path_factory.mktemp("five"))


@pytest.fixture(scope="module")
def model(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> xmr_e2e.SavedModel:
    return save_five(shards, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def index(model: xmr_e2e.SavedModel, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Of the test split, and of a sound, a video and a shape in a folder."""
    folder = tmp_path_factory.mktemp("index")
    make_index(model, folder, shards, folder / "index", splits=["test"])
    (folder / "own").mkdir()
    write_sound(folder / "own" / "bark.wav", 700, seed=5)
    write_clip(folder / "own" / "clip.mp4", (30, 200, 60), seed=5)
    write_shape(folder / "own" / "chair.off", 2.0, seed=5)
    make_index(model, folder, folder / "own", folder / "index", add=True)
    return Index(folder / "index")


@pytest.fixture(scope="module")
def client(index: Index, model: xmr_e2e.SavedModel) -> Iterator[TestClient]:
    with TestClient(create_app(index, model, RULES)) as client:
        yield client


@pytest.fixture(scope="module")
def files(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """modality -> a file that is not in the index"""
    folder = tmp_path_factory.mktemp("queries")
    return {name: Path(shutil.copy(shards.parent / "raw" / f"val0{end}", folder)) for name, end in ENDINGS.items()}


def ask(client: TestClient, content: bytes, name: str, **parameters: Any) -> Response:
    return client.post("/api/search", params={"k": 50} | parameters, files={"file": (name, content)})


def reason(client: TestClient, content: bytes, name: str) -> str:
    answer = ask(client, content, name)
    assert answer.status_code == 422, answer.text
    detail: str = answer.json()["detail"]
    assert detail.startswith(f"{name} cannot be used: ") and "given bytes" not in detail and "\n" not in detail
    return detail.removeprefix(f"{name} cannot be used: ")


# By HTTP


def test_what_can_be_asked_and_found_is_said(client: TestClient) -> None:
    about = client.get("/api/about").json()
    assert about["found_by"] == {"image": 4, "text": 4, "audio": 5, "video": 5, "shape3d": 5}
    assert list(about["takes"]) == list(MODALITIES) and about["takes"]["text"] == []
    assert ".flac" in about["takes"]["audio"] and ".glb" in about["takes"]["shape3d"]


@pytest.mark.parametrize("modality", ENDINGS)
def test_an_upload_finds_what_the_command_finds(
    client: TestClient, index: Index, model: xmr_e2e.SavedModel, files: dict[str, Path], modality: str
) -> None:
    path = files[modality]
    for finds in ((), ("audio",), ("text", "shape3d")):
        answer = ask(client, path.read_bytes(), path.name, finds=finds).json()
        expected = search_index(index, model, path, k=50, finds=finds)
        assert answer["query"] == modality
        assert set(answer["finds"]) == set(finds or set(MODALITIES) - {modality})
        found = [(hit["source"], hit["modality"], hit["score"]) for hit in answer["hits"]]
        assert found == [(hit.source, hit.modality, hit.score) for hit in expected]


def test_a_sentence_finds_items_of_all_kinds_and_of_one(client: TestClient) -> None:
    for finds, kinds in (((), {"image", "audio", "video", "shape3d"}), (("video",), {"video"})):
        hits = client.get("/api/search", params={"text": "a high whistle", "k": 50, "finds": finds}).json()["hits"]
        assert {hit["modality"] for hit in hits} == kinds
    answer = client.get("/api/search", params={"text": "a high whistle", "finds": "smell"})
    assert answer.status_code == 422 and "finds" in answer.json()["detail"]


def test_the_ending_is_read_and_nothing_else_of_a_name(client: TestClient, files: dict[str, Path]) -> None:
    sound = files["audio"].read_bytes()
    expected = ask(client, sound, "a.wav").json()
    for name in ("../../etc/passwd.WAV", "a.b.c.flac", "\\\\host\\a.mp3", "<img src=x onerror=alert(1)>.ogg"):
        assert ask(client, sound, name).json() == expected
    assert "not an image" in reason(client, sound, "wav")


def of_kind(client: TestClient, modality: str) -> list[dict[str, Any]]:
    hits = client.get("/api/search", params={"text": "a high whistle", "k": 50, "finds": modality}).json()["hits"]
    assert len(hits) in (4, 5)
    return [hit for hit in hits if hit["modality"] == modality]


def test_sounds_videos_and_shapes_have_what_plays(client: TestClient) -> None:
    for modality, kind in MEDIA_TYPES.items():
        hits = of_kind(client, modality)
        assert {hit["source"] for hit in hits} > {f"test0{ENDINGS[modality]}"}
        for hit in hits:
            assert hit["previews"] == {modality: f"/previews/{hit['item']}/{modality}"} and hit["thumbnail"]
            answer = client.get(hit["previews"][modality])
            assert answer.status_code == 200 and answer.headers["content-type"] == kind
            assert answer.headers["x-content-type-options"] == "nosniff" and 100 < len(answer.content) < 2**16
            check_plays(modality, answer.content)
    assert all(hit["previews"] == {} for name in ("image", "text") for hit in of_kind(client, name))


def check_plays(modality: str, content: bytes) -> None:
    if modality == "shape3d":
        image = Image.open(io.BytesIO(content))
        assert getattr(image, "n_frames", 1) == VIEWS
        return
    with av.open(io.BytesIO(content), "r") as container:
        frames = list(container.decode(container.streams[0]))
    assert len(frames) == CLIP_FRAMES if modality == "video" else frames


def test_a_part_of_what_plays_is_sent_to_who_asks_for_it(client: TestClient) -> None:
    path = of_kind(client, "video")[0]["previews"]["video"]
    whole = client.get(path)
    size = len(whole.content)
    assert whole.headers["accept-ranges"] == "bytes"
    for asked, begin, end in (
        ("0-", 0, size), ("5-9", 5, 10), ("-7", size - 7, size), (f"{size - 1}-{size + 9}", size - 1, size),
        (f"-{size + 5}", 0, size),
    ):  # fmt: skip
        part = client.get(path, headers={"Range": f"bytes={asked}"})
        assert part.status_code == 206 and part.content == whole.content[begin:end], asked
        assert part.headers["content-range"] == f"bytes {begin}-{end - 1}/{size}"
        assert part.headers["content-type"] == "video/mp4" and "nosniff" in str(part.headers)
    for asked in (f"{size}-", "-0", "9-5"):
        refused = client.get(path, headers={"Range": f"bytes={asked}"})
        assert refused.status_code == 416 and refused.headers["content-range"] == f"bytes */{size}"
    for asked in ("bytes=1-2,4-5", "bytes=-", "items=1-2", "bytes=" + "9" * 5000 + "-", "bytes=a-b"):
        assert client.get(path, headers={"Range": asked}).content == whole.content


def test_what_does_not_play_is_not_found(client: TestClient) -> None:
    picture, video = of_kind(client, "image")[0]["item"], of_kind(client, "video")[0]["item"]
    for path, status in (
        (f"{picture}/audio", 404), (f"{video}/audio", 404), ("999/video", 404), (f"{picture}/image", 422),
        ("0/video", 422), (f"{2**63}/video", 422), ("1/..", 404),
    ):  # fmt: skip
        answer = client.get(f"/previews/{path}")
        assert answer.status_code == status and set(answer.json()) == {"detail"}, path


def test_what_cannot_be_decoded_is_said_in_a_line(client: TestClient, files: dict[str, Path]) -> None:
    for name in ("a.wav", "a.mp4", "a.off"):
        assert "empty" in reason(client, b"", name)
        assert "none of" in reason(client, b"words", name)
    assert "no video in it, only audio" in reason(client, wav(), "a.mp4")
    assert "no sound in it, only video" in reason(client, mp4(), "a.mp3")
    assert reason(client, mp4()[:-400], "a.mov") == "the video has no frames"


def test_an_upload_is_bounded_before_it_is_decoded(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "its header claims" in reason(client, b"OFF\n900000000 900000000 0\n", "a.off")
    tight = MediaBounds(max_seconds=1, max_frame_pixels=9000, max_faces=5, max_points=7)
    monkeypatch.setattr(uploads, "MEDIA_BOUNDS", tight)
    for content, name, bound in (
        (wav(1.5), "a.wav", "the sound is 2 seconds long or longer, above the bound of 1"),
        (mp4(), "a.mp4", "the video is 2 seconds long or longer, above the bound of 1"),
        (mp4(each=2), "a.mp4", "pixels, above the bound of 9,000"),
        (off(), "a.off", "the shape has 6 faces, above the bound of 5"),
    ):
        said = reason(client, content, name)
        assert bound in said and "--" not in said


def test_a_model_that_does_not_read_sounds_says_so(index: Index, model: xmr_e2e.SavedModel,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("xmr_e2e.search.app.has_extra", lambda _: False)
    with TestClient(create_app(index, model, RULES)) as client:
        assert list(client.get("/api/about").json()["takes"]) == ["image", "text"]
        answer = ask(client, wav(), "a.wav")
        assert (answer.status_code, answer.json()) == (422, {"detail": "this model cannot read a sound"})


# In a browser


KINDS = {"image": "picture", "text": "text", "audio": "sound", "video": "video", "shape3d": "3D shape"}
PLAY = """
const [player, done] = [arguments[0], arguments[arguments.length - 1]];
player.addEventListener("timeupdate", () => player.currentTime > 0.1 && done(player.currentTime));
player.addEventListener("error", () => done(player.error.message));
player.play().catch((error) => done(error.message));
"""


def wait(browser: Browser, seen: Any) -> Any:
    return WebDriverWait(browser, PATIENCE).until(lambda _: seen())


def upload(browser: Browser, path: Path) -> list[str]:
    """The kinds of what is found."""
    browser.find_element(By.ID, "file").send_keys(str(path))
    status = browser.find_element(By.ID, "status")
    wait(
        browser, lambda: status.text.startswith(f"{path.name}: ") or browser.find_element(By.ID, "error").is_displayed()
    )
    assert not browser.find_element(By.ID, "error").is_displayed(), browser.find_element(By.ID, "error").text
    return [each.text for each in browser.find_elements(By.CSS_SELECTOR, "#hits .kind")]


def shown(browser: Browser, selector: str) -> list[Any]:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def test_uploads_of_each_kind_find_what_plays_in_a_browser(
    browser: Browser, index: Index, model: xmr_e2e.SavedModel, files: dict[str, Path], tmp_path: Path
) -> None:
    with serving(index, model) as endpoint:
        browser.get(endpoint.address)
        wait(browser, lambda: "items" in browser.find_element(By.ID, "about").text)
        assert (
            browser.find_element(By.ID, "text-finds").text == "A sentence finds pictures, sounds, videos and 3D shapes"
        )
        assert "A picture, a sound, a video or a 3D shape finds" in browser.find_element(By.ID, "drop").text
        browser.find_element(By.TAG_NAME, "h1").click()  # from now on, pages may play sounds
        for modality, player in (
            ("audio", "audio[controls]"),
            ("video", "video[controls][muted][loop]"),
            ("shape3d", ""),
        ):
            kinds = upload(browser, files[modality])
            assert set(kinds) == {kind for name, kind in KINDS.items() if name != modality}
            assert len(shown(browser, "#hits li")) == len(kinds) == 18
            check_hits(browser, set(MEDIA_TYPES) - {modality})
            assert len(shown(browser, f"#preview {player}" if player else "#preview:not([hidden])")) == bool(player)
            if player:
                assert browser.execute_async_script(PLAY, shown(browser, "#preview [src]")[0]) > 0.1
        Select(browser.find_element(By.ID, "finds")).select_by_visible_text("3D shapes")
        wait(browser, lambda: "val0.off: 5 3D shapes, best first" in browser.find_element(By.ID, "status").text)
        assert shown(browser, "#hits .kind") == []
        browser.save_page(tmp_path / "page.png")
        assert browser.complaints() == []


def check_hits(browser: Browser, media: set[str]) -> None:
    """Each sound, video and shape among the hits plays or turns."""
    selectors = {"audio": "#hits li > audio[controls]", "video": "#hits li > video[controls][muted][loop]",
                 "shape3d": "#hits picture.picture img"}  # fmt: skip
    for modality, selector in selectors.items():
        players = shown(browser, selector)
        assert len(players) == (5 if modality in media else 0)
        if players and modality == "shape3d":
            first = players[0]
            browser.execute_script("arguments[0].scrollIntoView()", first)
            wait(
                browser,
                lambda first=first: browser.execute_script("return arguments[0].naturalWidth", first) == VIEW_SIZE[0],
            )
        elif players:
            assert browser.execute_async_script(PLAY, players[0]) > 0.1
            assert browser.execute_async_script(PLAY, players[1]) > 0.1
            assert browser.execute_script("return arguments[0].paused", players[0])  # one at a time


def test_an_item_is_played_in_its_dialog_which_falls_silent_when_it_is_closed(
    browser: Browser, index: Index, model: xmr_e2e.SavedModel, files: dict[str, Path]
) -> None:
    browser.resize(*browser.PHONE)
    with serving(index, model) as endpoint:
        browser.get(f"{endpoint.address}?text=a+high+whistle")
        wait(browser, lambda: shown(browser, "#hits li"))
        assert not browser.is_wider_than_window()
        for player in ("audio", "video"):
            (hit, *_) = [
                li for li in shown(browser, "#hits li") if li.find_elements(By.CSS_SELECTOR, f":scope > {player}")
            ]
            browser.execute_script("arguments[0].click()", hit.find_element(By.CSS_SELECTOR, "button"))
            dialog = browser.find_element(By.ID, "more")
            assert dialog.is_displayed() and len(dialog.find_elements(By.CSS_SELECTOR, f".media {player}")) == 1
            assert not browser.is_wider_than_window()
            browser.execute_script("arguments[0].close()", dialog)
            wait(browser, lambda: not shown(browser, "#more .media *"))
        assert browser.complaints() == []


def test_what_is_no_sound_is_said_on_the_page(
    browser: Browser, index: Index, model: xmr_e2e.SavedModel, tmp_path: Path
) -> None:
    with serving(index, model) as endpoint:
        browser.get(endpoint.address)
        wait(browser, lambda: "items" in browser.find_element(By.ID, "about").text)
        (tmp_path / "words.wav").write_text("words")
        browser.find_element(By.ID, "file").send_keys(str(tmp_path / "words.wav"))
        error = browser.find_element(By.ID, "error")
        wait(browser, error.is_displayed)
        assert (
            error.text.startswith("Words.wav cannot be used: not a sound that can be read") and "\n" not in error.text
        )
        assert shown(browser, "#hits li") == [] and not browser.find_element(By.ID, "preview").is_displayed()
