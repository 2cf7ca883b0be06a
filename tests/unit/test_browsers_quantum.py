"""Quantum: the configuration for its two major versions, by its documentation. These tests do not run the program."""

import json
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import class_object, desired_of, storage_object
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.userstorageclass import UserStorageClass

OPEN = {"mode": "None", "acknowledgeUnauthenticated": True}
DIGEST = "@sha256:" + "0" * 64
ONE, TWO = "gtstef/filebrowser:1.5.6-stable", "gtstef/filebrowser:2.0.0-stable"


def pod_spec(auth: dict[str, Any] | None = None, storage: dict[str, Any] | None = None, **browser: Any) -> Any:
    cls = UserStorageClass.parse(class_object(browser={"flavor": "Quantum", **browser}, auth=auth or {}))
    return desired_of(storage_object(storage=storage or {}), cls).pod["spec"]


def written_config(spec: Any, directory: Path) -> Any:
    """Run the command of the init container with `directory` as scratch space and return the configuration it writes."""
    [init] = spec["initContainers"]
    command = [part.replace("/database", str(directory)) for part in init["command"]]
    subprocess.run(command, check=True)
    return json.loads((directory / "config.yaml").read_text())


def variables(spec: Any) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in spec["containers"][0]["env"]}


def test_config_has_the_setting_names_of_release_1(tmp_path: Path) -> None:
    spec = pod_spec(image=ONE, basePath="/u/${namespace}/${slug}/", port=9090)
    assert variables(spec) == {
        "FILEBROWSER_CONFIG": "/database/config.yaml",
        "FILEBROWSER_DATABASE": "/database/quantum.db",
        "GOMEMLIMIT": "429496729",
    }
    config = written_config(spec, tmp_path)
    name, password = config["auth"].pop("adminUsername"), config["auth"].pop("adminPassword")
    assert uuid.UUID(name) != uuid.UUID(password)
    assert config == {
        "server": {
            "port": 9090,
            "baseURL": "/u/users/alice/",
            "sources": [
                {
                    "path": "/owners",
                    "name": "files",
                    "config": {"defaultEnabled": True, "private": True, "createUserDir": True},
                }
            ],
            "cacheDir": "/tmp/cache",  # noqa: S108  # in the pod
            "disablePreviews": True,
            "maxArchiveSize": 1,
            "disableUpdateCheck": True,
        },
        "auth": {
            "methods": {
                "password": {"enabled": False},
                "proxy": {"enabled": True, "header": "X-Forwarded-User", "createUser": True},
            }
        },
        "userDefaults": {
            "permissions": {
                "create": True,
                "modify": True,
                "delete": True,
                "download": True,
                "share": False,
                "admin": False,
                "api": False,
                "realtime": False,
            }
        },
    }


def test_config_has_the_setting_names_of_release_2(tmp_path: Path) -> None:
    spec = pod_spec(image=TWO, permissions={"share": True, "delete": False})
    assert variables(spec) == {
        "FILEBROWSER_CONFIG": "/database/config.yaml",
        "FILEBROWSER_DATABASE_PATH": "/database/quantum.db",
        "GOMEMLIMIT": "429496729",
    }
    config = written_config(spec, tmp_path)
    assert config["http"] == {"port": 8080, "baseURL": "/"}
    assert not {"port", "baseURL", "database"} & config["server"].keys()
    [source] = config["server"]["sources"]
    assert source["config"] == {
        "defaultEnabled": True,
        "private": False,
        "createUserDir": True,
        "defaultPermissions": {"view": True, "create": True, "modify": True, "delete": False, "download": True},
    }
    assert "createUser" not in config["auth"]["methods"]["proxy"]
    account = {"admin": False, "api": False, "share": True, "realtime": False}
    assert config["userDefaults"] == {"account": {"permissions": account}}


def test_administrator_name_is_random_and_not_in_the_pod(tmp_path: Path) -> None:
    assert pod_spec() == pod_spec()
    names = {written_config(pod_spec(), tmp_path)["auth"]["adminUsername"] for _ in range(3)}
    assert len(names) == 3
    assert not {name for name in names if name in json.dumps(pod_spec())}


def test_state_of_earlier_run_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "quantum.db").write_text("of another administrator")
    written_config(pod_spec(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_read_only_storage_permits_only_download(tmp_path: Path) -> None:
    config = written_config(pod_spec(storage={"readOnly": True}), tmp_path)
    assert config["server"]["sources"][0]["config"]["readOnly"] is True
    allowed = {name for name, value in config["userDefaults"]["permissions"].items() if value}
    assert allowed == {"download"}


def test_health_is_probed_below_base_path_and_readiness_lists_volume() -> None:
    [container] = pod_spec(basePath="/${slug}/")["containers"]
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] == "/alice/health"
    ready = container["readinessProbe"]["exec"]["command"][-1]
    assert "find /srv/ " in ready
    assert ready.endswith("http://127.0.0.1:8080/alice/health")
    assert container["resources"]["limits"]["memory"] == "512Mi"


@given(
    registry=st.sampled_from(["", "docker.io/", "localhost:5000/", "r.example.org:1/a-2.0/"]),
    v=st.sampled_from(["", "v"]),
    major=st.sampled_from([1, 2]),
    rest=st.from_regex(r"([.-][a-z0-9.-]{0,8})?", fullmatch=True),
    digest=st.sampled_from(["", DIGEST]),
)
def test_major_version_is_read_from_any_tag(registry: str, v: str, major: int, rest: str, digest: str) -> None:
    names = variables(pod_spec(image=f"{registry}filebrowser:{v}{major}{rest}{digest}"))
    assert ("FILEBROWSER_DATABASE" in names, "FILEBROWSER_DATABASE_PATH" in names) == (major == 1, major == 2)


@pytest.mark.parametrize(
    "image",
    ["a/b", "a/b:stable", "a/b:latest", "a/b:beta-slim", "a/b" + DIGEST, "r:1/a/b", "a/b:3.0.0", "a/b:12-stable", "a/b:1x"],
)
def test_image_without_major_version_is_refused(image: str) -> None:
    with pytest.raises(InvalidSpec, match=r"class spec\.browser\.image: flavor Quantum .* major version"):
        pod_spec(image=image)


def test_withholding_rename_without_modify_is_refused() -> None:
    with pytest.raises(InvalidSpec, match=r"class spec\.browser\.permissions\.rename: flavor Quantum"):
        pod_spec(permissions={"rename": False})
    pod_spec(permissions={"rename": False, "modify": False})


@pytest.mark.parametrize("name", ["create", "delete", "download"])
def test_class_without_login_that_withholds_a_permission_is_refused(name: str) -> None:
    with pytest.raises(InvalidSpec, match=rf"class spec\.browser\.permissions\.{name}: flavor Quantum .* administrator"):
        pod_spec(OPEN, permissions={name: False})


def test_without_login_password_login_is_disabled(tmp_path: Path) -> None:
    config = written_config(pod_spec(OPEN), tmp_path)
    assert config["auth"]["methods"] == {"noauth": True, "password": {"enabled": False}}
    assert uuid.UUID(config["auth"]["adminPassword"])
    assert config["server"]["sources"][0]["config"]["private"] is True, "or every administrator could share"


def test_environment_variable_of_class_replaces_that_of_flavor() -> None:
    env = [{"name": "FILEBROWSER_DATABASE", "value": "/tmp/x.db"}, {"name": "TZ", "value": "UTC"}]  # noqa: S108
    spec = pod_spec(image=ONE, env=env)
    [config, limit, *rest] = spec["containers"][0]["env"]
    assert config == {"name": "FILEBROWSER_CONFIG", "value": "/database/config.yaml"}
    assert limit["name"] == "GOMEMLIMIT"
    assert rest == env


def owner_mounts(user_id: str, **spec: Any) -> list[str]:
    cls = UserStorageClass.parse(class_object(browser={"flavor": "Quantum"}, **spec))
    [container] = desired_of(storage_object(user_id, storage={"readOnly": True}), cls).pod["spec"]["containers"]
    mounts = [mount for mount in container["volumeMounts"] if mount["name"] == "files"]
    assert all(mount["readOnly"] for mount in mounts)
    return [mount["mountPath"] for mount in mounts]


@pytest.mark.parametrize("user_id", ["alice", "alice@example.org", "CORP\\alice", "alice smith", "auth0|5f7c"])
def test_files_are_in_a_directory_of_the_owner(user_id: str) -> None:
    assert owner_mounts(user_id) == ["/srv", f"/owners/{user_id}"]
    assert owner_mounts(user_id, auth=OPEN) == ["/srv"], "every visitor has the files"


@pytest.mark.parametrize("user_id", ["f:1b2c:alice", "https://idp.example.org/u/1", "a/b", "..", ".", "-", "a..b", "../etc"])
def test_user_id_that_is_no_name_of_a_directory_gets_none(user_id: str) -> None:
    assert owner_mounts(user_id) == ["/srv"]
