"""The check of a volume by a shell, run by the shell of this machine, and what the pods of each flavor ask for."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.builders import class_object, desired_of, storage_object
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.browsers import probes

OPEN = {"mode": "None", "acknowledgeUnauthenticated": True}


def container_of(storage: dict[str, Any] | None = None, auth: dict[str, Any] | None = None, **browser: Any) -> dict[str, Any]:
    cls = UserStorageClass.parse(class_object(browser=browser, auth=auth or {}))
    [container] = desired_of(storage_object(storage=storage or {}), cls).pod["spec"]["containers"]
    return dict(container)


def check(directory: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the check on `directory` / files, with its record of the last check in `directory`; wget prints its environment."""
    (directory / "wget").write_text("#!/bin/sh\nenv")
    (directory / "wget").chmod(0o755)
    [_, _, script] = probes.sees_volume("/health", 8080)["exec"]["command"]
    script = script.replace("/dev/shm/", f"{directory}/").replace("/srv/", f"{directory}/files/")  # noqa: S108  # in the pod
    path = f"{directory}:/usr/bin:/bin"
    return subprocess.run(["/bin/sh", "-c", script], env={"PATH": path, **env}, capture_output=True, text=True, check=False)


def test_volume_is_readable_with_and_without_files(tmp_path: Path) -> None:
    assert check(tmp_path).returncode != 0
    (tmp_path / "files").mkdir()
    assert check(tmp_path).returncode == 0
    for number in range(3):
        (tmp_path / "files" / f"{number}").touch()
    done = check(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_request_of_the_probe_uses_no_proxy(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    spellings = [f"{scheme}_proxy" for scheme in ("http", "https", "all")]
    variables = dict.fromkeys([*spellings, *map(str.upper, spellings)], "http://192.0.2.1:3128")
    assert "192.0.2.1" not in check(tmp_path, **variables).stdout


def test_no_second_check_starts_while_one_hangs(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    with subprocess.Popen(["find", "-files0-from", "-"], stdin=subprocess.PIPE) as hanging:
        (tmp_path / "volume-check").write_text(f"{hanging.pid}\n")
        done = check(tmp_path)
        assert done.returncode == 1
        assert "has not returned" in done.stderr
        hanging.kill()
        while Path(f"/proc/{hanging.pid}/exe").exists():
            pass
        assert check(tmp_path).returncode == 0, "a zombie is gone, too"


@pytest.mark.parametrize(
    ("storage", "permissions", "path", "seconds"),
    [
        ({}, {}, "/.userstorage-no-such-directory/?simple", 5),
        ({"readOnly": True}, {}, "/?simple", 60),
        ({}, {"create": False}, "/?simple", 60),
    ],
)
def test_dufs_lists_the_root_only_without_uploads(
    storage: dict[str, Any], permissions: dict[str, bool], path: str, seconds: int
) -> None:
    probe = container_of(storage, OPEN, flavor="Dufs", permissions=permissions)["readinessProbe"]
    assert probe["httpGet"]["path"] == path
    assert probe["timeoutSeconds"] == seconds


def test_scratch_and_logs_are_requested_unless_the_class_says_otherwise() -> None:
    resources = container_of(flavor="FileBrowser")["resources"]
    assert resources["requests"]["ephemeral-storage"] == resources["limits"]["ephemeral-storage"] == "256Mi"
    assert container_of(flavor="Quantum")["resources"]["requests"]["ephemeral-storage"] == "2240Mi"
    own = {"requests": {"memory": "1Gi"}}
    resources = container_of(flavor="FileBrowser", resources=own)["resources"]
    assert resources == {
        "requests": {"memory": "1Gi", "ephemeral-storage": "256Mi"},
        "limits": {"ephemeral-storage": "256Mi"},
    }
    own = {"requests": {"ephemeral-storage": "1Gi"}}
    assert container_of(flavor="FileBrowser", resources=own)["resources"] == own
    assert "ephemeral-storage" not in container_of(None, OPEN, flavor="Dufs")["resources"]["requests"]


def test_request_of_copyparty_lists_no_files() -> None:
    command = container_of(flavor="Copyparty", basePath="/u/${slug}/")["readinessProbe"]["exec"]["command"][-1]
    assert command.endswith("http://127.0.0.1:8080/u/alice/.cpr/ui.css")


def test_no_flavor_resizes_photos_or_caches_them() -> None:
    args = container_of(flavor="FileBrowser")["args"]
    assert {"--disableThumbnails", "--disablePreviewResize"} < set(args)
    assert not [arg for arg in args if arg.startswith("--cacheDir")]


@pytest.mark.parametrize("flavor", ["FileBrowser", "Quantum"])
def test_go_collects_garbage_below_the_memory_limit(flavor: str) -> None:
    def variables(**resources: Any) -> dict[str, str]:
        env = container_of(flavor=flavor, resources=resources).get("env", ())
        return {variable["name"]: variable["value"] for variable in env}

    assert variables()["GOMEMLIMIT"] == str((512 << 20) * 4 // 5)
    assert variables(limits={"memory": "1Gi"})["GOMEMLIMIT"] == str((1 << 30) * 4 // 5)
    assert "GOMEMLIMIT" not in variables(requests={"memory": "1Gi"})
