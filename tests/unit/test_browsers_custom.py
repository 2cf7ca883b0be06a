"""Custom: an unknown image runs with the given command and variables; unsupported guarantees are refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import class_object, desired_of, storage_object
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.userstorageclass import UserStorageClass

OPEN = {"mode": "None", "acknowledgeUnauthenticated": True}


def pod_spec(user_id: str = "alice", auth: dict[str, Any] | None = None, **browser: Any) -> Any:
    fields = {"flavor": "Custom", "image": "registry.example.org/files:1", **browser}
    cls = UserStorageClass.parse(class_object(browser=fields, auth=auth or OPEN))
    return desired_of(storage_object(user_id), cls).pod["spec"]


def container(**browser: Any) -> Any:
    [found] = pod_spec(**browser)["containers"]
    return found


def test_program_is_run_as_given_with_its_variables() -> None:
    found = container(
        command=["/bin/files"],
        args=["$(USERSTORAGE_ROOT)"],
        env=[{"name": "PORT", "value": "$(USERSTORAGE_PORT)"}],
        port=9090,
    )
    assert (found["image"], found["command"], found["args"]) == (
        "registry.example.org/files:1",
        ["/bin/files"],
        ["$(USERSTORAGE_ROOT)"],
    )
    assert found["env"] == [
        {"name": "USERSTORAGE_ROOT", "value": "/srv"},
        {"name": "USERSTORAGE_PORT", "value": "9090"},
        {"name": "USERSTORAGE_BASE_PATH", "value": "/"},
        {"name": "PORT", "value": "$(USERSTORAGE_PORT)"},
    ]
    assert [mount["mountPath"] for mount in found["volumeMounts"]] == ["/srv", "/tmp"]  # noqa: S108  # in the pod
    assert container()["command"] == [], "the image's own"


def test_page_is_probed_for_start_and_readiness_but_not_liveness() -> None:
    found = container(basePath="/${slug}/")
    assert found["startupProbe"]["httpGet"]["path"] == "/alice/"
    assert found["readinessProbe"]["httpGet"]["path"] == "/alice/"
    assert found["livenessProbe"]["tcpSocket"] == {"port": 8080}


def test_health_path_serves_all_three_probes() -> None:
    found = container(healthPath="/healthz")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert found[probe]["httpGet"]["path"] == "/healthz"


@pytest.mark.parametrize("name", ["create", "modify", "rename", "delete", "download", "share"])
def test_unenforceable_permission_is_refused(name: str) -> None:
    with pytest.raises(InvalidSpec, match=rf"class spec\.browser\.permissions\.{name}: flavor Custom"):
        pod_spec(permissions={name: name == "share"})


def test_image_and_auth_mode_refused_by_schema_are_refused_by_operator() -> None:
    with pytest.raises(InvalidSpec, match=r"class spec\.browser\.image"):
        pod_spec(image=None)
    with pytest.raises(InvalidSpec, match=r"class spec\.auth\.mode"):
        pod_spec(auth={"mode": "ProxyHeader"})


@given(
    user_id=st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._@+-]{0,126}[A-Za-z0-9])?", fullmatch=True),
    template=st.lists(st.sampled_from(["${namespace}", "${slug}", "files", "~a.b"]), max_size=4),
)
def test_no_user_id_adds_or_removes_segments_of_the_base_path(user_id: str, template: list[str]) -> None:
    variables = container(user_id=user_id, basePath="".join(f"/{part}" for part in template) + "/")["env"]
    [path] = [variable["value"] for variable in variables if variable["name"] == "USERSTORAGE_BASE_PATH"]
    parts = path.split("/")
    assert (parts[0], parts[-1], len(parts)) == ("", "", len(template) + 2)
    assert not {"", "..", "."} & set(parts[1:-1])
    assert "$" not in path
