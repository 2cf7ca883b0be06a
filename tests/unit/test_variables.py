"""Variables in fields of a class, each expanded in the form that its place can hold."""

from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import class_object, desired_of, dufs_class, storage_object
from userstorage_operator import browsers
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import Flavor, UserStorageClass
from userstorage_operator.api.variables import annotations, base_path, health_path

USER_IDS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=60)
HOST = {"expose": "Ingress", "hostTemplate": "files.example.org"}
EVERY = "/${namespace}/${name}/${slug}/${userID}/"


def storage(user_id: str = "alice", name: str = "of-alice") -> UserStorage:
    return UserStorage.parse(storage_object(user_id, meta={"name": name}))


def cls(network: dict[str, Any] | None = None, **browser: Any) -> UserStorageClass:
    return UserStorageClass.parse(class_object(network=HOST | (network or {}), browser={"basePath": "/u/${slug}/"} | browser))


def test_every_variable_expands_in_path_and_annotation() -> None:
    assert base_path(storage(), cls(basePath=EVERY)) == "/users/of-alice/alice/alice/"
    assert health_path(storage(), cls(healthPath="/u/${slug}/health")) == "/u/alice/health"
    assert annotations(storage(), cls({"annotations": {"a": EVERY}})) == {"a": "/users/of-alice/alice/alice/"}


@given(USER_IDS)
def test_user_id_is_percent_encoded_in_annotations(user_id: str) -> None:
    found = annotations(storage(user_id), cls({"annotations": {"a": '"${userID}"; $request_uri ${slug}'}}))["a"]
    encoded = found.removeprefix('"').partition('"')[0]
    assert unquote(encoded) == user_id
    assert not set(encoded) - set("%ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
    assert found == f'"{encoded}"; $request_uri {storage(user_id).slug}'


@given(USER_IDS)
def test_path_of_user_id_is_the_user_id_or_refused(user_id: str) -> None:
    wanted = cls(basePath="/u/${userID}/")
    if user_id in (".", "..") or set(user_id) & set(" !\"#$%&'()*+,/:;<=>?@[\\]^`{|}"):
        with pytest.raises(InvalidSpec, match=r"class spec\.browser\.basePath"):
            base_path(storage(user_id), wanted)
    else:
        assert base_path(storage(user_id), wanted) == f"/u/{user_id}/"


@pytest.mark.parametrize("user_id", ["alice@example.org", "a/b", "..", "CORP\\alice", "alice smith"])
def test_path_that_programs_compare_differently_is_refused_with_both_fields(user_id: str) -> None:
    with pytest.raises(InvalidSpec, match=r"class spec.browser.basePath .* spec.userID"):
        desired_of(storage_object(user_id), cls(basePath="/u/${userID}/"))
    assert base_path(storage(user_id), cls()) == f"/u/{storage(user_id).slug}/"


def test_long_path_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="at most 1024 characters"):
        base_path(storage("a" * 50), cls(basePath="/" + "${slug}/" * 25))


@pytest.mark.parametrize("template", ["${user}", "${}", "${slug", "${na${slug}me}", "${slug }"])
def test_unknown_variable_is_refused_by_name_of_field(template: str) -> None:
    classes = {
        "browser.basePath": cls(basePath=f"/{template}/"),
        "browser.healthPath": cls(healthPath=f"/{template}"),
        "network.hostTemplate": cls({"hostTemplate": f"{template}.example.org"}),
        "network.tlsSecretName": cls({"tlsSecretName": template}),
        r"network.annotations\[a\]": cls({"annotations": {"a": template}}),
    }
    for field, refused in classes.items():
        with pytest.raises(InvalidSpec, match=rf"class spec\.{field}: unknown variable .* known are \$\{{slug\}}"):
            desired_of(storage_object(), refused)


@pytest.mark.parametrize("field", ["hostTemplate", "tlsSecretName"])
def test_raw_user_id_is_unknown_in_dns_names(field: str) -> None:
    with pytest.raises(InvalidSpec, match=rf"class spec\.network\.{field}: unknown variable"):
        desired_of(storage_object(), cls({field: "${userID}"}))


@pytest.mark.parametrize("template", ["/u", "u/", "/u//", "/../", "/u/./", "/ü/", "/u?/"])
def test_invalid_base_path_is_refused(template: str) -> None:
    with pytest.raises(InvalidSpec, match=r"class spec\.browser\.basePath"):
        base_path(storage(), cls(basePath=template))


@pytest.mark.parametrize("template", ["-tls", "A", "${slug}_tls", "a..b", "${name}." * 30 + "x"])
def test_invalid_name_of_secret_is_refused(template: str) -> None:
    with pytest.raises(InvalidSpec, match=r"class spec\.network\.tlsSecretName"):
        desired_of(storage_object(meta={"name": "a" * 20}), cls({"tlsSecretName": template}))


def test_tls_secret_is_one_per_user() -> None:
    ingress = desired_of(storage_object("alice"), cls({"tlsSecretName": "${slug}-tls"})).ingress
    assert ingress is not None
    assert ingress["spec"]["tls"] == [{"hosts": ["files.example.org"], "secretName": "alice-tls"}]


@pytest.mark.parametrize("flavor", Flavor)
def test_every_probe_of_every_flavor_is_below_the_path_of_the_user(flavor: Flavor) -> None:
    browser = {"flavor": flavor, "basePath": "/u/${slug}/", "image": "example.org/image:1.5"}
    open_ = {"mode": "None", "acknowledgeUnauthenticated": True}
    found = browsers.render(storage(), UserStorageClass.parse(class_object(browser=browser, auth=open_)))
    probes = (found.startup_probe, found.readiness_probe, found.liveness_probe)
    paths = [str(probe.get("httpGet") or probe.get("exec")) for probe in probes if "tcpSocket" not in probe]
    assert paths
    assert all("/u/alice/" in path for path in paths)
    settings = str((found.args, found.env, found.init_command))
    assert "/u/alice" in settings


def test_health_path_of_the_class_may_have_the_path_of_the_user() -> None:
    wanted = dufs_class(browser={"flavor": "Dufs", "basePath": "/u/${slug}/", "healthPath": "/u/${slug}/x"})
    assert browsers.render(storage(), wanted).liveness_probe["httpGet"]["path"] == "/u/alice/x"


@pytest.mark.parametrize("name", ["Authorization", "cookie", "HOST", "Proxy-Authorization", "content-length"])
def test_header_of_http_or_of_logins_is_refused(name: str) -> None:
    with pytest.raises(InvalidSpec, match=r"class spec\.auth\.headerName"):
        UserStorageClass.parse(class_object(auth={"headerName": name}))
    assert UserStorageClass.parse(class_object(auth={"headerName": f"X-{name}"})).auth_header == f"X-{name}"
