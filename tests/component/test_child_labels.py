"""Children are found by the label of our own domain, whatever a platform does with `app.kubernetes.io/managed-by`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from support.admission import mutating_policy
from support.inprocess import RecordedMetrics, assert_silent, serving
from support.kubectl import Kubectl
from support.live import LIFE, ClassOfTest, Live
from userstorage_operator.api import names
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.config import Config

pytestmark = [pytest.mark.kwok]

RECOMMENDED = "app.kubernetes.io/managed-by"
WITHOUT_LABEL: Unstructured = {"metadata": {"labels": {names.LABEL_MANAGED_BY: None}}}
LABELLED = (Kind.NETWORK_POLICY, Kind.PVC, Kind.SERVICE, Kind.POD, Kind.INGRESS)


@asynccontextmanager
async def labelling(
    api: Kubectl, live: Live, resources: dict[str, list[str]], labels: dict[str, str], condition: str = "true"
) -> AsyncIterator[None]:
    """Set labels of the children of the namespace, by API group, by an admission policy: whenever one is written that meets the
    condition (CEL).
    """
    rules = [
        {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": kinds}
        for group, kinds in resources.items()
    ]
    changes = ", ".join(
        f'JSONPatch{{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("{key}"), value: "{value}"}}'
        for key, value in labels.items()
    )
    conditions = [
        {"name": "labelled", "expression": "has(object.metadata.labels)"},
        {"name": "chosen", "expression": condition},
    ]
    probe = ("create", "service", "clusterip", "probe", "--clusterip=None", "-n", live.namespace)

    async def is_in_effect() -> bool:
        done = await asyncio.to_thread(api.run, *probe, "--dry-run=server", "-o", "json")
        return all(value in done.stdout for value in labels.values())

    async with mutating_policy(api, live.namespace, rules, f"[{changes}]", matchConditions=conditions):
        await live.until(is_in_effect)
        yield


@pytest.fixture
async def platform_label(api: Kubectl, live: Live) -> AsyncIterator[None]:
    """An admission policy that sets the recommended label of each child of the namespace, whenever one is written."""
    children = {
        "": ["pods", "services", "persistentvolumeclaims"],
        "networking.k8s.io": ["networkpolicies", "ingresses"],
    }
    async with labelling(api, live, children, {RECOMMENDED: "platform"}):
        yield


PODS = {"": ["pods", "services"]}
IS_POD = "object.kind == 'Pod' || object.metadata.name == 'probe'"


def is_selected(pod: Unstructured, labels: dict[str, str]) -> bool:
    return bool(labels.items() <= pod["metadata"]["labels"].items())


async def test_labels_of_a_platform_on_pods_take_neither_policy_nor_service(
    live: Live, api: Kubectl, operator: RecordedMetrics
) -> None:
    async with labelling(api, live, PODS, {"app": "platform", "userId": "platform-user"}, IS_POD):
        await live.create()
        await live.until_ready()
        pod, policy, service = await live.pod(), await live.child(Kind.NETWORK_POLICY), await live.child(Kind.SERVICE)
        assert pod["metadata"]["labels"]["app"] == "platform"
        assert policy is not None
        assert is_selected(pod, policy["spec"]["podSelector"]["matchLabels"])
        assert service is not None
        assert is_selected(pod, service["spec"]["selector"])


async def test_pod_without_its_policy_is_reported_and_a_deleted_policy_kept(
    live: Live, api: Kubectl, operator: RecordedMetrics
) -> None:
    async with labelling(api, live, PODS, {names.LABEL_SLUG: "platform"}, IS_POD):
        await live.create(podMetadata={"annotations": {LIFE: "slow-termination"}})
        message = await live.until_condition("NetworkReady", "False", "OutOfSync")
        assert f"the NetworkPolicy selects it ({names.LABEL_SLUG}=alice), so other pods can reach it" in message
        await live.delete(Kind.NETWORK_POLICY.resource, "user-storage-alice")
        await live.delete(USER_STORAGES, "alice")
        await live.change({"metadata": {"finalizers": None}})  # by force
        await live.until(lambda: is_gone(live))
        assert await live.child(Kind.POD) is not None

        async def is_pod_gone() -> bool:
            policy, pod = await live.child(Kind.NETWORK_POLICY), await live.child(Kind.POD)  # in this order
            assert pod is None or policy is not None
            return pod is None

        await live.until(is_pod_gone)


async def test_pod_of_an_earlier_build_is_selected_all_the_time(live: Live) -> None:
    former: Unstructured = {"app": "filebrowser", "userId": "alice"}
    with serving(Config(namespaces=(live.namespace,), http_port=0, sweep_period=3600)):
        await live.create()
        before = (await live.until_ready())["status"]["podUID"]
    await live.change_child(Kind.NETWORK_POLICY, {"spec": {"podSelector": {"matchLabels": {names.LABEL_SLUG: None, **former}}}})
    await live.change_child(Kind.SERVICE, {"spec": {"selector": {names.LABEL_SLUG: None, **former}}})
    await live.change_child(Kind.POD, {"metadata": {"labels": {names.LABEL_SLUG: None}}})
    with serving(Config(namespaces=(live.namespace,), http_port=0, sweep_period=3600)):

        async def is_upgraded() -> bool:
            # In this order: the pod only gets labels.
            policy, service = await live.child(Kind.NETWORK_POLICY), await live.child(Kind.SERVICE)
            pod = await live.pod()
            assert policy is not None
            assert service is not None
            selectors = policy["spec"]["podSelector"]["matchLabels"], service["spec"]["selector"]
            assert all(is_selected(pod, labels) for labels in selectors)
            return selectors == ({names.LABEL_SLUG: "alice"},) * 2

        await live.until(is_upgraded)
        assert (await live.until_ready())["status"]["podUID"] == before
        await live.until_condition("NetworkReady", "True", "Synced")


async def is_gone(live: Live) -> bool:
    return await live.get() is None


async def until_suspended(live: Live) -> None:
    """Wait until alice is reported as suspended; fails if a pod of hers runs by then."""
    await live.until_condition("Suspended", "True", "Requested")
    assert await live.child(Kind.POD) is None


async def test_policy_on_the_recommended_label_hides_no_child(
    live: Live, exposing_class: ClassOfTest, platform_label: None, sweeping: RecordedMetrics
) -> None:
    await live.create(className=exposing_class.name)
    before = (await live.until_ready())["status"]["podUID"]
    await live.until_condition("NetworkReady", "True", "Synced")
    for kind in LABELLED:
        child = await live.child(kind)
        assert child is not None
        assert child["metadata"]["labels"][RECOMMENDED] == "platform"
    await assert_silent(sweeping, live)
    assert (await live.pod())["metadata"]["uid"] == before
    await live.change({"spec": {"replicas": 0}})
    await until_suspended(live)
    await live.change({"spec": {"replicas": 1}})
    await live.until_ready()
    await live.delete(USER_STORAGES, "alice")
    await live.until_gone()
    assert await live.child(Kind.POD) is None


async def test_pod_that_loses_its_label_with_the_suspension_is_stopped(live: Live, operator: RecordedMetrics) -> None:
    await live.create()
    await live.until_ready()
    await asyncio.gather(live.change_child(Kind.POD, WITHOUT_LABEL), live.change({"spec": {"replicas": 0}}))
    await until_suspended(live)


@pytest.mark.parametrize("kind", [Kind.POD, Kind.NETWORK_POLICY])
async def test_child_that_loses_its_label_with_the_deletion_is_not_left_over(
    live: Live, operator: RecordedMetrics, kind: Kind
) -> None:
    await live.create()
    await live.until_ready()
    await live.until_kind_is_collected()  # the policy goes by the garbage collector
    await asyncio.gather(live.change_child(kind, WITHOUT_LABEL), live.delete(USER_STORAGES, "alice"))
    await live.until_gone()

    async def is_child_gone() -> bool:
        return await live.child(kind) is None

    await live.until(is_child_gone)


@pytest.mark.parametrize("kind", LABELLED)
async def test_lost_label_is_restored_and_ready_stays(
    live: Live, exposing_class: ClassOfTest, operator: RecordedMetrics, kind: Kind
) -> None:
    await live.create(className=exposing_class.name)
    before = (await live.until_ready())["status"]["podUID"]
    await live.until_condition("NetworkReady", "True", "Synced")
    await live.change_child(kind, WITHOUT_LABEL)

    async def is_restored() -> bool:
        child = await live.child(kind)
        assert await live.condition("Ready") == ("True", "PodReady")
        return child is not None and names.LABEL_MANAGED_BY in child["metadata"]["labels"]

    await live.until(is_restored)
    assert (await live.until_ready())["status"]["podUID"] == before


async def test_unlabelled_children_are_found_at_the_start(live: Live) -> None:
    with serving(Config(namespaces=(live.namespace,), http_port=0, sweep_period=3600)):
        for user in ("alice", "bob"):
            await live.create(user)
        for user in ("alice", "bob"):
            await live.until_ready(user)
    await live.until_kind_is_collected()  # the policy of bob goes by the garbage collector
    for user in ("alice", "bob"):
        for kind in (Kind.NETWORK_POLICY, Kind.SERVICE, Kind.PVC, Kind.POD):
            await live.change_child(kind, WITHOUT_LABEL, user)
    await live.change({"spec": {"replicas": 0}})
    await live.delete(USER_STORAGES, "bob")
    with serving(Config(namespaces=(live.namespace,), http_port=0, sweep_period=3600)):
        await until_suspended(live)

        async def bob_is_gone() -> bool:
            found = [await live.get("bob"), await live.child(Kind.POD, "bob"), await live.child(Kind.NETWORK_POLICY, "bob")]
            return found == [None] * 3

        await live.until(bob_is_gone)
        claim = await live.child(Kind.PVC, "bob")
        assert claim is not None
        assert names.LABEL_MANAGED_BY in claim["metadata"]["labels"]


async def test_policy_without_label_is_released_although_its_user_is_gone(live: Live, operator: RecordedMetrics) -> None:
    await live.until_kind_is_collected()
    await live.create()
    await live.until_ready()
    await live.change({"metadata": {"annotations": {names.ANNOTATION_PAUSED: "true"}}})
    await live.until_condition("Paused", "True", "Paused")
    await live.change_child(Kind.NETWORK_POLICY, WITHOUT_LABEL)
    await live.change({"metadata": {"finalizers": None}})  # nothing restores either while it is paused
    await live.delete_with("Background")

    async def are_gone() -> bool:
        return await live.child(Kind.NETWORK_POLICY) is None and await live.child(Kind.POD) is None

    await live.until(are_gone)
