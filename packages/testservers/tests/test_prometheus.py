"""The source of the programs of Prometheus. Other tests run them."""

from pathlib import Path

import pytest

from localcluster import ClusterError
from testservers import prometheus


@pytest.fixture(autouse=True)
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def test_program_in_the_path_is_used_without_a_download(empty_path: Path) -> None:
    program = empty_path / "promtool"
    program.touch(mode=0o755)
    assert prometheus.program("promtool") == program


def test_error_without_apt_get_names_the_package() -> None:
    with pytest.raises(ClusterError, match=r"no promtool in the path.*apt-get.*Debian package prometheus"):
        prometheus.program("promtool")


def test_error_has_the_message_of_apt_get(empty_path: Path) -> None:
    for name in ("apt-get", "dpkg-deb"):
        (empty_path / name).write_text("#!/bin/sh\necho 'E: Unable to locate package prometheus' >&2\nexit 100\n")
        (empty_path / name).chmod(0o755)
    with pytest.raises(ClusterError, match="Unable to locate package prometheus"):
        prometheus.program("prometheus")
