"""Labels, annotations and placement of pods that a class allows its users, and those that it does not."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.inprocess import RecordedMetrics
from support.live import Live
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured

pytestmark = pytest.mark.kwok

SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"


@pytest.fixture
async def team_class(live: Live) -> AsyncIterator[str]:
    """A class with an annotation of its own, which allows labels of a team and a pool of nodes."""
    name = f"team-{live.namespace}"
    await live.create_class(
        name,
        podMetadata={"annotations": {SAFE_TO_EVICT: "false"}, "allowed": ["example.org/", "cost-center"]},
        scheduling={"allowed": {"nodeSelector": ["kubernetes.io/os"], "tolerations": ["example.org/spot"]}},
    )
    yield name
    await live.delete_class(name)


async def metadata_of_pod(live: Live, user: str = "alice") -> Unstructured:
    metadata: Unstructured = (await live.pod(user))["metadata"]
    return metadata


async def test_team_uses_what_its_class_allows(live: Live, operator: RecordedMetrics, team_class: str) -> None:
    await live.create(
        className=team_class,
        podMetadata={"labels": {"cost-center": "42", "example.org/team": "blue"}, "annotations": {"example.org/note": "x"}},
        scheduling={
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "example.org/spot", "operator": "Exists"}],
        },
    )
    await live.until_ready()
    pod = await live.pod()
    assert pod["metadata"]["labels"].items() >= {"cost-center": "42", "example.org/team": "blue"}.items()
    assert pod["metadata"]["annotations"].items() >= {"example.org/note": "x", SAFE_TO_EVICT: "false"}.items()
    assert pod["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert {"key": "example.org/spot", "operator": "Exists"} in pod["spec"]["tolerations"]


REFUSED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "spec.podMetadata.annotations: 'vault.hashicorp.com/agent-inject' not allowed by class '{cls}' (podMetadata.allowed)",
        {"podMetadata": {"annotations": {"vault.hashicorp.com/agent-inject": "true"}}},
        {"podMetadata": {"allowed": ["vault.hashicorp.com/agent-inject"]}},
    ),
    (
        "spec.podMetadata.labels: 'component' not allowed by class '{cls}' (podMetadata.allowed)",
        {"podMetadata": {"labels": {"component": "api", "cost-center": "42"}}},
        {"podMetadata": {"allowed": ["cost-center", "component"]}},
    ),
    (
        "spec.scheduling.nodeSelector: 'kubernetes.io/arch' not allowed by class '{cls}' (scheduling.allowed.nodeSelector)",
        {"scheduling": {"nodeSelector": {"kubernetes.io/arch": "amd64"}}},
        {"scheduling": {"allowed": {"nodeSelector": ["kubernetes.io/arch"]}}},
    ),
    (
        "spec.scheduling.tolerations: 'dedicated' not allowed by class '{cls}' (scheduling.allowed.tolerations)",
        {"scheduling": {"tolerations": [{"key": "dedicated", "operator": "Exists"}]}},
        {"scheduling": {"allowed": {"tolerations": ["dedicated"]}}},
    ),
]


@pytest.mark.produces("Ready/NotAllowedByClass", "Stalled/NotAllowedByClass")
@pytest.mark.parametrize(("message", "spec", "allowing"), REFUSED)
async def test_key_that_the_class_does_not_allow_is_refused_until_it_does(
    live: Live, operator: RecordedMetrics, team_class: str, message: str, spec: Unstructured, allowing: Unstructured
) -> None:
    await live.create(className=team_class, **spec)
    assert await live.until_condition("Ready", "False", "NotAllowedByClass") == message.format(cls=team_class)
    assert await live.condition("Stalled") == ("True", "NotAllowedByClass")
    for kind in (Kind.NETWORK_POLICY, Kind.PVC, Kind.SERVICE, Kind.POD):
        assert await live.child(kind) is None
    await live.change_class(team_class, {"spec": allowing})
    await live.until_ready()


async def test_built_in_class_allows_nothing(live: Live, operator: RecordedMetrics) -> None:
    await live.create(className=None, podMetadata={"labels": {"team": "blue"}})
    message = await live.until_condition("Ready", "False", "NotAllowedByClass")
    assert message == "spec.podMetadata.labels: 'team' not allowed by the built-in class, which allows no key"


async def test_running_pods_keep_a_key_that_the_class_takes_back(
    live: Live, operator: RecordedMetrics, team_class: str
) -> None:
    users = ("alice", "bob")
    for user in users:
        await live.create(user, className=team_class, podMetadata={"labels": {"cost-center": "42"}})
    uids = {user: (await live.until_ready(user))["status"]["podUID"] for user in users}
    await live.change_class(team_class, {"spec": {"podMetadata": {"allowed": ["example.org/"]}}})
    for user in users:
        assert "'cost-center' not allowed" in await live.until_condition("Stalled", "True", "NotAllowedByClass", user)
        assert await live.condition("Ready", user) == ("True", "PodReady")
    await live.change({"spec": {"replicas": 0}}, "bob")
    await live.until(lambda: is_gone(live, "bob"))
    await live.change_class(team_class, {"spec": {"podMetadata": {"allowed": ["example.org/", "cost-center"]}}})
    assert (await live.until_ready("alice"))["status"]["podUID"] == uids["alice"]
    assert (await metadata_of_pod(live))["labels"]["cost-center"] == "42"
    await live.change({"spec": {"replicas": 1}}, "bob")
    await live.until_ready("bob")


async def is_gone(live: Live, user: str) -> bool:
    return await live.child(Kind.POD, user) is None
