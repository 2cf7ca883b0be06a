"""News of a status, told twice in the same words: a Kubernetes Event for the user, a log line for the administrator."""

import logging
from collections.abc import Iterable

import structlog

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.reconcile.ports import Recorder
from userstorage_operator.status.events import WARNING, StatusEvent

log = structlog.get_logger(__name__)


def record_events(recorder: Recorder, regarding: Unstructured, items: Iterable[StatusEvent]) -> None:
    """Tell of `regarding`, an object as the API server sent it."""
    for item in items:
        recorder.record(regarding, item)
        level = logging.WARNING if item.type == WARNING else logging.INFO
        log.log(level, "condition_changed", conditions=item.conditions, reason=item.reason, message=item.note)
