"""The source of nginx. Other tests run it."""

from pathlib import Path

import pytest

from localcluster import ClusterError
from testservers import nginx


@pytest.fixture(autouse=True)
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def test_program_in_the_path_is_used_without_a_download(empty_path: Path) -> None:
    program = empty_path / "nginx"
    program.touch(mode=0o755)
    assert nginx.program() == program


def test_error_without_apt_get_names_the_package() -> None:
    with pytest.raises(ClusterError, match=r"no nginx in the path.*apt-get.*Debian package nginx"):
        nginx.program()


def test_server_that_cannot_start_reports_the_last_line_of_its_log(empty_path: Path, tmp_path: Path) -> None:
    (empty_path / "nginx").write_text("#!/bin/sh\necho 'unknown directive'; exit 1\n")
    (empty_path / "nginx").chmod(0o755)
    with pytest.raises(ClusterError, match=r"nginx (did not start|exited at once): unknown directive"):
        nginx.Nginx(tmp_path / "server").start("no-such-directive;")
