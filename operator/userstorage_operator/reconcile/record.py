"""Reports a change of a status in the same words as a Kubernetes Event and as a line in the log of the operator."""

import logging
from collections.abc import Iterable

import structlog

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.reconcile.ports import Recorder
from userstorage_operator.status.events import WARNING, StatusEvent

log = structlog.get_logger(__name__)


def record_events(recorder: Recorder, regarding: Unstructured, events: Iterable[StatusEvent]) -> None:
    """Send each of `events` as a Kubernetes Event about the object `regarding` unless it is `log_only`, and log it."""
    for event in events:
        if not event.log_only:
            recorder.record(regarding, event)
        level = logging.WARNING if event.type == WARNING else logging.INFO
        log.log(level, "condition_changed", conditions=event.conditions, reason=event.reason, message=event.note)
