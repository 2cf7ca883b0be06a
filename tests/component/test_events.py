"""Events as people see them: through the core API, which kubectl describe and kubectl get events read."""

import asyncio
import json
from datetime import timedelta

import pytest

from support.kubectl import Kubectl
from support.live import LIFE, Live
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.status import requeue

pytestmark = [pytest.mark.kwok]

EventCount = tuple[str, str, int]


class Events:
    """The core/v1 events of one object."""

    def __init__(self, api: Kubectl, about: Unstructured) -> None:
        self._api = api
        self._about = about["metadata"]

    async def all(self) -> list[Unstructured]:
        query = ["get", "events", "-n", self._about.get("namespace", "default"), "-o", "json"]
        found = await asyncio.to_thread(self._api.run, *query, f"--field-selector=involvedObject.uid={self._about['uid']}")
        events: list[Unstructured] = json.loads(found.stdout)["items"]
        return sorted(events, key=lambda event: str(event["eventTime"]))

    async def counts(self) -> list[EventCount]:
        """Return type, reason and count of each event, the oldest first."""
        return [(event["type"], event["reason"], (event.get("series") or {}).get("count", 1)) for event in await self.all()]


async def test_slow_start_records_one_event_shown_by_describe(live: Live, api: Kubectl, operator: None) -> None:
    created = await live.create(podMetadata={"annotations": {LIFE: "never-ready"}})
    await live.until_condition("Ready", "False", "PodNotReady")
    pod = await live.pod()
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": pod["metadata"]["creationTimestamp"]}
    patch = {"status": {"conditions": [ready]}}
    await live.client.merge_patch(Kind.POD.resource, live.namespace, pod["metadata"]["name"], patch, "status")
    await live.until_ready()
    events = Events(api, created)
    [event] = await live.until(events.all)
    assert (event["type"], event["reason"], event["action"]) == ("Normal", "PodReady", "Serve")
    assert event["involvedObject"] == {
        "apiVersion": "userstorage.dev/v1",
        "kind": "UserStorage",
        "namespace": live.namespace,
        "name": "alice",
        "uid": created["metadata"]["uid"],
    }
    assert event["reportingComponent"] == "userstorage.dev/operator"
    described = await asyncio.to_thread(api.run, "describe", "us", "alice", "-n", live.namespace)
    assert "PodReady" in described.stdout.split("\nEvents:")[1]


async def test_quick_start_and_quick_deletion_record_no_event(
    live: Live, api: Kubectl, operator: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requeue, "REPORT_DELAY", timedelta(minutes=5))  # however slow this machine is
    created = await live.create()
    await live.until_ready()
    await live.delete(USER_STORAGES, "alice")

    async def is_gone() -> bool:
        return await live.get() is None

    await live.until(is_gone)
    # Events are sent in their order: one about alice would be there by now.
    failing = await live.create("bob", className="no-such-class")
    await live.until(Events(api, failing).all)
    assert await Events(api, created).counts() == []


async def test_failure_event_has_message_of_condition(live: Live, api: Kubectl, operator: None) -> None:
    created = await live.create(className="no-such-class")
    message = await live.until_condition("Ready", "False", "ClassNotFound")
    [event] = await live.until(Events(api, created).all)
    assert (event["type"], event["reason"], event["message"]) == ("Warning", "ClassNotFound", message)


async def test_failed_first_start_records_warning(live: Live, api: Kubectl, operator: None) -> None:
    created = await live.create(podMetadata={"annotations": {LIFE: "image-pull-backoff"}})
    await live.until_condition("Ready", "False", "ImagePullBackOff")
    [event] = await live.until(Events(api, created).all)
    assert (event["type"], event["reason"]) == ("Warning", "ImagePullBackOff")


async def test_repeated_events_are_counted_in_series(
    live: Live, api: Kubectl, operator: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requeue, "REPORT_DELAY", timedelta(minutes=5))  # so that the first start records no Event
    created = await live.create()
    await live.until_ready()
    events = Events(api, created)
    for _ in range(2):
        await live.change({"spec": {"replicas": 0}})
        await live.until_condition("Suspended", "True", "Requested")
        await live.change({"spec": {"replicas": 1}})
        await live.until_ready()

    async def is_counted() -> bool:
        counts = {reason: count for _, reason, count in await events.counts()}
        return counts == {"PodReady": 2, "Suspended": 2, "Requested": 2, "Running": 2}

    await live.until(is_counted)


async def test_deletion_event_outlives_object(live: Live, api: Kubectl, operator: None) -> None:
    created = await live.create(podMetadata={"annotations": {LIFE: "slow-termination"}})
    await live.until_ready()
    await live.delete(USER_STORAGES, "alice")

    await live.until_gone()
    events = Events(api, created)

    async def is_recorded() -> bool:
        return ("Normal", "Terminating", 1) in await events.counts()

    await live.until(is_recorded)
