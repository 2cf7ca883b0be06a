"""A class can expose its users by an HTTPRoute, and the Gateway API can be installed after the operator starts.

The cluster has no Gateway controller: the tests write the route status that a controller would write.
"""

import asyncio
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from localcluster import gatewayapi
from localcluster.errors import ClusterError
from support.kubectl import Kubectl
from support.live import ClassOfTest, Live
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.informers import informer

pytestmark = [pytest.mark.kwok]

GATEWAYS = "crd/gateways.gateway.networking.k8s.io"
CRD = "crd/httproutes.gateway.networking.k8s.io"


@pytest.fixture(scope="module")
def definition() -> Path:
    """The path of the manifest with the HTTPRoute CRD."""
    try:
        return gatewayapi.definition("httproutes")
    except ClusterError as error:
        pytest.skip(str(error))


def install_gateway_api(api: Kubectl, definition: Path) -> None:
    """Install the HTTPRoute CRD and wait until it is served."""
    api.run("apply", "--server-side", "-f", str(definition))
    api.wait_established(CRD)


@pytest.fixture(scope="module")
def gateway_api(api: Kubectl, definition: Path) -> Iterator[None]:
    """The HTTPRoute CRD, installed until the end of this module."""
    install_gateway_api(api, definition)
    yield
    api.run("delete", CRD)


@pytest.fixture
def without_gateway_api(api: Kubectl) -> None:
    """A cluster without the HTTPRoute CRD, which an earlier test or an earlier try of this test may have left."""
    api.run("delete", CRD, "--ignore-not-found")


@pytest.fixture
async def through_gateway(exposing_class: ClassOfTest) -> ClassOfTest:
    await exposing_class.change(expose="Gateway", gateway={"name": "public"})
    return exposing_class


@pytest.fixture
def frequent_crd_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the operator check for a missing CRD every second instead of every minute."""
    monkeypatch.setattr(informer, "_ABSENT_RETRY", 1.0)


def inside(live: Live) -> str:
    return f"http://user-storage-alice.{live.namespace}.svc/"


def outside(live: Live, scheme: str = "http") -> str:
    return f"{scheme}://alice.{live.namespace}.example.org/"


async def status_field(live: Live, field: str) -> str:
    found = await live.get()
    assert found is not None
    return str(found["status"][field])


async def set_route_conditions(live: Live, *conditions: tuple[str, str, str], gateway: str = "public") -> None:
    """Write the conditions into the HTTPRoute's status, as a Gateway controller does."""
    route = await live.child(Kind.HTTP_ROUTE)
    assert route is not None
    meta = {"observedGeneration": route["metadata"]["generation"], "lastTransitionTime": "2026-01-31T12:00:00Z"}
    entries = [
        {"type": kind, "status": status, "reason": reason, "message": f"message: {reason}", **meta}
        for kind, status, reason in conditions
    ]
    parent = {"parentRef": {"name": gateway}, "controllerName": "example.org/gateway", "conditions": entries}
    patch = {"status": {"parents": [parent]}}
    await live.client.merge_patch(Kind.HTTP_ROUTE.resource, live.namespace, "user-storage-alice", patch, "status")


ACCEPTED = (("Accepted", "True", "Accepted"), ("ResolvedRefs", "True", "ResolvedRefs"))


async def create_accepted_route(live: Live, cls: ClassOfTest) -> Unstructured:
    """Create alice, let the Gateway accept her HTTPRoute, and return the route."""
    await live.create(className=cls.name)
    await live.until_condition("NetworkReady", "False", "RoutePending")
    await set_route_conditions(live, *ACCEPTED)
    await live.until_condition("NetworkReady", "True", "Synced")
    await live.until_ready()
    route = await live.child(Kind.HTTP_ROUTE)
    assert route is not None
    return route


@pytest.mark.produces("NetworkReady/GatewayAPIMissing", "NetworkReady/RoutePending")
async def test_missing_gateway_api_is_reported_until_it_is_installed(  # first in this module: the next tests need the CRD from the start
    live: Live,
    api: Kubectl,
    definition: Path,
    through_gateway: ClassOfTest,
    frequent_crd_checks: None,
    without_gateway_api: None,
    operator: None,
) -> None:
    await live.create(className=through_gateway.name)
    assert "not installed" in await live.until_condition("NetworkReady", "False", "GatewayAPIMissing")
    await live.until_ready()
    assert (await status_field(live, "phase"), await status_field(live, "url")) == ("Degraded", inside(live))
    await asyncio.to_thread(install_gateway_api, api, definition)
    await live.until_condition("NetworkReady", "False", "RoutePending")
    await set_route_conditions(live, *ACCEPTED)
    await live.until_condition("NetworkReady", "True", "Synced")
    assert await status_field(live, "url") == outside(live)


@pytest.mark.produces("NetworkReady/RouteNotAccepted")
async def test_url_is_external_once_gateway_accepts_route(
    live: Live, gateway_api: None, through_gateway: ClassOfTest, operator: None
) -> None:
    await through_gateway.change(tlsSecretName="wildcard", annotations={"example.org/a": "1"})
    await live.create(className=through_gateway.name)
    assert "'public'" in await live.until_condition("NetworkReady", "False", "RoutePending")
    await live.until_condition("Ready", "True", "PodReady")
    assert await status_field(live, "url") == inside(live)
    route = await live.child(Kind.HTTP_ROUTE)
    assert route is not None
    assert route["metadata"]["annotations"] == {"example.org/a": "1", "userstorage.dev/user-id": "alice"}
    [parent] = route["spec"]["parentRefs"]
    assert (parent["kind"], parent["name"]) == ("Gateway", "public")
    assert route["spec"]["hostnames"] == [f"alice.{live.namespace}.example.org"]
    [rule] = route["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    assert [(to["name"], to["port"]) for to in rule["backendRefs"]] == [("user-storage-alice", 80)]
    await set_route_conditions(live, *ACCEPTED, gateway="another")
    await set_route_conditions(live, ("Accepted", "False", "NotAllowedByListeners"))
    message = await live.until_condition("NetworkReady", "False", "RouteNotAccepted")
    assert "message: NotAllowedByListeners" in message
    assert (await status_field(live, "phase"), await status_field(live, "url")) == ("Degraded", inside(live))
    await set_route_conditions(live, ("Accepted", "True", "Accepted"), ("ResolvedRefs", "False", "BackendNotFound"))

    async def is_unresolved() -> bool:
        found = await live.get()
        assert found is not None
        return "BackendNotFound" in str(found["status"]["conditions"])

    await live.until(is_unresolved)
    await set_route_conditions(live, *ACCEPTED)
    await live.until_condition("NetworkReady", "True", "Synced")
    assert (await status_field(live, "phase"), await status_field(live, "url")) == ("Ready", outside(live, "https"))


async def test_unchanged_route_is_not_written_again(
    live: Live, gateway_api: None, through_gateway: ClassOfTest, operator: None
) -> None:
    before = await create_accepted_route(live, through_gateway)
    await live.change({"spec": {"lifecycle": {"startTimeout": "9m"}}})  # triggers a full reconcile
    await live.until_ready()
    after = await live.child(Kind.HTTP_ROUTE)
    assert after is not None
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


@pytest.mark.parametrize(
    "damage",
    [
        {"spec": {"hostnames": ["evil.example.org"]}},
        {"spec": {"hostnames": None}},
        {"spec": {"parentRefs": [{"name": "other"}]}},
        {"spec": {"rules": [{"backendRefs": [{"name": "evil", "port": 80}]}]}},
        {"metadata": {"labels": {"userstorage.dev/managed-by": None}}},
    ],
)
async def test_manually_edited_route_is_repaired(
    live: Live, gateway_api: None, through_gateway: ClassOfTest, operator: None, damage: Unstructured
) -> None:
    before = await create_accepted_route(live, through_gateway)
    await live.change_child(Kind.HTTP_ROUTE, damage)

    async def is_repaired() -> bool:
        now = await live.child(Kind.HTTP_ROUTE)
        assert now is not None
        return (now["spec"], now["metadata"]["labels"]) == (before["spec"], before["metadata"]["labels"])

    await live.until(is_repaired)
    await set_route_conditions(live, *ACCEPTED)
    await live.until_condition("NetworkReady", "True", "Synced")


async def test_switch_to_ingress_deletes_route(
    live: Live, gateway_api: None, through_gateway: ClassOfTest, operator: None
) -> None:
    await create_accepted_route(live, through_gateway)
    await through_gateway.change(expose="Ingress")
    await live.until(lambda: live.child(Kind.INGRESS))

    async def is_deleted() -> bool:
        return await live.child(Kind.HTTP_ROUTE) is None

    await live.until(is_deleted)
    await live.until_condition("NetworkReady", "True", "Synced")
    assert await status_field(live, "url") == outside(live)


async def test_foreign_route_is_kept(live: Live, gateway_api: None, through_gateway: ClassOfTest, operator: None) -> None:
    before = await live.create_object(Kind.HTTP_ROUTE, "user-storage-alice", {"hostnames": ["foreign.example.org"]})
    await live.create(className=through_gateway.name)
    assert "HTTPRoute 'user-storage-alice'" in await live.until_condition("Reconciling", "True", "Retrying")
    await live.until_condition("Ready", "True", "PodReady")
    now = await live.child(Kind.HTTP_ROUTE)
    assert now is not None
    assert (now["metadata"]["uid"], now["spec"]) == (before["metadata"]["uid"], before["spec"])


@dataclass(frozen=True)
class SharedGateway:
    """A Gateway in a namespace of its own, with a listener for HTTP and one for HTTPS, and what its controller would do."""

    api: Kubectl
    namespace: str

    def read(self) -> Unstructured:
        found = self.api.get("gateway", "public", self.namespace)
        assert found is not None
        return found

    def admit(self, listener: str, whom: str) -> None:
        """Let the listener admit routes of these namespaces: Same or All."""
        listeners = self.read()["spec"]["listeners"]
        [found] = [entry for entry in listeners if entry["name"] == listener]
        found["allowedRoutes"] = {"namespaces": {"from": whom}}
        patch = json.dumps({"spec": {"listeners": listeners}})
        self.api.run("patch", "gateway", "public", "-n", self.namespace, "--type=merge", f"--patch={patch}")

    async def answer(self, live: Live, user: str) -> list[str]:
        """Write the status of the user's HTTPRoute. Return the names of the listeners that it is attached to."""
        route = await live.client.get(Kind.HTTP_ROUTE.resource, live.namespace, f"user-storage-{user}")
        attached: list[str] = []
        parents = []
        for ref in route["spec"]["parentRefs"]:
            assert (ref["group"], ref["kind"], ref["namespace"]) == ("gateway.networking.k8s.io", "Gateway", self.namespace)
            named = [entry for entry in self.read()["spec"]["listeners"] if ref.get("sectionName") in (None, entry["name"])]
            admitting = [entry["name"] for entry in named if entry["allowedRoutes"]["namespaces"]["from"] == "All"]
            attached += admitting
            reason = "Accepted" if admitting else "NotAllowedByListeners" if named else "NoMatchingParent"
            meta = {"observedGeneration": route["metadata"]["generation"], "lastTransitionTime": "2026-01-31T12:00:00Z"}
            accepted = {
                "type": "Accepted",
                "status": str(bool(admitting)),
                "reason": reason,
                "message": f"message: {reason}",
                **meta,
            }
            parents.append({"parentRef": ref, "controllerName": "example.org/gateway", "conditions": [accepted]})
        patch = {"status": {"parents": parents}}
        await live.client.merge_patch(Kind.HTTP_ROUTE.resource, live.namespace, f"user-storage-{user}", patch, "status")
        return attached


@pytest.fixture
def shared_gateway(api: Kubectl, gateway_api: None) -> Iterator[SharedGateway]:
    api.run("apply", "--server-side", "-f", str(gatewayapi.definition("gateways")))
    api.wait_established(GATEWAYS)
    name = f"infra-{uuid.uuid4().hex[:8]}"
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    certificate = {"certificateRefs": [{"name": "wildcard"}]}
    listeners = [
        {"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}},
        {
            "name": "https",
            "port": 443,
            "protocol": "HTTPS",
            "tls": certificate,
            "allowedRoutes": {"namespaces": {"from": "Same"}},
        },
    ]
    spec = {"gatewayClassName": "example", "listeners": listeners}
    metadata = {"name": "public", "namespace": name}
    api.apply({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": metadata, "spec": spec})
    yield SharedGateway(api, name)
    api.delete("namespace", name)
    api.run("delete", GATEWAYS)


def test_example_of_a_gateway_is_admitted(shared_gateway: SharedGateway) -> None:
    example = (Path(__file__).resolve().parents[2] / "examples/gateway.yaml").read_text()
    elsewhere = example.replace("namespace: infra", f"namespace: {shared_gateway.namespace}").replace("name: public", "name: b")
    shared_gateway.api.run("create", "--dry-run=server", "--validate=strict", "-f", "-", input=elsewhere)


async def test_users_of_one_gateway_elsewhere_attach_to_its_https_listener_only(
    live: Live, shared_gateway: SharedGateway, exposing_class: ClassOfTest, operator: None
) -> None:
    parent = {"name": "public", "namespace": shared_gateway.namespace, "sectionName": "https"}
    await exposing_class.change(expose="Gateway", gateway=parent, tlsSecretName="of-the-listener")
    users = ("alice", "bob")
    for user in users:
        await live.create(user, className=exposing_class.name)
        message = await live.until_condition("NetworkReady", "False", "RoutePending", user)
        assert f"Gateway 'public' of namespace {shared_gateway.namespace!r}, listener 'https'" in message
        assert await shared_gateway.answer(live, user) == []
        message = await live.until_condition("NetworkReady", "False", "RouteNotAccepted", user)
        assert "message: NotAllowedByListeners" in message
        assert f"must allow HTTPRoutes of namespace {live.namespace!r}" in message
    await asyncio.to_thread(shared_gateway.admit, "https", "All")
    for user in users:
        assert await shared_gateway.answer(live, user) == ["https"]
        await live.until_condition("NetworkReady", "True", "Synced", user)
        found = await live.until_ready(user)
        assert found["status"]["url"] == f"https://{user}.{live.namespace}.example.org/"
        await live.change({"spec": {"lifecycle": {"startTimeout": "9m"}}}, user)  # triggers a full reconcile
        await live.until_ready(user)
        route = await live.client.get(Kind.HTTP_ROUTE.resource, live.namespace, f"user-storage-{user}")
        assert route["metadata"]["generation"] == 1, "what the API server stores is what the operator asked for"
    await exposing_class.change(gateway={"sectionName": "none"})

    async def has_new_parent() -> bool:
        route = await live.child(Kind.HTTP_ROUTE)
        return route is not None and route["spec"]["parentRefs"][0]["sectionName"] == "none"

    await live.until(has_new_parent)
    assert await shared_gateway.answer(live, "alice") == []
    message = await live.until_condition("NetworkReady", "False", "RouteNotAccepted")
    assert "network.gateway.sectionName of the class must be the name of a listener" in message
