"""StorageReady and the progress of an expansion, for claims as the API server returns them."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from support.builders import NOW, desired_of, settled_snapshot, storage_object, stored
from userstorage_operator.api.conditions import Condition
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.observed.claim_usage import ClaimContext
from userstorage_operator.observed.pvc_resize import Resize, progress
from userstorage_operator.plan.steps import Plan
from userstorage_operator.status.outcome import Outcome
from userstorage_operator.status.storage_ready import storage_ready

ROOT = Path(__file__).parents[2]


def growing(capacity: str = "1Gi", requested: str = "2Gi", **status: object) -> Unstructured:
    return {
        "metadata": {"name": "claim"},
        "spec": {"resources": {"requests": {"storage": requested}}},
        "status": {"phase": "Bound", "capacity": {"storage": capacity}, **status},
    }


def allocation(state: str) -> Unstructured:
    return {"allocatedResourceStatuses": {"storage": state}}


def holding(*kinds: str) -> Unstructured:
    return {"conditions": [{"type": kind, "status": "True", "message": kind} for kind in kinds]}


@pytest.mark.parametrize(
    ("claim", "resize"),
    [
        (growing(capacity="2Gi"), None),
        (growing(capacity="3Gi", **allocation("NodeResizePending")), None),
        (growing(capacity="2147483648"), None),
        (growing() | {"status": {"phase": "Pending"}}, None),
        (growing(), Resize.REQUESTED),
        (growing(**allocation("ControllerResizeInProgress")), Resize.IN_PROGRESS),
        (growing(**allocation("ControllerResizeInfeasible")), Resize.FAILED),
        (growing(**allocation("NodeResizePending"), **holding("Resizing")), Resize.NODE_PENDING),
        (growing(**allocation("NodeResizeInProgress")), Resize.IN_PROGRESS),
        (growing(**allocation("NodeResizeInfeasible")), Resize.FAILED),
        (growing(**holding("Resizing")), Resize.IN_PROGRESS),
        (growing(**holding("Resizing", "FileSystemResizePending")), Resize.NODE_PENDING),
        (growing(**allocation("ControllerResizeInProgress"), **holding("ControllerResizeError")), Resize.FAILED),
        (growing(conditions=[{"type": "NodeResizeError", "status": "False"}]), Resize.REQUESTED),
    ],
)
def test_progress_of_expansion_is_reported(claim: Unstructured, resize: Resize | None) -> None:
    assert progress(claim, None) is resize
    assert progress(claim, "1Gi") is None, "the volume has what the spec asks for"


@pytest.mark.parametrize(
    ("size", "claim", "words"),
    [
        ("1Gi", growing("2Gi", "2Gi"), "its volume has 2Gi, more than spec.storage.size 1Gi"),
        ("1Gi", growing("2Gi", "1000Ti"), "its volume has 2Gi"),
        ("1000Ti", growing("2Gi", "3Gi"), "another client made it request 3Gi"),
        ("3Gi", growing("2Gi", "5Gi"), "another client made it request 5Gi"),
        ("2Gi", growing("2Gi", "2147483649"), None),
        ("1Gi", growing("10Gi", "1Gi"), None),
    ],
)
def test_claim_of_another_size_than_the_spec_is_reported(size: str, claim: Unstructured, words: str | None) -> None:
    raw = storage_object(storage={"size": size})
    snapshot, desired = settled_snapshot(raw), desired_of(raw)
    assert desired.pvc is not None
    annotated = claim | {"metadata": stored(desired.pvc)["metadata"]}
    condition = storage_ready(
        Outcome(snapshot.with_children(replace(snapshot.children, pvc=annotated)), desired, Plan(), None, NOW)
    )
    assert condition.status is True
    assert (condition.reason, (words or "is bound") in condition.message) == ("SizeDiffers" if words else "ClaimBound", True)


def test_claim_that_is_too_large_for_any_volume_is_reported_with_the_way_out() -> None:
    raw = storage_object(storage={"size": "2Gi"})
    snapshot = settled_snapshot(raw)
    claim = stored(desired_of(storage_object(storage={"size": "1000Ti"})).pvc or {}) | {"status": {"phase": "Pending"}}
    waiting = snapshot.with_children(replace(snapshot.children, pvc=claim, pod=None))
    condition = storage_ready(Outcome(waiting, desired_of(raw), Plan(), None, NOW))
    assert (condition.status, condition.reason) == (False, "ClaimPending")
    assert "delete it, and it is created again" in condition.message


def test_values_of_status_storage_resize_equal_the_schema() -> None:
    crd = yaml.safe_load((ROOT / "deploy/crds/userstorage.dev_userstorages.yaml").read_text())
    status = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    assert status["storage"]["properties"]["resize"]["enum"] == list(Resize)


def condition_with(class_name: str | None, *, with_pod: bool) -> Condition:
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    created = stored(desired_of(raw).pvc or {})
    claim = created | {"spec": created["spec"] | {"storageClassName": class_name}, "status": {"phase": "Pending"}}
    pod = stored(desired_of(raw).pod) | {"status": {"phase": "Pending"}} if with_pod else None
    modes = {"at-once": "Immediate", "later": "WaitForFirstConsumer"}
    snapshot = replace(
        snapshot.with_children(replace(snapshot.children, pvc=claim, pod=pod)),
        claim_context=ClaimContext(binding_modes=modes),
    )
    return storage_ready(Outcome(snapshot, desired_of(raw), Plan(), None, NOW))


@pytest.mark.parametrize(
    ("class_name", "with_pod", "reason", "words"),
    [
        ("at-once", True, "ClaimPending", "waits for a volume"),
        ("later", True, "WaitForFirstConsumer", "when the pod is scheduled"),
        ("later", False, "ClaimPending", "it gets its volume when its first pod is scheduled"),
        ("none-such", True, "ClaimPending", "StorageClass 'none-such' does not exist"),
        ("", True, "ClaimPending", "waits for a volume"),
        (None, True, "ClaimPending", "no StorageClass"),
    ],
)
def test_claim_without_volume_is_reported_with_its_cause(
    class_name: str | None, with_pod: bool, reason: str, words: str
) -> None:
    condition = condition_with(class_name, with_pod=with_pod)
    assert (condition.status, condition.reason) == (reason == "WaitForFirstConsumer", reason)
    assert words in condition.message
