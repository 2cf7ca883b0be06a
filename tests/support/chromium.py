"""A Chromium without a screen: the machine's own, or Debian's package, installed where that can be done."""

import os
import shutil
import subprocess

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

ARGUMENTS = [
    "--no-sandbox",  # root needs it; the only pages it sees are those of our own cluster
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_or_install() -> str:
    """The path of the program; the test is skipped, saying why, where there is none to be had."""
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
