"""A headless Chromium that opens a page of this machine, for tests and benchmarks of reports."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

READY_WITHIN_S = 300.0

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def why_no_browser() -> str | None:
    """Say what is missing for a browser, or None where everything is there."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed"
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(missing)} not installed" if missing else None


@contextmanager
def open_browser(
    width: int = 1440, height: int = 1000, downloads: Path | None = None
) -> Iterator[Any]:
    """Start Chromium with a profile of its own; its console and network logs are kept.

    Parameters
    ----------
    width, height : int
        Size of the window.
    downloads : Path, optional
        Where files that a page hands over go.
    """
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    with TemporaryDirectory() as profile:
        options = Options()
        options.binary_location = str(shutil.which("chromium"))
        for flag in (*_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            if downloads is not None:
                driver.execute_cdp_cmd(
                    "Browser.setDownloadBehavior",
                    {"behavior": "allow", "downloadPath": str(downloads)},
                )
            yield driver
        finally:
            driver.quit()


def open_page(driver: Any, path: Path) -> None:
    """Open a report and wait until its scripts have drawn it."""
    driver.get(path.resolve().as_uri())
    until = time.monotonic() + READY_WITHIN_S
    while driver.execute_script("return document.documentElement.dataset.ready") != "true":
        if time.monotonic() > until:
            raise TimeoutError(f"{path.name} was not ready: {driver.get_log('browser')}")
        time.sleep(0.05)
