"""Records what a status change means in the same words twice: a Kubernetes Event for the user, a log line for the administrator."""

import logging
from collections.abc import Iterable

import structlog

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.reconcile.ports import Recorder
from userstorage_operator.status.events import WARNING, StatusEvent

log = structlog.get_logger(__name__)


def record_events(recorder: Recorder, regarding: Unstructured, events: Iterable[StatusEvent]) -> None:
    """Record events about `regarding`, an object as the API server sent it."""
    for event in events:
        recorder.record(regarding, event)
        level = logging.WARNING if event.type == WARNING else logging.INFO
        log.log(level, "condition_changed", conditions=event.conditions, reason=event.reason, message=event.note)
