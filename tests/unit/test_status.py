from dataclasses import replace
from datetime import timedelta
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import CREATED, NOW, desired_of, ready_pod, settled_snapshot, snapshot_of, storage_object, stored
from unit.test_crds import schema
from userstorage_operator.api.errors import GrowthRefused, InvalidSpec, NameConflict, Refused, Unavailable
from userstorage_operator.api.names import CONTAINER
from userstorage_operator.api.reasons import REASONS
from userstorage_operator.api.timestamps import format_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan.planner import plan
from userstorage_operator.plan.steps import Plan
from userstorage_operator.reconcile.observe import WaitingForChange
from userstorage_operator.status import conditions
from userstorage_operator.status.outcome import ApplyResult, Failure, Outcome
from userstorage_operator.status.report import report, status_patch


def outcome_of(raw: Unstructured, snapshot: Snapshot, failure: Failure | None = None, hold: str | None = None) -> Outcome:
    return Outcome(snapshot, desired_of(raw), Plan(hold=hold), failure, NOW)


def condition(status: Unstructured, condition_type: str) -> tuple[str, str]:
    [entry] = [entry for entry in status["conditions"] if entry["type"] == condition_type]
    return entry["status"], entry["reason"]


def with_pod_status(snapshot: Snapshot, status: Unstructured, **meta: str) -> Snapshot:
    pod = stored(desired_of(storage_object()).pod, **meta) | {"status": status}
    return snapshot.with_children(replace(snapshot.children, pod=pod))


def test_snapshot_with_ready_pod_is_reported_as_ready() -> None:
    raw = storage_object()
    status = report(outcome_of(raw, settled_snapshot(raw)), {})
    assert status["phase"] == "Ready"
    assert status["observedGeneration"] == 3
    assert status["url"] == "http://user-storage-alice.users.svc/"
    assert status["startupSeconds"] == 30
    assert status["storage"] == {
        "claimName": "user-storage-alice",
        "claimUID": "uid-PersistentVolumeClaim",
        "claimPhase": "Bound",
        "requested": "10Gi",
        "capacity": "10Gi",
    }
    assert {entry["type"]: entry["status"] for entry in status["conditions"]} == {
        "Ready": "True",
        "StorageReady": "True",
        "PodUpToDate": "True",
        "NetworkReady": "True",
        "Suspended": "False",
        "Reconciling": "False",
        "Stalled": "False",
        "Paused": "False",
    }


def test_unbound_claim_of_ready_pod_does_not_degrade() -> None:
    raw = storage_object()
    settled = settled_snapshot(raw)
    claim = stored(desired_of(raw).pvc or {}) | {"status": {"phase": "Pending"}}
    status = report(outcome_of(raw, settled.with_children(replace(settled.children, pvc=claim))), {})
    assert (status["phase"], condition(status, "StorageReady")) == ("Ready", ("True", "ClaimBound"))


def test_unchanged_status_needs_no_patch() -> None:
    raw = storage_object()
    outcome = outcome_of(raw, settled_snapshot(raw))
    status = report(outcome, {})
    assert status_patch(report(replace(outcome, now=NOW + timedelta(days=1)), status), status) == {}


def test_patch_removes_obsolete_fields() -> None:
    raw = storage_object()
    before = report(outcome_of(raw, settled_snapshot(raw)), {})
    suspended = storage_object(replicas=0)
    snapshot = settled_snapshot(suspended)
    after = report(outcome_of(suspended, snapshot.with_children(replace(snapshot.children, pod=None))), before)
    patch = status_patch(after, before)
    assert patch["podName"] is None
    assert patch["phase"] == "Suspended"
    assert patch["replicas"] == 0
    assert "url" not in patch


WAITING = {"name": "filebrowser", "ready": False, "restartCount": 4}


@pytest.mark.parametrize(
    ("pod_status", "reason", "words"),
    [
        ({"phase": "Pending"}, "PodPending", "scheduled"),
        ({"phase": "Running"}, "PodNotReady", "readiness"),
        (
            {
                "phase": "Pending",
                "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/4 nodes"}],
            },
            "Unschedulable",
            "0/4 nodes",
        ),
        (
            {"containerStatuses": [WAITING | {"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}]},
            "ImagePullBackOff",
            "no such image",
        ),
        (
            {
                "containerStatuses": [
                    WAITING
                    | {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 3}}}
                ]
            },
            "CrashLoopBackOff",
            "exit code 3, 4 restarts",
        ),
        (
            {
                "containerStatuses": [
                    WAITING
                    | {
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {"terminated": {"exitCode": 3, "message": "first\n\x1b[31mno\tconfig\u202e\n \n"}},
                    }
                ]
            },
            "CrashLoopBackOff",
            "exit code 3, 4 restarts: [31mno config",
        ),
        (
            {
                "containerStatuses": [
                    WAITING
                    | {
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {"terminated": {"reason": "OOMKilled"}},
                    }
                ]
            },
            "OOMKilled",
            "memory limit",
        ),
    ],
)
def test_unready_pod_is_reported_with_its_reason(pod_status: Unstructured, reason: str, words: str) -> None:
    raw = storage_object()
    status = report(outcome_of(raw, with_pod_status(settled_snapshot(raw), pod_status)), {})
    assert condition(status, "Ready") == ("False", reason)
    assert words in next(entry["message"] for entry in status["conditions"] if entry["type"] == "Ready")
    assert condition(status, "Reconciling") == ("True", "Progressing")
    assert condition(status, "Stalled")[0] == "False"


def test_slow_start_becomes_start_timeout() -> None:
    raw = storage_object()
    snapshot = with_pod_status(settled_snapshot(raw), {"phase": "Running"}, creationTimestamp="2026-01-31T11:50:00Z")
    status = report(outcome_of(raw, snapshot), {})
    assert condition(status, "Ready") == ("False", "StartTimeout")
    assert condition(status, "Stalled") == ("True", "StartTimeout")
    assert condition(status, "Reconciling") == ("False", "Done")
    assert status["phase"] == "Failed"


def test_refusal_is_reported_with_message_of_server() -> None:
    raw = storage_object()
    failure = Failure(Refused(403, "pods is forbidden: exceeded quota", "QuotaExceeded"), 2, NOW + timedelta(seconds=3))
    status = report(outcome_of(raw, snapshot_of(raw), failure), {})
    assert condition(status, "Ready") == ("False", "QuotaExceeded")
    assert condition(status, "Reconciling") == ("True", "Retrying")
    assert status["lastError"] == {
        "reason": "QuotaExceeded",
        "message": "pods is forbidden: exceeded quota",
        "time": "2026-01-31T12:00:00Z",
        "attempts": 2,
        "nextRetryTime": "2026-01-31T12:00:03Z",
    }


def test_repeated_error_is_written_to_the_status_once_a_minute() -> None:
    raw = storage_object()
    outcome = outcome_of(raw, snapshot_of(raw), Failure(Unavailable(503, "try later"), 1, NOW))
    status = report(outcome, {})
    again = Failure(Unavailable(503, "try later"), 2, NOW)
    soon, late = (replace(outcome, failure=again, now=NOW + timedelta(seconds=seconds)) for seconds in (59, 61))
    assert status_patch(report(soon, status), status) == {}
    assert set(status_patch(report(late, status), status)) == {"lastError"}


def test_error_that_is_not_retried_is_written_to_the_status_once() -> None:
    raw = storage_object()
    outcome = outcome_of(raw, snapshot_of(raw), Failure(WaitingForChange("no such class", "ClassNotFound"), 1, None))
    status = report(outcome, {})
    much_later = replace(outcome, now=NOW + timedelta(days=1))
    assert status_patch(report(much_later, status), status) == {}


def test_repeated_error_keeps_time_of_first_occurrence() -> None:
    raw = storage_object()
    outcome = outcome_of(raw, snapshot_of(raw), Failure(Unavailable(503, "try later"), 1, NOW))
    status = report(outcome, {})
    later = replace(outcome, now=NOW + timedelta(minutes=5), failure=Failure(Unavailable(503, "try later"), 9, NOW))
    assert report(later, status)["lastError"]["time"] == status["lastError"]["time"]
    assert report(later, status)["lastError"]["attempts"] == 9


def test_foreign_network_policy_is_reported_as_pending() -> None:
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    policy = snapshot.children.network_policy
    assert policy is not None
    foreign = policy | {"metadata": policy["metadata"] | {"ownerReferences": []}}
    reported = report(outcome_of(raw, snapshot.with_children(replace(snapshot.children, network_policy=foreign))), {})
    assert condition(reported, "NetworkReady") == ("False", "Pending")


@pytest.mark.parametrize("field", ["network_policy", "service"])
def test_terminating_child_is_reported_as_pending(field: str) -> None:
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    child = getattr(snapshot.children, field)
    terminating = child | {"metadata": child["metadata"] | {"deletionTimestamp": CREATED, "finalizers": []}}
    reported = report(outcome_of(raw, snapshot.with_children(replace(snapshot.children, **{field: terminating}))), {})
    assert condition(reported, "NetworkReady") == ("False", "Pending")


def test_modified_policy_is_reported_until_repaired() -> None:
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    policy = snapshot.children.network_policy
    assert policy is not None
    opened = policy | {"spec": policy["spec"] | {"egress": [{}]}}
    reported = report(outcome_of(raw, snapshot.with_children(replace(snapshot.children, network_policy=opened))), {})
    assert condition(reported, "NetworkReady") == ("False", "OutOfSync")
    assert reported["phase"] == "Degraded"


def test_lost_node_degrades_what_has_served_before() -> None:
    raw, lost_at = storage_object(), format_time(NOW - timedelta(minutes=1))
    lost = {
        "phase": "Running",
        "conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": lost_at},
            {"type": "ContainersReady", "status": "True"},
        ],
        "containerStatuses": [
            {"name": CONTAINER, "ready": True, "restartCount": 0, "state": {"running": {"startedAt": "2026-01-31T10:00:00Z"}}}
        ],
    }
    reported = report(outcome_of(raw, with_pod_status(settled_snapshot(raw), lost)), {})
    assert (condition(reported, "Ready"), reported["phase"]) == (("False", "PodNotReady"), "Degraded")


CRASHING: Unstructured = {
    "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-31T11:00:00Z"}],
    "containerStatuses": [WAITING | {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}],
}
NON_BLOCKING = [
    Failure(GrowthRefused(403, "no expansion", "ExpansionNotSupported"), 1, NOW, non_blocking=True),
    Failure(Refused(403, "denied by a webhook"), 1, NOW, non_blocking=True),
    Failure(NameConflict("an Ingress is in the way"), 1, NOW, non_blocking=True),
]


@pytest.mark.parametrize("failure", NON_BLOCKING)
def test_non_blocking_failure_does_not_hide_state_of_pod(failure: Failure) -> None:
    raw = storage_object()

    def reported(snapshot: Snapshot, suspended: bool = False) -> Unstructured:
        return report(outcome_of(storage_object(replicas=0) if suspended else raw, snapshot, failure), {})

    crashing = reported(with_pod_status(settled_snapshot(raw), CRASHING))
    assert condition(crashing, "Ready") == ("False", "CrashLoopBackOff")
    assert condition(crashing, "Stalled") == ("True", "StartTimeout")
    starting = reported(with_pod_status(settled_snapshot(raw), {"phase": "Pending"}))
    assert condition(starting, "Ready") == ("False", "PodPending")
    assert starting["phase"] == "Starting"
    stopped = reported(snapshot_of(storage_object(replicas=0)), suspended=True)
    assert (condition(stopped, "Ready"), stopped["phase"]) == (("False", "Suspended"), "Suspended")
    for status in (starting, stopped, reported(settled_snapshot(raw))):
        assert condition(status, "Stalled") == ("False", "NotStalled")
        assert condition(status, "Reconciling") == ("True", "Retrying")
        assert status["lastError"]["message"] == failure.error.message


def test_claim_that_cannot_be_expanded_is_reported_while_files_are_served() -> None:
    raw = storage_object()
    failure = Failure(GrowthRefused(403, "no expansion", "ExpansionNotSupported"), 1, NOW, non_blocking=True)
    reported = report(outcome_of(raw, settled_snapshot(raw), failure), {})
    assert condition(reported, "StorageReady") == ("False", "ExpansionNotSupported")
    assert condition(reported, "Ready") == ("True", "PodReady")


@pytest.mark.parametrize("reason", ["QuotaExceeded", "Forbidden"])
def test_expansion_refused_for_another_reason_is_resize_failed(reason: str) -> None:
    raw = storage_object()
    failure = Failure(GrowthRefused(403, "requests.storage", reason), 1, NOW, non_blocking=True)
    reported = report(outcome_of(raw, settled_snapshot(raw), failure), {})
    assert condition(reported, "StorageReady") == ("True", "ResizeFailed")
    assert reported["lastError"]["reason"] == reason
    [entry] = [entry for entry in reported["conditions"] if entry["type"] == "StorageReady"]
    assert "requests.storage" in entry["message"]


def test_deletion_held_by_other_finalizers_is_not_stalled() -> None:
    raw = storage_object(meta={"deletionTimestamp": "2026-01-31T11:00:00Z", "finalizers": ["example.com/backup"]})
    reported = report(outcome_of(raw, snapshot_of(raw)), {})
    assert condition(reported, "Stalled") == ("False", "NotStalled")
    assert condition(reported, "Reconciling") == ("True", "WaitingForFinalizers")


def test_suspended_is_false_while_the_pod_exists() -> None:
    raw = storage_object(replicas=0)
    assert condition(report(outcome_of(raw, settled_snapshot(raw)), {}), "Suspended") == ("False", "Stopping")


def test_error_does_not_make_serving_pod_unready() -> None:
    raw = storage_object()
    status = report(outcome_of(raw, settled_snapshot(raw), Failure(Unavailable(0, "no answer"), 1, NOW)), {})
    assert condition(status, "Ready") == ("True", "PodReady")
    assert condition(status, "Reconciling") == ("True", "Retrying")


def test_name_conflict_is_stalled() -> None:
    raw = storage_object()
    status = report(outcome_of(raw, snapshot_of(raw), Failure(NameConflict("a Pod is in the way"), 1, NOW)), {})
    assert condition(status, "Ready") == ("False", "NameConflict")
    assert condition(status, "Stalled") == ("True", "NameConflict")
    assert status["phase"] == "Failed"


def test_pod_of_an_invalid_spec_is_not_said_to_be_created() -> None:
    snapshot = replace(settled_snapshot(storage_object()), spec_error=InvalidSpec("class spec.browser.port: no"))
    for seen in (snapshot, snapshot.with_children(replace(snapshot.children, pod=None))):
        result = ApplyResult(seen, plan(seen, NOW))
        status = report(Outcome.of(result, 0, NOW), {})
        assert condition(status, "Stalled") == ("True", "InvalidSpec")
        assert condition(status, "PodUpToDate") == ("False", "Stalled")


def test_pod_of_a_deleted_user_storage_is_not_said_to_be_created() -> None:
    raw = storage_object(meta={"deletionTimestamp": "2026-01-31T11:59:00Z"})
    for seen in (settled_snapshot(raw), snapshot_of(raw)):
        status = report(Outcome.of(ApplyResult(seen, plan(seen, NOW)), 0, NOW), {})
        assert condition(status, "PodUpToDate") == ("False", "Terminating")


def test_foreign_pod_is_not_in_the_status() -> None:
    raw = storage_object()
    foreign = stored(desired_of(raw).pod, ownerReferences=[])
    status = report(outcome_of(raw, snapshot_of(raw, pod=foreign), Failure(NameConflict("in the way"), 1, NOW)), {})
    assert "podName" not in status
    assert status["replicas"] == 0


def test_deletion_past_its_deadline_is_stalled() -> None:
    raw = storage_object(meta={"deletionTimestamp": "2026-01-31T11:49:00Z"})
    status = report(outcome_of(raw, settled_snapshot(raw)), {})
    assert status["phase"] == "Terminating"
    assert condition(status, "Ready") == ("False", "Terminating")
    assert condition(status, "Stalled") == ("True", "DeletionTimedOut")


def with_terminating_pod(snapshot: Snapshot, *, status: Unstructured | None = None, **meta: Any) -> Snapshot:
    """Return a snapshot with a pod whose grace period ended at 11:59:40, 20 seconds ago."""
    pod = ready_pod(desired_of(storage_object()).pod, deletionTimestamp="2026-01-31T11:59:40Z", **meta)
    pod |= {"spec": pod["spec"] | {"nodeName": "node-1"}, "status": pod["status"] | (status or {})}
    return snapshot.with_children(replace(snapshot.children, pod=pod))


TAINTED = {"type": "DisruptionTarget", "status": "True", "message": "Taint manager: deleting due to NoExecute taint"}


@pytest.mark.parametrize(
    ("status", "meta", "words"),
    [
        ({}, {}, "; it is on node 'node-1'; its grace period ended at 2026-01-31T11:59:40Z"),
        (
            {"conditions": [TAINTED]},
            {"deletionGracePeriodSeconds": 30},
            (
                "; it is on node 'node-1'; it was disrupted: Taint manager: deleting due to NoExecute taint"
                "; its grace period ended at 2026-01-31T11:59:40Z"
            ),
        ),
        (
            {},
            {"deletionGracePeriodSeconds": 0, "finalizers": ["foregroundDeletion"]},
            "; it is on node 'node-1'; it waits only for the garbage collector",
        ),
        (
            {},
            {"deletionGracePeriodSeconds": 0, "finalizers": ["foregroundDeletion", "example.org/held"]},
            "; it is on node 'node-1'; finalizers of other controllers keep it: example.org/held",
        ),
    ],
    ids=["overdue", "node lost", "garbage collection overdue", "held by other finalizers"],
)
def test_terminating_pod_is_reported_with_node_and_cause(status: Unstructured, meta: Unstructured, words: str) -> None:
    raw, suspended, deleted = storage_object(), storage_object(replicas=0), storage_object(meta={"deletionTimestamp": CREATED})

    def message(raw: Unstructured, condition_type: str) -> str:
        reported = report(outcome_of(raw, with_terminating_pod(settled_snapshot(raw), status=status, **meta)), {})
        return next(str(entry["message"]) for entry in reported["conditions"] if entry["type"] == condition_type)

    assert message(raw, "Ready") == f"the old pod must terminate before a new one is created{words}"
    assert message(suspended, "Suspended") == f"spec.replicas is 0; the pod is being stopped{words}"
    assert message(deleted, "Reconciling") == f"waiting for the pod to terminate{words}"


@pytest.mark.parametrize("meta", [{}, {"deletionGracePeriodSeconds": 0, "finalizers": ["foregroundDeletion"]}])
def test_steps_of_timely_termination_give_one_message(meta: Unstructured) -> None:
    snapshot = settled_snapshot(storage_object(replicas=0))
    pod = ready_pod(desired_of(storage_object()).pod, deletionTimestamp="2026-01-31T11:59:51Z", **meta)
    outcome = outcome_of(storage_object(replicas=0), snapshot.with_children(replace(snapshot.children, pod=pod)))
    [suspended] = [entry for entry in report(outcome, {})["conditions"] if entry["type"] == "Suspended"]
    assert suspended["message"] == "spec.replicas is 0; the pod is being stopped"
    assert conditions.overdue_at(outcome) == NOW + timedelta(seconds=1)


def test_deletion_waiting_for_garbage_collector_is_reported() -> None:
    raw = storage_object(meta={"deletionTimestamp": CREATED})
    collectable = with_terminating_pod(settled_snapshot(raw), deletionGracePeriodSeconds=0, finalizers=["foregroundDeletion"])
    reported = report(outcome_of(raw, collectable), {})
    assert (reported["phase"], condition(reported, "Reconciling")) == ("Terminating", ("True", "WaitingForGarbageCollection"))


@pytest.mark.parametrize("replicas", [0, 1])
def test_pod_that_does_not_terminate_stalls_live_storage(replicas: int) -> None:
    raw = storage_object(replicas=replicas, lifecycle={"deletionTimeout": "20s"})
    late = outcome_of(raw, with_terminating_pod(settled_snapshot(raw)))
    reported = report(late, {})
    assert (reported["phase"], condition(reported, "Stalled")) == ("Failed", ("True", "DeletionTimedOut"))
    assert "'node-1'" in next(entry["message"] for entry in reported["conditions"] if entry["type"] == "Stalled")
    in_time = report(replace(late, now=NOW - timedelta(seconds=1)), {})
    assert condition(in_time, "Stalled") == ("False", "NotStalled")


def test_foreign_terminating_pod_is_a_name_conflict_and_no_timeout() -> None:
    raw = storage_object(lifecycle={"deletionTimeout": "1s"})
    failure = Failure(NameConflict("in the way"), 1, NOW)
    status = report(outcome_of(raw, with_terminating_pod(settled_snapshot(raw), ownerReferences=[]), failure), {})
    assert condition(status, "Stalled") == ("True", "NameConflict")


def test_every_reported_reason_is_listed_in_api_reasons() -> None:
    raw = storage_object()
    snapshots = [snapshot_of(raw), settled_snapshot(raw)]
    failures = [
        None,
        Failure(NameConflict("x"), 1, NOW),
        Failure(Unavailable(0, "x"), 1, NOW),
        Failure(Refused(403, "x"), 1, NOW),
    ]
    for snapshot in snapshots:
        for failure in failures:
            for hold in (None, "PodBackoff", "StorageNotReady"):
                for entry in report(outcome_of(raw, snapshot, failure, hold), {})["conditions"]:
                    assert entry["reason"] in REASONS[entry["type"]]


def test_node_clock_behind_gives_no_negative_startup_time() -> None:
    raw = storage_object()
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-31T11:58:57Z"}
    status = report(outcome_of(raw, with_pod_status(settled_snapshot(raw), {"conditions": [ready]})), {})
    assert (status["readyTime"], status["startupSeconds"]) == ("2026-01-31T11:58:57Z", 0)


def test_pod_without_ready_transition_time_is_ready() -> None:
    raw, ready = storage_object(), {"type": "Ready", "status": "True"}
    status = report(outcome_of(raw, with_pod_status(settled_snapshot(raw), {"conditions": [ready]})), {})
    assert condition(status, "Ready") == ("True", "PodReady")
    assert {"readyTime", "startupSeconds"}.isdisjoint(status)


def test_pod_without_browser_container_is_reported_without_image() -> None:
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    pod = snapshot.children.pod
    assert pod is not None
    other = pod | {"spec": pod["spec"] | {"containers": [{"name": "sidecar"}]}}
    status = report(outcome_of(raw, snapshot.with_children(replace(snapshot.children, pod=other))), {})
    assert status["podName"] == "user-storage-alice"
    assert "image" not in status


def test_last_error_with_missing_fields_is_written_again() -> None:
    raw = storage_object()
    outcome = outcome_of(raw, snapshot_of(raw), Failure(Unavailable(503, "try later"), 1, NOW))
    assert report(outcome, {"lastError": {}})["lastError"]["time"] == "2026-01-31T12:00:00Z"
    assert report(outcome, {"lastError": {"reason": "APIUnavailable", "message": "try later"}})["lastError"]["attempts"] == 1


TIMES = st.integers(-86400, 86400).map(lambda seconds: format_time(NOW + timedelta(seconds=seconds)))
WORDS = st.sampled_from(["", "Failed", "zwei\nZeilen", "x" * 2048])
COUNTS = st.integers(0, 2**31 - 1)
STATUSES = st.sampled_from(["True", "False", "Unknown"])
POD_CONDITIONS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["Ready", "PodScheduled", "DisruptionTarget"]), "status": STATUSES},
        optional={"lastTransitionTime": TIMES, "reason": st.just("Unschedulable"), "message": WORDS},
    ),
    unique_by=lambda entry: entry["type"],
)
ENDED = st.fixed_dictionaries({"exitCode": st.integers(0, 255)}, optional={"reason": st.just("OOMKilled"), "message": WORDS})
STATES: st.SearchStrategy[Unstructured] = st.one_of(
    st.fixed_dictionaries({"waiting": st.fixed_dictionaries({}, optional={"reason": WORDS, "message": WORDS})}),
    st.fixed_dictionaries({"terminated": ENDED}),
    st.just({}),
)
CONTAINERS = st.fixed_dictionaries(
    {"name": st.just("filebrowser"), "ready": st.booleans(), "restartCount": COUNTS},
    optional={"state": STATES, "lastState": st.fixed_dictionaries({}, optional={"terminated": ENDED})},
)
PODS = st.fixed_dictionaries(
    {
        "meta": st.fixed_dictionaries(
            {"creationTimestamp": TIMES},
            optional={
                "deletionTimestamp": TIMES,
                "deletionGracePeriodSeconds": COUNTS,
                "finalizers": st.lists(st.sampled_from(["foregroundDeletion", "example.org/held"]), unique=True),
                "annotations": st.fixed_dictionaries(
                    {}, optional={"userstorage.dev/pod-hash": WORDS, "userstorage.dev/base-path": WORDS}
                ),
            },
        ),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "nodeName": st.just("node-1"),
                "containers": st.lists(st.fixed_dictionaries({"name": st.just("filebrowser")}, optional={"image": WORDS})),
            },
        ),
        "status": st.fixed_dictionaries(
            {}, optional={"phase": WORDS, "conditions": POD_CONDITIONS, "containerStatuses": st.lists(CONTAINERS, max_size=1)}
        ),
    }
)
CLAIMS = st.fixed_dictionaries(
    {},
    optional={
        "phase": st.sampled_from(["Pending", "Bound", "Lost"]),
        "capacity": st.fixed_dictionaries({}, optional={"storage": st.just("5Gi")}),
        "conditions": st.lists(st.fixed_dictionaries({"type": WORDS, "status": STATUSES}, optional={"message": WORDS})),
    },
)
STATUS_SCHEMA = schema("userstorages")["properties"]["status"]


@given(
    st.integers(0, 1),
    st.booleans(),
    PODS,
    CLAIMS,
    st.sampled_from([None, *NON_BLOCKING, Failure(NameConflict("x" * 2000), 1, NOW)]),
)
def test_status_of_any_snapshot_is_valid_by_the_schema(
    replicas: int, deleted: bool, pod: Unstructured, claim: Unstructured, failure: Failure | None
) -> None:
    """Validate the status against the schema: one refused value would block all updates of the status while it lasts."""
    raw = storage_object(replicas=replicas, meta={"deletionTimestamp": CREATED} if deleted else {})
    desired = desired_of(raw)
    live = stored(desired.pod, **pod["meta"])
    snapshot = snapshot_of(
        raw,
        pod=live | {"spec": live["spec"] | pod["spec"], "status": pod["status"]},
        pvc=stored(desired.pvc or {}) | {"status": claim},
        service=stored(desired.service),
    )
    jsonschema.validate(report(outcome_of(raw, snapshot, failure), {}), STATUS_SCHEMA)
