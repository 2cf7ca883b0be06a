"""Reconcile one UserStorageClass: the operator writes only its status. Its UserStorages are reconciled separately."""

from collections.abc import Callable
from datetime import datetime

import structlog

from userstorage_operator import browsers
from userstorage_operator.api.errors import InvalidSpec, NotFound, OperatorError
from userstorage_operator.api.reasons import END_OF_LIFE, IMAGE_PINNED
from userstorage_operator.api.resources import USER_STORAGE_CLASSES
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import UserStorageClass, default_classes
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.browsers.browser import Browser
from userstorage_operator.plan.builders import Desired, build
from userstorage_operator.reconcile.dry_runs import DryRuns
from userstorage_operator.reconcile.ports import Cluster, Recorder
from userstorage_operator.reconcile.record import record_events
from userstorage_operator.reconcile.rollout_tracker import RolloutTracker
from userstorage_operator.runtime.worker import Result
from userstorage_operator.status.class_status import class_report, directory_image, end_of_life, image_pinned
from userstorage_operator.status.events import class_events
from userstorage_operator.status.report import status_patch

_UNTIL_COUNTED = 1.0
"""Seconds until the next try while not every UserStorage has been counted since the start of this process."""

_META = {
    "namespace": "any-namespace",
    "name": "any-user",
    "uid": "",
    "resourceVersion": "",
    "creationTimestamp": "",
}
_ANY_USER = UserStorage.parse({"metadata": _META, "spec": {"userID": "any-user"}})
"""A UserStorage with defaults only. If the class cannot serve it, the class is invalid."""
_USER_OF_DIRECTORY = UserStorage.parse(
    {"metadata": _META, "spec": {"userID": "any-user", "storage": {"claimName": "any-claim", "subPath": "${slug}"}}}
)
"""A UserStorage with a directory of a claim. It stands for all users of a class that has an image for it."""


class ClassReconciler:
    """Writes the status of UserStorageClasses."""

    def __init__(
        self,
        cluster: Cluster,
        lister: Lister,
        rollout: RolloutTracker,
        recorder: Recorder,
        clock: Callable[[], datetime],
        dry_runs: DryRuns,
    ) -> None:
        self._cluster = cluster
        self._lister = lister
        self._rollout = rollout
        self._recorder = recorder
        self._clock = clock
        self._dry_runs = dry_runs

    async def reconcile(self, name: str, failures: int) -> Result:  # noqa: ARG002  # the signature that a worker pool calls
        """Write the status of the class `name` if it differs, and send Events about the change."""
        structlog.contextvars.bind_contextvars(class_name=name)
        if not self._rollout.complete:
            return Result(requeue_after=_UNTIL_COUNTED)
        classes = list(self._lister.classes())
        raw = next((raw for raw in classes if raw["metadata"]["name"] == name), None)
        if raw is None:
            self._dry_runs.forget(name)
            return Result()
        previous = raw.get("status") or {}
        rendered = _render(raw)
        try:
            refusal = await self._dry_runs.refusal(raw, rendered[1]) if isinstance(rendered, tuple) else None
        except OperatorError as error:
            return Result(reason=error.reason, retry=True, error=error.message, action="dry run of UserStorageClass")
        status = class_report(
            raw,
            rendered[0] if isinstance(rendered, tuple) else rendered,
            default_classes(classes),
            self._rollout.counts(name, raw["metadata"]["generation"]),
            self._clock(),
            refusal,
        )
        settled = Result(requeue_after=self._dry_runs.retry_after(name))
        patch = status_patch(status, previous)
        if not patch:
            return settled
        body = {"metadata": {"uid": raw["metadata"]["uid"]}, "status": patch}
        try:
            patched = await self._cluster.merge_patch(USER_STORAGE_CLASSES, None, name, body, "status")
        except NotFound:
            return Result()
        except OperatorError as error:
            return Result(reason=error.reason, retry=True, error=error.message, action="patch UserStorageClass")
        self._lister.put(USER_STORAGE_CLASSES, patched)
        record_events(self._recorder, raw, class_events(previous, status))
        return settled


def image_flaws(raw: Unstructured) -> frozenset[str]:
    """Return those of the conditions ImagePinned and EndOfLife that report a flaw. None for a class that cannot be rendered."""
    rendered = _render(raw)
    if not isinstance(rendered, tuple):
        return frozenset()
    pinned = image_pinned(rendered[0].image, directory_image(raw))
    flaws = {IMAGE_PINNED: not pinned.status, END_OF_LIFE: end_of_life(rendered[0]).status}
    return frozenset(flaw for flaw, found in flaws.items() if found)


def _render(raw: Unstructured) -> tuple[Browser, Desired] | InvalidSpec:
    try:
        cls = UserStorageClass.parse(raw)
        user = _ANY_USER if cls.directory_image is None else _USER_OF_DIRECTORY
        browser = browsers.render(user, cls)
        return browser, build(user, cls, browser)
    except InvalidSpec as error:
        return error
