"""Other controllers write to our children: queue managers, certificate managers, sidecar injectors, owners of claims."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from support.admission import mutating_policy
from support.inprocess import RecordedMetrics, assert_silent
from support.kubectl import Kubectl
from support.live import LIFE, ClassOfTest, Live
from support.plugin import Plugin
from userstorage_operator.api.names import API_VERSION, KIND
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured

pytestmark = [pytest.mark.kwok]

GATE = "example.org/queue"
POD = "user-storage-alice"
Mutate = Callable[[str], Awaitable[None]]
RunKubectl = Callable[..., Awaitable[str]]


@pytest.fixture
def kubectl(api: Kubectl, live: Live) -> RunKubectl:
    """A function that runs kubectl in the test's namespace, and returns its output."""

    async def run(*args: str, manager: str = "other", **options: Any) -> str:
        flags = (f"--field-manager={manager}",) if args[0] in ("patch", "annotate") else ()
        done = await asyncio.to_thread(api.run, *args, "-n", live.namespace, *flags, **options)
        return str(done.stdout)

    return run


@pytest.fixture
async def mutate(api: Kubectl, live: Live, kubectl: RunKubectl) -> AsyncIterator[Mutate]:
    """A function that makes admission apply a JSON patch (in CEL) to each new pod of the namespace, and waits until it does."""
    policies = AsyncExitStack()

    async def create(patch: str) -> None:
        pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
        mark = 'JSONPatch{op: "add", path: "/metadata/annotations", value: {"example.org/mutated": "yes"}}'
        marked = f"(has(object.metadata.annotations) ? [] : [{mark}]) + [{patch}]"
        await policies.enter_async_context(mutating_policy(api, live.namespace, [pods], marked))
        security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        probe = {
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "image": "x", "securityContext": security}],
        }
        body = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": probe})

        async def is_in_effect() -> bool:
            return "example.org/mutated" in await kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", input=body)

        await live.until(is_in_effect)

    async with policies:
        yield create


async def phase(live: Live) -> str:
    found = await live.get()
    assert found is not None
    return str(found["status"]["phase"])


PEERS = [
    {"ipBlock": {"cidr": "10.0.0.0/8", "except": []}},
    {"podSelector": {"matchExpressions": [{"key": "team", "operator": "Exists", "values": []}]}},
    {"podSelector": {"matchLabels": {}}, "namespaceSelector": {"matchExpressions": []}},
]


async def test_empty_lists_of_peers_are_no_difference(
    live: Live, exposing_class: ClassOfTest, sweeping: RecordedMetrics
) -> None:
    await exposing_class.change(expose="ClusterIP", allowedFrom=PEERS)
    await live.create(className=exposing_class.name)
    await live.until_ready()
    await live.until_condition("NetworkReady", "True", "Synced")
    assert await phase(live) == "Ready"
    await assert_silent(sweeping, live)


@pytest.mark.produces("Ready/SchedulingGated", "Ready/StartTimeout")
async def test_gated_pod_is_named_and_kept_when_its_gate_is_lifted(
    live: Live, kubectl: RunKubectl, mutate: Mutate, sweeping: RecordedMetrics
) -> None:
    await mutate(f'JSONPatch{{op: "add", path: "/spec/schedulingGates", value: [{{"name": "{GATE}"}}]}}')
    await live.create(lifecycle={"startTimeout": "15s"})
    assert GATE in await live.until_condition("Ready", "False", "SchedulingGated")
    assert GATE in await live.until_condition("Ready", "False", "StartTimeout")
    before = (await live.pod())["metadata"]["uid"]
    place = [{"op": "add", "path": "/spec/nodeSelector", "value": {"kubernetes.io/os": "linux"}}]
    await kubectl("patch", "pod", POD, "--type=json", "-p", json.dumps(place), manager="kueue")
    lift = [{"op": "remove", "path": "/spec/schedulingGates"}]
    await kubectl("patch", "pod", POD, "--type=json", "-p", json.dumps(lift), manager="kueue")
    assert (await live.until_ready())["status"]["podUID"] == before
    await assert_silent(sweeping, live)
    assert (await live.pod())["metadata"]["uid"] == before


@pytest.mark.produces("Ready/ReadinessGatesNotReady")
async def test_readiness_gate_is_named(live: Live, mutate: Mutate, operator: RecordedMetrics) -> None:
    gate = "example.org/load-balancer"
    await mutate(f'JSONPatch{{op: "add", path: "/spec/readinessGates", value: [{{"conditionType": "{gate}"}}]}}')
    await live.create(lifecycle={"startTimeout": "10s"})
    await live.until_ready()  # kwok knows no readiness gates; the kubelet would report the following
    conditions = [
        {"type": "ContainersReady", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady", "lastTransitionTime": "2099-01-01T00:00:00Z"},
    ]
    await live.client.merge_patch(Kind.POD.resource, live.namespace, POD, {"status": {"conditions": conditions}}, "status")
    assert gate in await live.until_condition("Ready", "False", "ReadinessGatesNotReady")
    conditions[1]["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    await live.client.merge_patch(Kind.POD.resource, live.namespace, POD, {"status": {"conditions": conditions}}, "status")
    assert gate in await live.until_condition("Ready", "False", "StartTimeout")


async def test_many_field_managers_are_no_edit_and_an_image_is(
    live: Live, kubectl: RunKubectl, sweeping: RecordedMetrics
) -> None:
    await live.create()
    before = (await live.until_ready())["status"]["podUID"]
    for number in range(12):
        await kubectl("annotate", "pod", POD, f"example.org/note-{number}=x", manager=f"manager-{number}")
        await asyncio.sleep(0.2)
    await assert_silent(sweeping, live)
    pod = await live.pod()
    assert pod["metadata"]["uid"] == before
    assert "ancient-changes" in {entry["manager"] for entry in pod["metadata"]["managedFields"]}
    image = json.dumps({"spec": {"containers": [{"name": "filebrowser", "image": "evil:1"}]}})
    await kubectl("patch", "pod", POD, "-p", image, manager="kubectl-edit")

    async def replaced() -> bool:
        pod = await live.child(Kind.POD)
        return pod is not None and pod["metadata"]["uid"] != before

    await live.until(replaced)
    await live.until_ready()


CHALLENGE = {
    "path": "/.well-known/acme-challenge/token",
    "pathType": "ImplementationSpecific",
    "backend": {"service": {"name": "cm-acme-http-solver-x", "port": {"number": 8089}}},
}


async def test_path_of_a_certificate_manager_is_left_alone(
    live: Live, kubectl: RunKubectl, exposing_class: ClassOfTest, sweeping: RecordedMetrics
) -> None:
    await live.create(className=exposing_class.name)
    url = (await live.until_ready())["status"]["url"]
    await live.until_condition("NetworkReady", "True", "Synced")
    for index, path in (("0", CHALLENGE), ("-", CHALLENGE | {"path": "/.well-known/acme-challenge/other"})):
        add = [{"op": "add", "path": f"/spec/rules/0/http/paths/{index}", "value": path}]
        await kubectl("patch", "ingress", POD, "--type=json", "-p", json.dumps(add), manager="cert-manager")
    await assert_silent(sweeping, live)
    assert await paths(live) == ["/.well-known/acme-challenge/token", "/", "/.well-known/acme-challenge/other"]
    found = await live.get()
    assert found is not None
    assert (found["status"]["phase"], found["status"]["url"]) == ("Ready", url)
    # Our own path is still repaired, and only that.
    await kubectl("patch", "ingress", POD, "--type=json", "-p", '[{"op": "remove", "path": "/spec/rules/0/http/paths/1"}]')

    async def is_repaired() -> bool:
        return sorted(await paths(live)) == sorted(
            ["/", "/.well-known/acme-challenge/token", "/.well-known/acme-challenge/other"]
        )

    await live.until(is_repaired)


async def paths(live: Live) -> list[str]:
    found = await live.child(Kind.INGRESS)
    assert found is not None
    [rule] = found["spec"]["rules"]
    return [path["path"] for path in rule["http"]["paths"]]


async def test_crash_of_a_sidecar_names_it_and_is_no_restart_of_the_browser(
    live: Live, mutate: Mutate, operator: RecordedMetrics
) -> None:
    security = '{"allowPrivilegeEscalation": dyn(false), "capabilities": dyn({"drop": ["ALL"]})}'
    sidecar = f'{{"name": dyn("istio-proxy"), "image": dyn("proxy:1"), "securityContext": dyn({security})}}'
    await mutate(f'JSONPatch{{op: "add", path: "/spec/containers/-", value: {sidecar}}}')
    await live.create()
    await live.until_ready()
    pod = await live.pod()
    for status in pod["status"]["containerStatuses"]:
        if status["name"] == "istio-proxy":
            last = {"exitCode": 3, "reason": "Error", "message": "no control plane\n"}
            waiting = {"reason": "CrashLoopBackOff", "message": "back-off"}
            status |= {"ready": False, "restartCount": 7, "state": {"waiting": waiting}, "lastState": {"terminated": last}}
    ready = {"type": "Ready", "status": "False", "lastTransitionTime": "2099-01-01T00:00:00Z"}
    patch = {"status": {"containerStatuses": pod["status"]["containerStatuses"], "conditions": [ready]}}
    await live.client.merge_patch(Kind.POD.resource, live.namespace, POD, patch, "status")
    message = await live.until_condition("Ready", "False", "CrashLoopBackOff")
    assert "istio-proxy (not the operator's) keeps exiting" in message
    found = await live.get()
    assert found is not None
    assert (found["status"]["restartCount"], found["status"]["phase"]) == (0, "Degraded")


@pytest.fixture
async def foreign_owner(kubectl: RunKubectl) -> Unstructured:
    """An ownerReference to a ConfigMap of another controller."""
    await kubectl("create", "configmap", "import-of-alice")
    uid = await kubectl("get", "configmap", "import-of-alice", "-o", "jsonpath={.metadata.uid}")
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": "import-of-alice", "uid": uid}


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
async def test_other_owners_of_a_claim_are_left_alone(
    live: Live, sweeping: RecordedMetrics, foreign_owner: Unstructured, policy: str
) -> None:
    await live.create(storage={"reclaimPolicy": policy})
    await live.until_ready()
    found = await live.get()
    assert found is not None
    ours = {"apiVersion": API_VERSION, "kind": KIND, "name": "alice", "uid": found["metadata"]["uid"], "controller": True}
    await live.change_child(Kind.PVC, {"metadata": {"ownerReferences": [ours, foreign_owner]}})

    async def has_only_the_other() -> bool:
        claim = await live.child(Kind.PVC)
        assert claim is not None
        return [owner["uid"] for owner in claim["metadata"]["ownerReferences"]] == [foreign_owner["uid"]]

    await live.until(has_only_the_other)
    await assert_silent(sweeping, live)
    await live.delete(USER_STORAGES, "alice")

    await live.until_gone()
    await live.until(has_only_the_other)  # with Delete, the garbage collector removes our owner: the other one keeps the claim


@pytest.mark.produces("StorageReady/ControlledByOther")
@pytest.mark.parametrize("policy", ["Retain", "Delete"])
async def test_claim_of_another_controller_is_used_and_its_controller_named(
    live: Live, sweeping: RecordedMetrics, foreign_owner: Unstructured, policy: str
) -> None:
    owner = foreign_owner | {"controller": True}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}
    await live.create_object(Kind.PVC, POD, spec, annotations={"userstorage.dev/user-id": "alice"}, ownerReferences=[owner])
    await live.create(storage={"reclaimPolicy": policy})
    await live.until_ready()
    message = await live.until_condition("StorageReady", "True", "ControlledByOther")
    assert "ConfigMap 'import-of-alice'" in message
    before = (await live.pod())["metadata"]["uid"]
    await live.delete(Kind.POD.resource, POD)

    async def is_ready_again() -> bool:
        return bool((await live.until_ready())["status"]["podUID"] != before)

    await live.until(is_ready_again)
    claim = await live.child(Kind.PVC)
    assert claim is not None
    assert [entry["uid"] for entry in claim["metadata"]["ownerReferences"]] == [owner["uid"]]
    await assert_silent(sweeping, live)


async def test_control_characters_of_a_registry_reach_no_condition(live: Live, operator: RecordedMetrics) -> None:
    await live.create(podMetadata={"annotations": {LIFE: "image-pull-backoff"}})
    await live.until_condition("Ready", "False", "ImagePullBackOff")
    [status] = (await live.pod())["status"]["containerStatuses"]
    status["state"]["waiting"]["message"] = "denied: \x1b[2J\x1b]0;owned\x07\nask the registry"
    await live.client.merge_patch(Kind.POD.resource, live.namespace, POD, {"status": {"containerStatuses": [status]}}, "status")

    async def message() -> str:
        found = await live.get()
        assert found is not None
        [text] = [entry["message"] for entry in found["status"]["conditions"] if entry["type"] == "Ready"]
        return str(text) if "denied" in text else ""

    assert await live.until(message) == "container filebrowser: denied: ?[2J?]0;owned? ask the registry"


async def test_explain_prints_no_control_characters(live: Live) -> None:
    await live.create()
    stored = {"type": "Ready", "status": "False", "reason": "APIError", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    conditions = [stored | {"message": "denied: \x1b[2J\x07", "observedGeneration": 1}]
    await live.client.merge_patch(USER_STORAGES, live.namespace, "alice", {"status": {"conditions": conditions}}, "status")
    done = await asyncio.to_thread(Plugin(Path(os.environ["KUBECONFIG"]), live.namespace), "explain", "alice")
    assert "denied: ?[2J?" in done.stdout
    assert done.stdout.replace("\n", "").isprintable()
