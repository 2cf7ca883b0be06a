"""A class can expose its users by an Ingress, and the status reports the URL."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from support.inprocess import serving
from support.kubectl import Kubectl
from support.live import ClassOfTest, Live
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.config import Config

pytestmark = [pytest.mark.kwok]


async def create_exposed_user(live: Live, cls: ClassOfTest) -> Unstructured:
    """Create alice, wait until she is exposed, and return her Ingress."""
    await live.create(className=cls.name)
    await live.until_ready()
    await live.until_condition("NetworkReady", "True", "Synced")
    return await ingress(live)


async def ingress(live: Live) -> Unstructured:
    found = await live.child(Kind.INGRESS)
    assert found is not None
    return found


async def url(live: Live, name: str = "alice") -> str:
    found = await live.get(name)
    assert found is not None
    return str(found["status"]["url"])


def inside(live: Live) -> str:
    return f"http://user-storage-alice.{live.namespace}.svc/"


async def test_ingress_routes_to_service_and_status_has_url(live: Live, exposing_class: ClassOfTest, operator: None) -> None:
    annotations = {"example.org/rewrite": "on", "userstorage.dev/user-id": "mallory"}
    await exposing_class.change(ingressClassName="nginx", tlsSecretName="wildcard", annotations=annotations)
    found = await create_exposed_user(live, exposing_class)
    host = f"alice.{live.namespace}.example.org"
    [rule] = found["spec"]["rules"]
    [path] = rule["http"]["paths"]
    assert (rule["host"], path["path"], path["pathType"]) == (host, "/", "Prefix")
    assert path["backend"] == {"service": {"name": "user-storage-alice", "port": {"number": 80}}}
    assert found["spec"]["tls"] == [{"hosts": [host], "secretName": "wildcard"}]
    assert found["spec"]["ingressClassName"] == "nginx"
    assert found["metadata"]["annotations"] == {"example.org/rewrite": "on", "userstorage.dev/user-id": "alice"}
    assert found["metadata"]["labels"]["userstorage.dev/managed-by"] == "userstorage-operator"
    owner = await live.get()
    assert owner is not None
    assert [ref["uid"] for ref in found["metadata"]["ownerReferences"]] == [owner["metadata"]["uid"]]
    assert await url(live) == f"https://{host}/"
    assert owner["status"]["phase"] == "Ready"


async def test_ingress_controller_of_the_host_network_is_admitted_by_addresses_as_the_field_says(
    live: Live, api: Kubectl, exposing_class: ClassOfTest, operator: None
) -> None:
    explained = await asyncio.to_thread(api.run, "explain", "userstorageclass.spec.network.expose")
    text = " ".join(explained.stdout.split())
    assert "controller on the host network has the addresses of its nodes, to which no label applies" in text
    assert "it needs allowedFrom with an `ipBlock`" in text
    gateways = {"namespaceSelector": {"matchLabels": {"userstorage.dev/gateway": "true"}}}
    nodes = {"ipBlock": {"cidr": "192.0.2.0/28"}}
    await create_exposed_user(live, exposing_class)
    assert await allowed_peers(live) == [gateways]
    await exposing_class.change(allowedFrom=[gateways, nodes])

    async def are_admitted() -> bool:
        return await allowed_peers(live) == [gateways, nodes]

    await live.until(are_admitted)


async def allowed_peers(live: Live) -> list[Unstructured]:
    policy = await live.child(Kind.NETWORK_POLICY)
    assert policy is not None
    [rule] = policy["spec"]["ingress"]
    peers: list[Unstructured] = rule["from"]
    return peers


async def test_unchanged_ingress_is_not_written_again(live: Live, exposing_class: ClassOfTest, operator: None) -> None:
    await exposing_class.change(tlsSecretName="wildcard", annotations={"example.org/rewrite": "on"})
    before = await create_exposed_user(live, exposing_class)
    await live.change({"spec": {"lifecycle": {"startTimeout": "9m"}}})  # triggers a full reconcile
    await live.until_ready()
    assert (await ingress(live))["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_ingress_follows_class_changes(live: Live, api: Kubectl, exposing_class: ClassOfTest, operator: None) -> None:
    await exposing_class.change(annotations={"example.org/a": "1", "example.org/b": "2"})
    before = await create_exposed_user(live, exposing_class)
    pod = (await live.pod())["metadata"]["uid"]
    note = ["annotate", "ingress", "user-storage-alice", "controller.example.org/seen=yes", "-n", live.namespace]
    await asyncio.to_thread(api.run, *note)  # not by the operator's client, whose field manager would own the annotation
    await exposing_class.change(hostTemplate="files-${slug}.example.org", annotations={"example.org/b": None})

    async def has_new_url() -> bool:
        return await url(live) == "http://files-alice.example.org/"

    await live.until(has_new_url)
    after = await ingress(live)
    assert after["spec"]["rules"][0]["host"] == "files-alice.example.org"
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    annotations = after["metadata"]["annotations"]
    assert annotations.keys() == {"example.org/a", "controller.example.org/seen", "userstorage.dev/user-id"}
    await exposing_class.change(expose="ClusterIP")

    async def is_closed() -> bool:
        return await live.child(Kind.INGRESS) is None and await url(live) == inside(live)

    await live.until(is_closed)
    await exposing_class.change(expose="Ingress")
    await live.until(has_new_url)
    assert (await live.pod())["metadata"]["uid"] == pod


@pytest.mark.parametrize(
    "damage",
    [
        {"spec": {"rules": [{"host": "evil.example.org"}]}},
        {"spec": {"tls": [{"hosts": ["x.example.org"], "secretName": "other"}]}},
        {"spec": {"defaultBackend": {"service": {"name": "evil", "port": {"number": 1}}}}},
        {"spec": {"rules": [], "defaultBackend": {"service": {"name": "evil", "port": {"number": 1}}}}},
        {"metadata": {"labels": {"userstorage.dev/managed-by": None}}},
        {"metadata": {"annotations": {"example.org/a": "2"}}},
    ],
)
async def test_manually_edited_ingress_is_repaired(
    live: Live, exposing_class: ClassOfTest, operator: None, damage: Unstructured
) -> None:
    await exposing_class.change(annotations={"example.org/a": "1"})
    before = await create_exposed_user(live, exposing_class)
    await live.change_child(Kind.INGRESS, damage)

    def comparable(found: Unstructured) -> tuple[object, ...]:
        return found["spec"], found["metadata"]["labels"], found["metadata"]["annotations"], found["metadata"]["uid"]

    async def is_repaired() -> bool:
        return comparable(await ingress(live)) == comparable(before)

    await live.until(is_repaired)


async def test_deleted_ingress_is_recreated(live: Live, exposing_class: ClassOfTest, operator: None) -> None:
    before = await create_exposed_user(live, exposing_class)
    await live.delete(Kind.INGRESS.resource, "user-storage-alice")

    async def is_recreated() -> bool:
        found = await live.child(Kind.INGRESS)
        return found is not None and found["metadata"]["uid"] != before["metadata"]["uid"]

    await live.until(is_recreated)


@pytest.mark.parametrize("forged", [False, True], ids=["plain", "with our labels"])
async def test_foreign_ingress_is_kept_but_reported_only_while_class_asks_for_ingress(
    live: Live, exposing_class: ClassOfTest, operator: None, forged: bool
) -> None:
    labels = {"userstorage.dev/managed-by": "userstorage-operator"} if forged else {}
    spec = {"defaultBackend": {"service": {"name": "foreign", "port": {"number": 1}}}}
    before = await live.create_object(Kind.INGRESS, "user-storage-alice", spec, labels=labels)
    await live.create(className=exposing_class.name)
    assert "Ingress 'user-storage-alice'" in await live.until_condition("Reconciling", "True", "Retrying")
    await live.until_condition("Ready", "True", "PodReady")
    assert "Ingress" in await live.until_condition("NetworkReady", "False", "Pending")
    alice = await live.get()
    assert alice is not None
    assert (alice["status"]["phase"], alice["status"]["lastError"]["reason"]) == ("Degraded", "NameConflict")
    await exposing_class.change(expose="ClusterIP")
    await live.until_condition("Reconciling", "False", "Done")
    await live.until_condition("NetworkReady", "True", "Synced")
    await live.until_ready()
    now = await ingress(live)
    assert (now["metadata"]["uid"], now["spec"]) == (before["metadata"]["uid"], before["spec"])


async def test_recreated_user_is_served_while_former_ingress_terminates(
    live: Live, exposing_class: ClassOfTest, operator: None
) -> None:
    before = await create_exposed_user(live, exposing_class)
    await live.change_child(Kind.INGRESS, {"metadata": {"finalizers": ["example.org/load-balancer"]}})
    await live.delete(USER_STORAGES, "alice")

    await live.until_gone()
    await live.create(className=exposing_class.name)
    await live.until_condition("Ready", "True", "PodReady")
    await live.until_condition("NetworkReady", "False", "Pending")
    assert "has not been garbage-collected yet" in await live.until_condition("Reconciling", "True", "Retrying")
    assert await live.condition("Stalled") == ("False", "NotStalled")
    held = await ingress(live)
    assert held["metadata"]["uid"] == before["metadata"]["uid"]
    await live.change_child(Kind.INGRESS, {"metadata": {"finalizers": None}})
    await live.until_condition("NetworkReady", "True", "Synced")
    await live.until_ready()
    assert (await ingress(live))["metadata"]["uid"] != before["metadata"]["uid"]


async def test_refused_ingress_does_not_block_pod(live: Live, exposing_class: ClassOfTest, operator: None) -> None:
    await live.set_quota("none", {"count/ingresses.networking.k8s.io": "0"})
    await live.create(className=exposing_class.name)
    await live.until_condition("Ready", "True", "PodReady")
    await live.until_condition("NetworkReady", "False", "Pending")
    found = await live.get()
    assert found is not None
    assert found["status"]["lastError"]["reason"] == "QuotaExceeded"
    assert (found["status"]["phase"], found["status"]["url"]) == ("Degraded", inside(live))
    await live.set_quota("none", {"count/ingresses.networking.k8s.io": "9"})
    await live.until_condition("NetworkReady", "True", "Synced")


async def test_invalid_host_is_reported_with_both_fields(live: Live, exposing_class: ClassOfTest, operator: None) -> None:
    await exposing_class.change(hostTemplate="${slug}-${namespace}-and-more-than-enough-for-one-label.example.org")
    await live.create(className=exposing_class.name, user_id="alice.who.has.a.rather.long.name@example.org")
    message = await live.until_condition("Stalled", "True", "InvalidSpec")
    assert "class spec.network.hostTemplate" in message
    assert "spec.userID 'alice.who.has.a.rather.long.name@example.org'" in message


@pytest.fixture
async def other_tenant(live: Live, api: Kubectl) -> AsyncIterator[Live]:
    """The namespace of another tenant."""
    name = f"other-{uuid.uuid4().hex[:8]}"
    await asyncio.to_thread(api.run, "create", "namespace", name)
    yield Live(live.client, name)
    for raw in (await live.client.list_all(USER_STORAGES, name))[0]:
        await live.client.merge_patch(USER_STORAGES, name, raw["metadata"]["name"], {"metadata": {"finalizers": None}})
    await asyncio.to_thread(api.run, "delete", "namespace", name, "--wait=false")


@pytest.fixture
def operator_of_both(live: Live, other_tenant: Live) -> Iterator[None]:
    with serving(Config(namespaces=(live.namespace, other_tenant.namespace), http_port=0, sweep_period=3600)):
        yield


@pytest.mark.produces("NetworkReady/HostConflict")
async def test_host_has_one_owner_and_next_takes_over(
    live: Live, other_tenant: Live, exposing_class: ClassOfTest, operator_of_both: None
) -> None:
    await exposing_class.change(hostTemplate="${slug}.example.org")
    await create_exposed_user(live, exposing_class)
    await other_tenant.create(className=exposing_class.name)
    message = await other_tenant.until_condition("NetworkReady", "False", "HostConflict")
    assert "'alice.example.org'" in message
    assert live.namespace not in message
    assert await other_tenant.child(Kind.INGRESS) is None
    await other_tenant.until_condition("Ready", "True", "PodReady")
    assert await url(other_tenant) == inside(other_tenant)
    assert await url(live) == "http://alice.example.org/"
    await live.delete(USER_STORAGES, "alice")
    await other_tenant.until_condition("NetworkReady", "True", "Synced")
    assert await url(other_tenant) == "http://alice.example.org/"
    await live.create("again", user_id="alice", className=exposing_class.name)
    await live.until_condition("NetworkReady", "False", "HostConflict", "again")


async def test_simultaneous_users_get_one_host_owner(
    live: Live, other_tenant: Live, exposing_class: ClassOfTest, operator_of_both: None
) -> None:
    await exposing_class.change(hostTemplate="${slug}.example.org")
    await asyncio.gather(live.create(className=exposing_class.name), other_tenant.create(className=exposing_class.name))

    async def settled() -> bool:
        conditions = [await tenant.condition("NetworkReady") for tenant in (live, other_tenant)]
        ingresses = [await tenant.child(Kind.INGRESS) for tenant in (live, other_tenant)]
        return sorted(conditions) == [("False", "HostConflict"), ("True", "Synced")] and ingresses.count(None) == 1

    await live.until(settled)


async def test_host_owner_is_kept_when_older_user_wants_the_host(
    live: Live, other_tenant: Live, exposing_class: ClassOfTest, operator_of_both: None
) -> None:
    await exposing_class.change(hostTemplate="${slug}.example.org")
    await other_tenant.create()
    await other_tenant.until_ready()
    await asyncio.sleep(1)  # creation timestamps have whole seconds
    await create_exposed_user(live, exposing_class)
    await other_tenant.change({"spec": {"className": exposing_class.name}})
    await other_tenant.until_condition("NetworkReady", "False", "HostConflict")
    assert await url(live) == "http://alice.example.org/"
    await exposing_class.change(hostTemplate="${slug}.${namespace}.example.org")

    async def have_separate_urls() -> bool:
        urls = [await url(tenant) for tenant in (live, other_tenant)]
        return urls == [f"http://alice.{tenant.namespace}.example.org/" for tenant in (live, other_tenant)]

    await live.until(have_separate_urls)


SHARED = {"hostTemplate": "files.example.org"}


async def test_users_share_one_host_with_a_path_each(
    live: Live, other_tenant: Live, exposing_class: ClassOfTest, operator_of_both: None
) -> None:
    await live.change_class(exposing_class.name, {"spec": {"browser": {"flavor": "FileBrowser", "basePath": "/u/${slug}/"}}})
    annotations = {"example.org/auth": "https://sso/v1/of/${namespace}/${name}/${slug}?user=${userID}&rd=$request_uri"}
    await exposing_class.change(**SHARED, tlsSecretName="${slug}-tls", annotations=annotations)
    users = {"alice": "alice", "bob": "bob", "carol": "carol@example.org"}
    for name, user_id in users.items():
        created = await live.create(name, user_id=user_id, className=exposing_class.name)
        assert created["spec"]["userID"] == user_id
        await live.until_condition("NetworkReady", "True", "Synced", name)
        slug = (await live.until_ready(name))["status"]["slug"]
        found = await live.client.get(Kind.INGRESS.resource, live.namespace, f"user-storage-{slug}")
        [rule] = found["spec"]["rules"]
        [path] = rule["http"]["paths"]
        assert (rule["host"], path["path"], path["pathType"]) == ("files.example.org", f"/u/{slug}/", "Prefix")
        assert found["spec"]["tls"] == [{"hosts": ["files.example.org"], "secretName": f"{slug}-tls"}]
        encoded = user_id.replace("@", "%40")
        expected = f"https://sso/v1/of/{live.namespace}/{name}/{slug}?user={encoded}&rd=$request_uri"
        assert found["metadata"]["annotations"]["example.org/auth"] == expected
        assert await url(live, name) == f"https://files.example.org/u/{slug}/"
        pod = await live.client.get(Kind.POD.resource, live.namespace, f"user-storage-{slug}")
        [container] = pod["spec"]["containers"]
        assert f"--baseURL=/u/{slug}" in container["args"]
        assert container["livenessProbe"]["httpGet"]["path"] == f"/u/{slug}/health"
        before = found["metadata"]["resourceVersion"]
        await live.change({"spec": {"lifecycle": {"startTimeout": "9m"}}}, name)  # triggers a full reconcile
        await live.until_ready(name)
        found = await live.client.get(Kind.INGRESS.resource, live.namespace, f"user-storage-{slug}")
        assert found["metadata"]["resourceVersion"] == before
    await other_tenant.create("bob", className=exposing_class.name)
    assert "'/u/bob/'" in await other_tenant.until_condition("NetworkReady", "False", "HostConflict", "bob")
    await live.delete(USER_STORAGES, "bob")
    await other_tenant.until_condition("NetworkReady", "True", "Synced", "bob")


@pytest.mark.parametrize("path", ["/", "/u/", "/u/alice/files/"])
async def test_path_above_or_below_that_of_another_user_is_a_conflict(
    live: Live, other_tenant: Live, exposing_class: ClassOfTest, operator_of_both: None, path: str
) -> None:
    await live.change_class(exposing_class.name, {"spec": {"browser": {"flavor": "FileBrowser", "basePath": "/u/${slug}/"}}})
    await exposing_class.change(**SHARED)
    await create_exposed_user(live, exposing_class)
    # With the user id `files` a host per user is the host that the others share.
    rival = ClassOfTest(other_tenant, f"class-{other_tenant.namespace}")
    network = {"expose": "Ingress", "hostTemplate": "${slug}.example.org"}
    await other_tenant.create_class(rival.name, network=network, browser={"basePath": path})
    try:
        await other_tenant.create("files", className=rival.name)
        message = await other_tenant.until_condition("NetworkReady", "False", "HostConflict", "files")
        assert "'files.example.org'" in message
        assert "alice" not in message.replace(path, "")
        await live.create("bob", className=exposing_class.name)
        await live.until_condition("NetworkReady", "True", "Synced", "bob")
        for user in ("alice", "bob"):
            await live.delete(USER_STORAGES, user)
        await other_tenant.until_condition("NetworkReady", "True", "Synced", "files")
        assert await url(other_tenant, "files") == f"http://files.example.org{path}"
        await live.create("carol", className=exposing_class.name)
        if path.startswith("/u/alice/"):
            await live.until_condition("NetworkReady", "True", "Synced", "carol")
        else:
            await live.until_condition("NetworkReady", "False", "HostConflict", "carol")
    finally:
        await other_tenant.delete_class(rival.name)


async def test_user_id_that_no_path_can_hold_is_reported_with_both_fields(
    live: Live, exposing_class: ClassOfTest, operator: None
) -> None:
    await live.change_class(exposing_class.name, {"spec": {"browser": {"basePath": "/u/${userID}/"}}})
    await exposing_class.change(**SHARED)
    await live.create(className=exposing_class.name, user_id="alice@example.org")
    message = await live.until_condition("Stalled", "True", "InvalidSpec")
    assert "class spec.browser.basePath makes '/u/alice%40example.org/' of spec.userID 'alice@example.org'" in message
    await live.change_class(exposing_class.name, {"spec": {"browser": {"flavor": "FileBrowser", "basePath": "/u/${slug}/"}}})
    await live.until_ready()
