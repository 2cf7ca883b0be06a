"""A headless Chromium: an installed one, or Debian's package, which is installed if possible."""

import os
import shutil
import subprocess

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

ARGUMENTS = [
    "--no-sandbox",  # required for root; the browser opens only pages of the test cluster
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_or_install() -> str:
    """Return the program's path. Skips the test with the reason if no Chromium is available."""
    if found := _find():
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("tests of web pages need Chromium: install the Debian package chromium")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "--yes", "--no-install-recommends", "--no-remove", "chromium"]):
        done = subprocess.run(
            ["apt-get", *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines()
            pytest.skip(f"tests of web pages need Chromium; apt-get {words[0]} failed: {lines[-1] if lines else 'no output'}")
    found = _find()
    assert found is not None
    return found


def _find() -> str | None:
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)
