"""Headless Chromium for the tests of pages: the fixture `browser`, by `pytest_plugins = ["tests.helpers.browser"]`.

Such a module imports this one for type checkers only; pytest does it otherwise.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver


class Browser(webdriver.Chrome):
    """Selenium's driver, and what tests of pages need beside it."""

    DESKTOP, PHONE = (1280, 900), (390, 844)
    """widths and heights of a window, in CSS pixels"""

    def reset(self) -> None:
        """An empty page in a window as large as a desktop's, in light colours."""
        self.get("about:blank")
        self.delete_all_cookies()
        self.complaints()  # and forget them
        self.resize(*self.DESKTOP)
        self.use_colours("light")

    def resize(self, width: int, height: int) -> None:
        """Set the size of the page's window, in CSS pixels; below a width of 500 it is a phone's."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def use_colours(self, scheme: str) -> None:
        """Set what the reader prefers: "light" or "dark"."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def complaints(self) -> list[str]:
        """What the page wrote to the console as warnings and errors since this was last asked: scripts that failed,
        files that are missing or were refused."""
        return [entry["message"] for entry in self.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]

    def is_wider_than_window(self) -> bool:
        """Whether one has to scroll sideways."""
        return bool(self.execute_script("const e = document.documentElement; return e.scrollWidth > e.clientWidth"))

    def save_page(self, path: Path) -> None:
        """Save a picture of the whole page, however long, as PNG; the window stays as long as the page."""
        width, height = self.execute_script("return [innerWidth, document.documentElement.scrollHeight]")
        self.resize(width, height)
        self.save_screenshot(str(path))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One process for all tests; a test asks for `browser`."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no chromium with chromedriver here (Debian: apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    profile = tmp_path_factory.mktemp("chromium")
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",  # a page that needs the network fails
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with Browser(options, webdriver.ChromeService(driver)) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """See `Browser.reset`."""
    chromium.reset()
    return chromium
