"""Which status changes cause events, and the limits of the event recorder."""

import asyncio
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import NOW, storage_object
from userstorage_operator.api.errors import AlreadyExists, Refused
from userstorage_operator.api.reasons import REASONS
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.kube.client import KubeClient
from userstorage_operator.kube.event_recorder import EventRecorder
from userstorage_operator.status import events
from userstorage_operator.status.events import NOTE_MAX, StatusEvent, event_name, note_of, status_events

Expected = tuple[str, str]
PENDING: Unstructured = {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "Pending", "message": "waiting"}]}


def status(**conditions: str) -> Unstructured:
    """Parse conditions such as `Ready="False PodPending it waits"`; the message defaults to type and reason."""
    entries = []
    for condition_type, text in conditions.items():
        state, reason, *words = text.split(" ", 2)
        message = words[0] if words else f"{condition_type} {reason}"
        entries.append({"type": condition_type, "status": state, "reason": reason, "message": message})
    return {"conditions": entries}


SERVING = status(
    Ready="True PodReady",
    StorageReady="True ClaimBound",
    PodUpToDate="True UpToDate",
    NetworkReady="True Synced",
    Suspended="False Running",
    Reconciling="False Done",
    Stalled="False NotStalled",
)
STARTING = status(
    Ready="False PodPending",
    StorageReady="False ClaimPending",
    PodUpToDate="True UpToDate",
    NetworkReady="True Synced",
    Suspended="False Running",
    Reconciling="True Progressing",
    Stalled="False NotStalled",
)


def changed(before: Unstructured, **conditions: str) -> Unstructured:
    new = {entry["type"]: entry for entry in status(**conditions)["conditions"]}
    return {"conditions": [new.get(entry["type"], entry) for entry in before["conditions"]]}


ROWS: dict[str, tuple[Unstructured, Unstructured, list[Expected]]] = {
    "a quick start": (PENDING, SERVING, []),
    "a slow start is under way": (PENDING, STARTING, []),
    "a slow start succeeds": (STARTING, SERVING, [("Normal", "PodReady")]),
    "no status at all": ({}, SERVING, []),
    "a start that fails": (STARTING, changed(STARTING, Ready="False ImagePullBackOff"), [("Warning", "ImagePullBackOff")]),
    "running but not yet ready": (STARTING, changed(STARTING, Ready="False PodNotReady"), []),
    "one failure after another": (
        changed(STARTING, Ready="False CrashLoopBackOff"),
        changed(STARTING, Ready="False OOMKilled"),
        [("Warning", "OOMKilled")],
    ),
    "the same failure with another message": (
        changed(STARTING, Ready="False CrashLoopBackOff 5 restarts"),
        changed(STARTING, Ready="False CrashLoopBackOff 6 restarts"),
        [],
    ),
    "too slow, with one message for two conditions": (
        STARTING,
        changed(STARTING, Ready="False StartTimeout too slow", Stalled="True StartTimeout too slow"),
        [("Warning", "StartTimeout")],
    ),
    "the probe fails": (SERVING, changed(SERVING, Ready="False PodNotReady"), [("Warning", "PodNotReady")]),
    "replaced": (
        SERVING,
        changed(SERVING, Ready="False PodTerminating", PodUpToDate="False Recreating"),
        [("Normal", "PodTerminating")],
    ),
    "being stopped": (
        SERVING,
        changed(SERVING, Ready="False Suspended", Suspended="False Stopping"),
        [("Normal", "Suspended")],
    ),
    "stopped": (
        changed(SERVING, Suspended="False Stopping"),
        changed(SERVING, Suspended="True Requested"),
        [("Normal", "Requested")],
    ),
    "an update that waits": (
        SERVING,
        changed(SERVING, PodUpToDate="False UpdateDeferred"),
        [("Normal", "UpdateDeferred")],
    ),
    "a volume that is lost under a running pod": (
        SERVING,
        changed(SERVING, StorageReady="False ClaimLost"),
        [("Warning", "ClaimLost")],
    ),
    "a claim that recovered": (
        changed(STARTING, StorageReady="False ClaimTerminating"),
        changed(STARTING, StorageReady="True ClaimBound"),
        [("Normal", "ClaimBound")],
    ),
    "a claim that may not be used, one event": (
        PENDING,
        status(
            Ready="False StorageNotReady not shared",
            StorageReady="False ClaimNotAllowed not shared",
            Stalled="True ClaimNotAllowed not shared",
        ),
        [("Warning", "ClaimNotAllowed")],
    ),
    "a class that does not exist": (
        PENDING,
        status(Ready="False ClassNotFound no class", Stalled="True ClassNotFound no class"),
        [("Warning", "ClassNotFound")],
    ),
    "a class that was created": (
        changed(STARTING, Ready="False ClassNotFound", Stalled="True ClassNotFound"),
        STARTING,
        [("Normal", "NotStalled")],
    ),
    "the deletion of a serving UserStorage": (
        SERVING,
        changed(SERVING, Ready="False Terminating", PodUpToDate="False Terminating", Reconciling="True Terminating"),
        [("Normal", "Terminating")],
    ),
    "a deletion that hangs": (
        changed(SERVING, Ready="False Terminating"),
        changed(SERVING, Ready="False Terminating", Stalled="True DeletionTimedOut"),
        [("Warning", "DeletionTimedOut")],
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_each_status_change_records_the_expected_events(row: str) -> None:
    before, after, expected = ROWS[row]
    assert [(item.type, item.reason) for item in status_events(before, after) if not item.log_only] == expected


def test_quick_start_is_logged() -> None:
    [item] = status_events(PENDING, SERVING)
    assert (item.type, item.reason, item.log_only) == ("Normal", "PodReady", True)


def conditions_of(condition_type: str) -> st.SearchStrategy[Unstructured]:
    return st.fixed_dictionaries(
        {
            "type": st.just(condition_type),
            "status": st.sampled_from(["True", "False", "Unknown"]),
            "reason": st.sampled_from(sorted(REASONS[condition_type])),
            "message": st.text(),
        }
    )


statuses = st.builds(lambda *entries: {"conditions": list(entries)}, *(conditions_of(each) for each in REASONS))


@given(before=statuses, after=statuses)
def test_unchanged_status_causes_no_event(before: Unstructured, after: Unstructured) -> None:
    found = list(status_events(before, after))
    assert len(found) == len({item.note for item in found})
    assert all(item.type in ("Normal", "Warning") and item.note for item in found)
    assert list(status_events(after, after)) == []


def test_every_normal_reason_is_listed_in_api_reasons() -> None:
    for condition_type, known in events._NORMAL_REASONS.items():
        assert known <= REASONS[condition_type].keys()


@given(st.text())
def test_note_is_printable_and_short(text: str) -> None:
    note = note_of(text * 40)
    assert note.isprintable()
    assert len(note.encode()) <= NOTE_MAX


def test_note_has_no_control_characters() -> None:
    assert note_of("a\nb\x1b[31mc\u202ed") == "a b?[31mc?d"


@given(name=st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", fullmatch=True))
def test_event_name_identifies_object_and_content(name: str) -> None:
    about = storage_object(meta={"name": name})
    event = StatusEvent("Normal", "PodReady", "Serve", "it serves", ("Ready=True",))
    assert event_name(about, event) == event_name(about, event)
    assert len(event_name(about, event)) <= 253
    assert event_name(about, event) != event_name(storage_object(meta={"name": name, "uid": "another"}), event)
    assert event_name(about, event) != event_name(about, event._replace(note="it serves again"))


class ApiServer:
    """A stand-in for the API server that serves the two requests of the recorder."""

    def __init__(self) -> None:
        self.events: dict[str, Unstructured] = {}
        self.refuses = False

    async def create(self, _: Any, namespace: str, body: Unstructured) -> Unstructured:
        if self.refuses:
            raise Refused(403, "the namespace is being terminated")
        name = f"{namespace}/{body['metadata']['name']}"
        if name in self.events:
            raise AlreadyExists(409, "it is there")
        self.events[name] = body
        return body

    async def merge_patch(self, _: Any, namespace: str, name: str, patch: Unstructured) -> Unstructured:
        self.events[f"{namespace}/{name}"] |= patch
        return self.events[f"{namespace}/{name}"]


class RecorderSetup:
    """A recorder whose clock the test controls."""

    def __init__(self) -> None:
        self.server = ApiServer()
        self.now = NOW
        self.dropped: list[str] = []
        self.recorder = EventRecorder(cast("KubeClient", self.server), self, self.clock)

    def clock(self) -> datetime:
        return self.now

    def event_dropped(self, reason: str) -> None:
        self.dropped.append(reason)

    def record(self, note: str = "it serves", about: Unstructured | None = None) -> None:
        self.recorder.record(about or storage_object(), StatusEvent("Normal", "PodReady", "Serve", note, ("Ready=True",)))

    async def send(self) -> list[Unstructured]:
        """Send all queued events and return the stored ones."""
        sender = asyncio.create_task(self.recorder.run())
        for _ in range(1000):  # turns of the loop: nothing in here waits for anything else
            await asyncio.sleep(0)
        assert not sender.done(), "the sender must outlive whatever it sends"
        sender.cancel()
        return list(self.server.events.values())


async def test_repeated_event_is_counted_across_processes() -> None:
    first, second = RecorderSetup(), RecorderSetup()
    second.server = first.server
    second.recorder._client = cast("KubeClient", first.server)
    first.record()
    [event] = await first.send()
    assert "series" not in event  # a series has at least two
    first.record()
    await first.send()
    second.record()
    [event] = await second.send()
    assert event["series"]["count"] == 3


async def test_events_are_rate_limited_per_object() -> None:
    setup = RecorderSetup()
    for number in range(30):
        setup.record(f"flap {number}")
    setup.record(about=storage_object(meta={"uid": "another", "name": "bob"}))
    assert len(await setup.send()) == 10 + 1
    assert setup.dropped == ["rate_limited"] * 20
    setup.now += timedelta(minutes=1)
    setup.record("another minute")
    assert len(await setup.send()) == 12


async def test_clock_set_back_resets_rate_limit() -> None:
    setup = RecorderSetup()
    for number in range(11):
        setup.record(f"flap {number}")
    setup.now -= timedelta(hours=1)
    setup.record("an hour before")
    assert len(await setup.send()) == 11
    assert setup.dropped == ["rate_limited"]


async def test_burst_is_bounded_and_dropped_events_are_counted() -> None:
    setup = RecorderSetup()
    for number in range(1100):
        setup.record(about=storage_object(meta={"uid": str(number)}))
    assert setup.dropped == ["queue_full"] * 100


async def test_refused_event_does_not_stop_the_sender() -> None:
    setup = RecorderSetup()
    setup.server.refuses = True
    setup.record()
    assert await setup.send() == []
    assert setup.dropped == ["rejected"]
    setup.server.refuses = False
    setup.record()
    assert len(await setup.send()) == 1


async def test_events_of_cluster_scoped_objects_are_in_namespace_default() -> None:
    setup = RecorderSetup()
    meta = {"name": "standard", "uid": "uid-standard"}
    setup.record(about={"apiVersion": "userstorage.dev/v1", "kind": "UserStorageClass", "metadata": meta})
    [event] = await setup.send()
    assert event["metadata"]["namespace"] == "default"
    assert "namespace" not in event["regarding"]
