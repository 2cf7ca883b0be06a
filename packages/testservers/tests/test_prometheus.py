"""Where the programs of Prometheus come from; that they work is seen where they are used."""

from pathlib import Path

import pytest

from localcluster import ClusterError
from testservers import prometheus


@pytest.fixture(autouse=True)
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def test_one_in_the_path_is_taken(nothing_here: Path) -> None:
    mine = nothing_here / "promtool"
    mine.touch(mode=0o755)
    assert prometheus.program("promtool") == mine


def test_without_apt_get_it_says_what_is_missing() -> None:
    with pytest.raises(ClusterError, match=r"no promtool in the path.*apt-get.*Debian package prometheus"):
        prometheus.program("promtool")


def test_the_words_of_apt_get_are_passed_on(nothing_here: Path) -> None:
    for name in ("apt-get", "dpkg-deb"):
        (nothing_here / name).write_text("#!/bin/sh\necho 'E: Unable to locate package prometheus' >&2\nexit 100\n")
        (nothing_here / name).chmod(0o755)
    with pytest.raises(ClusterError, match="Unable to locate package prometheus"):
        prometheus.program("prometheus")
