"""Sends Kubernetes Events, best effort: an Event is queued without waiting, sent after those before it, and dropped if that
fails.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from userstorage_operator.api import names
from userstorage_operator.api.errors import AlreadyExists, OperatorError
from userstorage_operator.api.resources import EVENTS
from userstorage_operator.api.timestamps import format_precise_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.kube.client import KubeClient
from userstorage_operator.status.events import StatusEvent, event_name

log = structlog.get_logger(__name__)

_QUEUE_MAX = 1000
"""Maximum number of Events that wait to be sent. Further Events are dropped, since they are not worth the memory."""
_PER_OBJECT_MAX = 10
"""Maximum number of Events about one object per minute: enough to show that the object flaps."""
_MINUTE = timedelta(minutes=1)
_CONTROLLER = f"{names.GROUP}/operator"
_CLUSTER_SCOPED_NAMESPACE = "default"
"""Namespace that the API server demands for Events about cluster-scoped objects."""


class Observer(Protocol):
    """Receives the Events that were dropped, for metrics."""

    def event_dropped(self, reason: str) -> None:
        """Count an Event that was not sent; `reason` is queue_full, rate_limited or rejected."""


class EventRecorder:
    """Implements the interface `reconcile.ports.Recorder`. Recording an Event neither waits nor fails."""

    def __init__(self, client: KubeClient, observer: Observer, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._observer = observer
        self._clock = clock
        self._queue: asyncio.Queue[Unstructured] = asyncio.Queue(_QUEUE_MAX)
        self._recorded: Counter[str] = Counter()
        self._minute_started = clock()

    def record(self, regarding: Unstructured, event: StatusEvent) -> None:
        """Queue an Event about the object `regarding`, of any kind. The Event is dropped if the queue is full, or if there were
        too many Events about this object in the current minute.
        """
        if self._queue.full():
            self._observer.event_dropped("queue_full")
        elif self._too_many_of(regarding["metadata"]["uid"]):
            self._observer.event_dropped("rate_limited")
        else:
            self._queue.put_nowait(self._event(regarding, event))

    async def run(self) -> None:
        """Send queued Events until cancelled, one at a time so that reconciles have priority."""
        while True:
            event = await self._queue.get()
            try:
                await self._send(event)
            except OperatorError as error:  # namespace terminating, permission missing, or API server overloaded
                self._observer.event_dropped("rejected")
                log.debug("event_dropped", error_kind=error.reason, error=error.message, **_log_fields(event))
            except Exception:  # one bad event must not stop the recorder
                self._observer.event_dropped("rejected")
                log.exception("event_crashed", **_log_fields(event))

    def _too_many_of(self, uid: str) -> bool:
        """Count an Event about the object `uid`. Return whether there were too many about this object in the current minute.
        All counts are reset every minute, which limits their memory.
        """
        now = self._clock()
        if not self._minute_started <= now < self._minute_started + _MINUTE:  # the minute is over, or the clock was set back
            self._recorded.clear()
            self._minute_started = now
        self._recorded[uid] += 1
        return self._recorded[uid] > _PER_OBJECT_MAX

    def _event(self, regarding: Unstructured, event: StatusEvent) -> Unstructured:
        meta = regarding["metadata"]
        namespace = meta.get("namespace")
        reference = {
            "apiVersion": regarding["apiVersion"],
            "kind": regarding["kind"],
            "name": meta["name"],
            "uid": meta["uid"],
        }
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": event_name(regarding, event), "namespace": namespace or _CLUSTER_SCOPED_NAMESPACE},
            "eventTime": format_precise_time(self._clock()),
            "regarding": reference | ({"namespace": namespace} if namespace else {}),
            "type": event.type,
            "reason": event.reason,
            "action": event.action,
            "note": event.note,
            "reportingController": _CONTROLLER,
            "reportingInstance": socket.gethostname(),
        }

    async def _send(self, event: Unstructured) -> None:
        """Create the Event. If an Event with this name exists, perhaps created by another process, increase the count of its
        series.
        """
        namespace, name = event["metadata"]["namespace"], event["metadata"]["name"]
        try:
            await self._client.create(EVENTS, namespace, event)
        except AlreadyExists:
            # An empty patch changes nothing and returns the object, so the role needs no permission to read events.
            existing = await self._client.merge_patch(EVENTS, namespace, name, {})
            count = (existing.get("series") or {}).get("count", 1) + 1
            series = {"count": count, "lastObservedTime": event["eventTime"]}
            await self._client.merge_patch(EVENTS, namespace, name, {"series": series})


def _log_fields(event: Unstructured) -> dict[str, str]:
    """Return the namespace, name and uid of the object that the Event is about, as log fields."""
    about = event["regarding"]
    return {field: about[field] for field in ("namespace", "name", "uid") if field in about}
