"""A headless Chromium for tests of web pages."""

import pytest

from demo import browser
from localcluster import ClusterError
from localcluster.progress import silent

ARGUMENTS = browser.ARGUMENTS


def find_or_install() -> str:
    """Return the program's path. Skips the test with the reason if no Chromium is available."""
    try:
        return browser.find_or_install(silent)
    except ClusterError as error:
        pytest.skip(f"tests of web pages need Chromium: {error}")
