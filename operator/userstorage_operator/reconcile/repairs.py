"""Pauses between the repairs of what another client keeps changing or deleting: of children, and of our finalizer.

The first write for a goal has no pause; each further one is a repair. Pods that are lost have a backoff of their own.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from enum import Enum
from typing import NamedTuple

import orjson

from userstorage_operator.api import names
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.observed.contest import REPORTED_FROM, Contest, Undone, describe
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan.diff import claim_metadata
from userstorage_operator.plan.steps import AddFinalizer, Change, Create, Delete, InspectMounts, Patch, Step
from userstorage_operator.reconcile.backoff import Backoff
from userstorage_operator.status.outcome import ApplyResult


class Part(Enum):
    """The parts of a claim that are written one by one: a pause or refusal of one must not delay the others."""

    REST = "rest"
    OWNER = "owner"
    GROWTH = "growth"


class Target(NamedTuple):
    """What writes of a child, or of our finalizer on the UserStorage, are counted by."""

    key: Key
    kind: Kind | None
    """None: the UserStorage itself."""
    part: Part = Part.REST
    """REST for all children but claims."""


_TARGETS = (*((kind, Part.REST) for kind in (None, *Kind)), (Kind.PVC, Part.OWNER), (Kind.PVC, Part.GROWTH))
"""The kinds and parts of all targets of one UserStorage."""


class Repairs:
    """Counts the writes of each target, and delays the next repair."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._backoff: Backoff[Target] = Backoff(clock)

    def count(self, target: Target) -> int:
        """Return the number of repairs in a row."""
        return self._backoff.state(target).count

    def has_to_wait(self, step: Step, result: ApplyResult) -> bool:
        """Whether the step would repair a child, or the finalizer, again before the pause since the last repair is over."""
        inspects_for_creation = isinstance(step, InspectMounts) and result.snapshot.children.pod is None
        if not (isinstance(step, AddFinalizer | Create | Patch | Delete) or inspects_for_creation):
            return False
        if _saves_claim(step, result.snapshot):
            return False
        target = _target(step, result)
        return self._backoff.blocked_until(target) is not None and self._backoff.state(target).goal == _goal(step, result)

    def record(self, step: Change, result: ApplyResult, undone: Undone, manager: str | None) -> None:
        """Record a write of a child; from the second one for the same goal on, it is one that was `undone`."""
        target = _target(step, result)
        state = self._backoff.record_try(target, _goal(step, result))
        if state.count:
            self._backoff.record_loss(target, describe(target.kind, undone, manager, state.count))

    def with_contests(self, result: ApplyResult) -> ApplyResult:
        """Add the objects that another client contests, and when the pause before the next repair of each is over."""
        if result.plan.spec_error is not None:
            return result
        contests, moments = list[Contest](), list[datetime]()
        for kind, part in _TARGETS:
            target = Target(result.snapshot.storage.meta.key, kind, part)
            if (until := self._backoff.blocked_until(target)) is not None:
                moments.append(until)
                state = self._backoff.state(target)
                if state.count >= REPORTED_FROM:
                    contests.append(Contest(kind, state.last_loss or ""))
        plan = replace(result.plan, requeue_at=(*result.plan.requeue_at, *moments))
        return replace(result, plan=plan, contests=tuple(contests)) if moments else result

    def forget_pod(self, key: Key) -> None:
        """Forget the repairs of the pod: it was created, or is deleted on purpose."""
        self._backoff.forget(Target(key, Kind.POD))

    def forget(self, key: Key) -> None:
        """Forget all repairs: the UserStorage is gone."""
        for kind, part in _TARGETS:
            self._backoff.forget(Target(key, kind, part))


def _target(step: Step, result: ApplyResult) -> Target:
    """Return what a write is counted by; for the inspection before the creation of a pod, what that creation is counted by."""
    if isinstance(step, AddFinalizer):
        return Target(result.snapshot.storage.meta.key, None)
    kind = step.kind if isinstance(step, Create | Patch | Delete) else Kind.POD
    part = Part.REST
    if kind is Kind.PVC and isinstance(step, Patch):
        part = _part_of_claim(step.patch)
    return Target(result.snapshot.storage.meta.key, kind, part)


def _part_of_claim(patch: Unstructured) -> Part:
    """Return the part of a claim that the patch writes. A size that the claim requests already is only recorded."""
    metadata = patch.get("metadata", {})
    if "spec" in patch or names.ANNOTATION_REQUESTED_SIZE in metadata.get("annotations", {}):
        return Part.GROWTH
    return Part.OWNER if "ownerReferences" in metadata else Part.REST


def _saves_claim(step: Step, snapshot: Snapshot) -> bool:
    """Whether the step removes the owner of a retained claim, which the garbage collector may delete from now on: no pause, however
    often another client sets the owner again.
    """
    if not isinstance(step, Patch) or step.kind is not Kind.PVC or _part_of_claim(step.patch) is not Part.OWNER:
        return False
    meta, ends = snapshot.storage.meta, snapshot.own_pod is None
    return snapshot.storage.is_deleting and (ends or names.FOREGROUND_FINALIZER in meta.finalizers)


def _goal(step: Step, result: ApplyResult) -> int:
    """Return a digest of what the child should be: a change of the spec or of the class is no repair."""
    target = _target(step, result)
    goal: Unstructured | None = getattr(result.plan.desired, target.kind.field, None) if target.kind is not None else None
    if isinstance(step, Patch) and target.part is not Part.REST:
        goal = step.patch
    elif goal is not None and target.kind is Kind.PVC:
        goal = claim_metadata(goal)  # the rest of a claim is never repaired
    elif goal is not None:
        # A way in that is kept for an outdated pod is the live one, with a new resourceVersion in each reconcile.
        metadata = {field: goal["metadata"].get(field) for field in ("labels", "annotations", "ownerReferences")}
        goal = {"metadata": metadata, "spec": goal.get("spec")}
    return hash(orjson.dumps(goal, option=orjson.OPT_SORT_KEYS))
