"""Volumes whose mount is stale, as that of a network volume whose server or driver was restarted. Only a new pod mounts a volume again."""

from datetime import datetime, timedelta

from userstorage_operator.observed import pod_status
from userstorage_operator.observed.snapshot import Snapshot, is_terminating

_LONGEST = timedelta(hours=1)
_PROBES = 3
"""How often the readiness probe must be able to fail again, at least."""


def due_at(snapshot: Snapshot) -> datetime | None:
    """Return when to replace our pod so that its volume is mounted again; None if the pod serves its files or fails otherwise.

    The first time it is due after `lifecycle.startTimeout`, but not before the probe could have recovered from a short failure. Each
    further pod in a row has twice as long to become ready, up to an hour: if the volume itself is broken, no pod helps.
    """
    pod = snapshot.own_pod
    if pod is None or is_terminating(pod) or (since := pod_status.without_files_since(pod)) is None:
        return None
    patience = max(snapshot.storage.lifecycle.start_timeout, _PROBES * pod_status.time_to_fail(pod))
    return since + min(patience * (1 << min(snapshot.remounts, 16)), max(patience, _LONGEST))
