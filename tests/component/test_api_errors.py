"""Errors of the API server are reported with its message, and end when the request succeeds."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from support.faultproxy import Fault, FaultProxy
from support.inprocess import INTERNAL_ERROR_OUTCOMES, RecordedMetrics, serving
from support.kubectl import Kubectl
from support.live import Live
from support.volumes import create_claim
from userstorage_operator import browsers
from userstorage_operator.api.errors import ClusterError
from userstorage_operator.api.resources import USER_STORAGES, Kind, Resource
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.browsers.browser import Browser
from userstorage_operator.config import Config

pytestmark = [pytest.mark.kwok]

LIMITS = Resource("", "v1", "limitranges", "LimitRange")
WEBHOOKS = Resource(
    "admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", namespaced=False
)


@pytest.fixture
def proxied_operator(proxy: FaultProxy, live: Live) -> Iterator[RecordedMetrics]:
    with serving(Config(namespaces=(live.namespace,), http_port=0, sweep_period=3600)) as metrics:
        yield metrics


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        pytest.param(503, "APIUnavailable", marks=pytest.mark.produces("Ready/APIUnavailable", "Reconciling/Retrying")),
        pytest.param(404, "APIError", marks=pytest.mark.produces("Ready/APIError", "Reconciling/Retrying")),
    ],
)
async def test_failed_pod_creation_is_reported_and_retried(
    live: Live, proxied_operator: RecordedMetrics, proxy: FaultProxy, status: int, reason: str
) -> None:
    proxy.fail(Fault("POST", r"/pods\?", status, "not today"))
    await live.create()
    assert "not today" in await live.until_condition("Ready", "False", reason)
    assert await live.condition("NetworkReady") == ("True", "Synced")
    assert await live.child(Kind.POD) is None
    proxy.fail()
    await live.until_ready()
    assert sum(proxied_operator.outcomes[fault] for fault in INTERNAL_ERROR_OUTCOMES) == 0


@pytest.mark.produces("Ready/NamespaceTerminating")
async def test_terminating_namespace_is_reported(live: Live, proxied_operator: RecordedMetrics, proxy: FaultProxy) -> None:
    message = f"unable to create new content in namespace {live.namespace} because it is being terminated"
    proxy.fail(Fault("POST", r"/pods\?", 403, message))  # injected: a real terminating namespace deletes the object soon
    await live.create()
    assert message in await live.until_condition("Ready", "False", "NamespaceTerminating")
    proxy.fail()
    await live.change({"spec": {"lifecycle": {"startTimeout": "9m"}}})
    await live.until_ready()


async def test_unreadable_claim_is_not_reported_as_missing(
    live: Live, proxied_operator: RecordedMetrics, proxy: FaultProxy
) -> None:
    path = r"/persistentvolumeclaims/photos"
    proxy.fail(Fault("GET", path, 500, "not today"))
    await create_claim(live, "photos")
    await live.create(storage={"claimName": "photos"})
    assert "not today" in await live.until_condition("Ready", "False", "APIUnavailable")
    message = await live.until_condition("StorageReady", "False", "ClaimNotFound")
    assert message == "spec.storage.claimName: claim 'photos' was not read: not today"
    proxy.fail()
    await live.until_ready()
    assert await live.until_condition("StorageReady", "True", "ClaimBound") == "claim 'photos' is bound"
    proxy.fail(Fault("GET", path, 500, "not today"))
    await live.change({"spec": {"lifecycle": {"startTimeout": "9m"}}})
    await live.until_condition("Reconciling", "True", "Retrying")
    found = await live.get()
    assert found is not None
    assert found["status"]["phase"] == "Ready"
    assert await live.condition("StorageReady") == ("True", "ClaimBound")
    await live.delete(USER_STORAGES, "alice")  # the failed read does not block the deletion

    async def gone() -> bool:
        return await live.get() is None

    await live.until(gone)


@pytest.mark.produces("NetworkReady/OutOfSync", "Reconciling/Retrying")
async def test_failed_repair_of_service_is_reported_until_it_succeeds(
    live: Live, proxied_operator: RecordedMetrics, proxy: FaultProxy
) -> None:
    await live.create()
    await live.until_ready()
    proxy.fail(Fault("PATCH", "/services/", 500))
    await live.change_child(Kind.SERVICE, {"spec": {"selector": {"color": "blue"}}})
    assert "Service" in await live.until_condition("NetworkReady", "False", "OutOfSync")
    assert await live.condition("Ready") == ("True", "PodReady")
    proxy.fail()
    await live.until_condition("NetworkReady", "True", "Synced")


@pytest.mark.produces("Ready/Forbidden", "Reconciling/Retrying")
async def test_pod_refusal_quotes_api_server(live: Live, operator: RecordedMetrics) -> None:
    limits = {"limits": [{"type": "Container", "max": {"memory": "1Mi"}}]}
    body = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "tight"}, "spec": limits}
    await live.client.create(LIMITS, live.namespace, body)
    await live.create()
    assert "maximum memory usage per Container is 1Mi" in await live.until_condition("Ready", "False", "Forbidden")
    await live.delete(LIMITS, "tight")
    await live.until_ready()


@pytest.mark.produces("Ready/WebhookFailed", "Reconciling/Retrying")
async def test_failing_webhook_is_named(live: Live, api: Kubectl, operator: RecordedMetrics) -> None:
    webhook = {
        "name": "sidecar.example.org",
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": live.namespace}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
        "clientConfig": {"service": {"namespace": live.namespace, "name": "injector"}},
    }
    ports = {"ports": [{"port": 443}], "selector": {"app": "injector"}}  # no pod has the label, so there are no endpoints
    await live.create_object(Kind.SERVICE, "injector", ports)
    body = {
        "apiVersion": WEBHOOKS.api_version,
        "kind": WEBHOOKS.kind,
        "metadata": {"name": live.namespace},
        "webhooks": [webhook],
    }
    created = await live.client.create(WEBHOOKS, "", body)
    try:
        await live.until(lambda: _is_refused(live))
        about = await live.create()
        message = await live.until_condition("Ready", "False", "WebhookFailed")
        assert "sidecar.example.org" in message
        assert await live.condition("Stalled") == ("False", "NotStalled")
        described = await asyncio.to_thread(api.run, "describe", "us", about["metadata"]["name"], "-n", live.namespace)
        assert "Warning  WebhookFailed" in described.stdout
    finally:
        await live.client.delete(WEBHOOKS, "", live.namespace, created["metadata"]["uid"], 0, "Background")
    await live.until_ready()


async def _is_refused(live: Live) -> bool:
    """Whether the API server refuses pods: it uses a new webhook after a delay."""
    container = {"name": "probe", "image": "example.org/probe"}
    try:
        await live.create_object(Kind.POD, "probe", {"containers": [container]})
    except ClusterError as error:
        return "failed calling webhook" in error.message
    await live.delete(Kind.POD.resource, "probe")
    return False


@pytest.mark.produces("Ready/InternalError", "Reconciling/Retrying")
async def test_internal_error_is_reported_and_affects_no_other_user_storage(
    live: Live, operator: RecordedMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    render = browsers.render

    def broken(storage: UserStorage, cls: UserStorageClass) -> Browser:
        if storage.user_id == "alice":
            raise ZeroDivisionError
        return render(storage, cls)

    with monkeypatch.context() as patched:
        patched.setattr(browsers, "render", broken)
        await live.create()
        assert "ZeroDivisionError" in await live.until_condition("Ready", "False", "InternalError")
        await live.create("bob")
        await live.until_ready("bob")
    await live.until_ready()


async def test_unavailable_server_is_retried_with_backoff(
    live: Live, proxied_operator: RecordedMetrics, proxy: FaultProxy
) -> None:
    proxy.fail(Fault("POST|PATCH|DELETE", ".", 503))
    await live.create()

    def tries() -> int:
        return sum(request.code == 503 for request in proxy.requests)

    async def three_tries() -> bool:
        return tries() >= 3

    await live.until(three_tries)  # at once, after 1 s, after 3 s more; each try writes the finalizer and the status
    assert tries() <= 6
    proxy.fail()
    await live.until_ready()
    found: Any = await live.client.get(USER_STORAGES, live.namespace, "alice")
    assert "lastError" not in found["status"]
