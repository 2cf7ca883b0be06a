"""An HTTPRoute leads in where the class says so; the Gateway API may come later than the operator.

There is no Gateway controller here: the tests write the status that one would write.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster.errors import ClusterError
from localcluster.gatewayapi import http_route_definition
from support.kubectl import Kubectl
from support.live import ClassOfTest, Live
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.informers import informer

pytestmark = [pytest.mark.kwok]

CRD = "crd/httproutes.gateway.networking.k8s.io"


@pytest.fixture(scope="module")
def definition() -> Path:
    """The file that defines HTTPRoutes."""
    try:
        return http_route_definition()
    except ClusterError as error:
        pytest.skip(str(error))


def install(api: Kubectl, definition: Path) -> None:
    """Have the cluster serve HTTPRoutes."""
    api.run("apply", "--server-side", "-f", str(definition))
    api.wait_established(CRD)


@pytest.fixture(scope="module")
def gateway_api(api: Kubectl, definition: Path) -> Iterator[None]:
    """The cluster serves HTTPRoutes, until the end of this module."""
    install(api, definition)
    yield
    api.run("delete", CRD)


@pytest.fixture
def without_gateway_api(api: Kubectl) -> None:
    """As a cluster is at first: whoever ran before, this test itself perhaps, may have left the definition."""
    api.run("delete", CRD, "--ignore-not-found")


@pytest.fixture
async def through_gateway(exposing: ClassOfTest) -> ClassOfTest:
    await exposing.change(expose="Gateway", gatewayName="public")
    return exposing


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for what is not installed more often than once a minute."""
    monkeypatch.setattr(informer, "_ABSENT_RETRY", 1.0)


def inside(live: Live) -> str:
    return f"http://user-storage-alice.{live.namespace}.svc/"


def outside(live: Live, scheme: str = "http") -> str:
    return f"{scheme}://alice.{live.namespace}.example.org/"


async def told(live: Live, field: str) -> str:
    found = await live.get()
    assert found is not None
    return str(found["status"][field])


async def answer(live: Live, *conditions: tuple[str, str, str], gateway: str = "public") -> None:
    """Say of the HTTPRoute what a Gateway's controller says."""
    route = await live.child(Kind.HTTP_ROUTE)
    assert route is not None
    meta = {"observedGeneration": route["metadata"]["generation"], "lastTransitionTime": "2026-01-31T12:00:00Z"}
    said = [
        {"type": kind, "status": status, "reason": reason, "message": f"in words: {reason}", **meta}
        for kind, status, reason in conditions
    ]
    parent = {"parentRef": {"name": gateway}, "controllerName": "example.org/gateway", "conditions": said}
    patch = {"status": {"parents": [parent]}}
    await live.client.merge_patch(Kind.HTTP_ROUTE.resource, live.namespace, "user-storage-alice", patch, "status")


ACCEPTED = (("Accepted", "True", "Accepted"), ("ResolvedRefs", "True", "ResolvedRefs"))


async def accepted(live: Live, cls: ClassOfTest) -> Unstructured:
    """The HTTPRoute of a new alice, accepted by the Gateway."""
    await live.create(className=cls.name)
    await live.until_condition("NetworkReady", "False", "RoutePending")
    await answer(live, *ACCEPTED)
    await live.until_condition("NetworkReady", "True", "Synced")
    await live.until_ready()
    route = await live.child(Kind.HTTP_ROUTE)
    assert route is not None
    return route


@pytest.mark.produces("NetworkReady/GatewayAPIMissing", "NetworkReady/RoutePending")
async def test_the_gateway_api_may_come_later(  # first in this module: the next tests need it from the start
    live: Live,
    api: Kubectl,
    definition: Path,
    through_gateway: ClassOfTest,
    impatient: None,
    without_gateway_api: None,
    operator: None,
) -> None:
    await live.create(className=through_gateway.name)
    assert "not installed" in await live.until_condition("NetworkReady", "False", "GatewayAPIMissing")
    await live.until_ready()
    assert (await told(live, "phase"), await told(live, "url")) == ("Degraded", inside(live))
    await asyncio.to_thread(install, api, definition)
    await live.until_condition("NetworkReady", "False", "RoutePending")
    await answer(live, *ACCEPTED)
    await live.until_condition("NetworkReady", "True", "Synced")
    assert await told(live, "url") == outside(live)


@pytest.mark.produces("NetworkReady/RouteNotAccepted")
async def test_the_route_leads_to_the_service_once_the_gateway_accepts_it(
    live: Live, gateway_api: None, through_gateway: ClassOfTest, operator: None
) -> None:
    await through_gateway.change(tlsSecretName="wildcard", annotations={"example.org/a": "1"})
    await live.create(className=through_gateway.name)
    assert "'public'" in await live.until_condition("NetworkReady", "False", "RoutePending")
    await live.until_condition("Ready", "True", "PodReady")
    assert await told(live, "url") == inside(live)
    route = await live.child(Kind.HTTP_ROUTE)
    assert route is not None
    assert route["metadata"]["annotations"] == {"example.org/a": "1", "userstorage.dev/user-id": "alice"}
    [parent] = route["spec"]["parentRefs"]
    assert (parent["kind"], parent["name"]) == ("Gateway", "public")
    assert route["spec"]["hostnames"] == [f"alice.{live.namespace}.example.org"]
    [rule] = route["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    assert [(to["name"], to["port"]) for to in rule["backendRefs"]] == [("user-storage-alice", 80)]
    await answer(live, *ACCEPTED, gateway="another")
    await answer(live, ("Accepted", "False", "NotAllowedByListeners"))
    message = await live.until_condition("NetworkReady", "False", "RouteNotAccepted")
    assert "in words: NotAllowedByListeners" in message
    assert (await told(live, "phase"), await told(live, "url")) == ("Degraded", inside(live))
    await answer(live, ("Accepted", "True", "Accepted"), ("ResolvedRefs", "False", "BackendNotFound"))

    async def unresolved() -> bool:
        found = await live.get()
        assert found is not None
        return "BackendNotFound" in str(found["status"]["conditions"])

    await live.until(unresolved)
    await answer(live, *ACCEPTED)
    await live.until_condition("NetworkReady", "True", "Synced")
    assert (await told(live, "phase"), await told(live, "url")) == ("Ready", outside(live, "https"))


async def test_once_in_place_it_is_not_written_again(
    live: Live, gateway_api: None, through_gateway: ClassOfTest, operator: None
) -> None:
    before = await accepted(live, through_gateway)
    await live.change({"spec": {"lifecycle": {"startTimeout": "9m"}}})  # seen by a full pass
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
        {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}},
    ],
)
async def test_edited_by_hand_it_is_put_back(
    live: Live, gateway_api: None, through_gateway: ClassOfTest, operator: None, damage: Unstructured
) -> None:
    before = await accepted(live, through_gateway)
    await live.change_child(Kind.HTTP_ROUTE, damage)

    async def back() -> bool:
        now = await live.child(Kind.HTTP_ROUTE)
        assert now is not None
        return (now["spec"], now["metadata"]["labels"]) == (before["spec"], before["metadata"]["labels"])

    await live.until(back)
    await answer(live, *ACCEPTED)
    await live.until_condition("NetworkReady", "True", "Synced")


async def test_a_change_to_an_ingress_takes_the_route_away(
    live: Live, gateway_api: None, through_gateway: ClassOfTest, operator: None
) -> None:
    await accepted(live, through_gateway)
    await through_gateway.change(expose="Ingress")
    await live.until(lambda: live.child(Kind.INGRESS))

    async def gone() -> bool:
        return await live.child(Kind.HTTP_ROUTE) is None

    await live.until(gone)
    await live.until_condition("NetworkReady", "True", "Synced")
    assert await told(live, "url") == outside(live)


async def test_a_strangers_route_is_left_alone(
    live: Live, gateway_api: None, through_gateway: ClassOfTest, operator: None
) -> None:
    before = await live.make(Kind.HTTP_ROUTE, "user-storage-alice", {"hostnames": ["theirs.example.org"]})
    await live.create(className=through_gateway.name)
    assert "HTTPRoute 'user-storage-alice'" in await live.until_condition("Reconciling", "True", "Retrying")
    await live.until_condition("Ready", "True", "PodReady")
    now = await live.child(Kind.HTTP_ROUTE)
    assert now is not None
    assert (now["metadata"]["uid"], now["spec"]) == (before["metadata"]["uid"], before["spec"])
