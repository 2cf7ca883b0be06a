"""A headless Chromium: an installed one, or Debian's package. It takes a picture of a user's page."""

import shutil
from pathlib import Path

from playwright.sync_api import Error, expect, sync_playwright

from localcluster import ClusterError
from localcluster.packages import Package, ensure_package
from localcluster.progress import Report

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PACKAGE = Package("chromium", "chromium", "opens web pages")
ARGUMENTS = [
    "--no-sandbox",  # required for root; the browser opens only pages of the local cluster
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZE = (1100, 620)
"""Width and height of a picture, in pixels."""
PAGE_MILLISECONDS = 60_000
"""Milliseconds for the page to load and to list a file, on a busy machine."""


def is_installed() -> bool:
    """Whether a Chromium is installed."""
    return _find() is not None


def find_or_install(report: Report) -> str:
    """Return the program's path.

    Raises ClusterError if no Chromium is installed, and this process has no root rights or apt-get fails.
    """
    if (found := _find()) is None:
        ensure_package(PACKAGE, report)
        found = _find()
    if found is None:
        raise ClusterError("the Debian package chromium is installed, but its program is not on PATH")
    return found


def take_picture(program: str, url: str, file: str, path: Path) -> None:
    """Open `url` in the browser and wait until the page lists `file`, then write a picture of the page to `path` as PNG.

    Raises ClusterError if the page does not list the file.
    """
    width, height = SIZE
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
            page = chromium.new_page(viewport={"width": width, "height": height})
            page.goto(url, timeout=PAGE_MILLISECONDS)
            expect(page.get_by_role("link", name=file, exact=True)).to_be_visible(timeout=PAGE_MILLISECONDS)
            page.screenshot(path=path)
            chromium.close()
    except (Error, AssertionError) as error:
        raise ClusterError(f"the page at {url} does not list {file}: {error}") from error


def _find() -> str | None:
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)
