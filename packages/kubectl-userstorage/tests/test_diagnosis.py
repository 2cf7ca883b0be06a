"""What `doctor` concludes."""

from datetime import UTC, datetime
from typing import Any

import pytest

from kubectl_userstorage import diagnosis
from kubectl_userstorage.diagnosis import State

NOW = datetime(2026, 1, 1, 12, 0, 10, tzinfo=UTC)
PODS = [{"metadata": {"name": "operator-1"}, "spec": {"containers": [{"image": "operator:1"}]}}]


@pytest.mark.parametrize(
    ("version", "state"),
    [("v1.36.1", State.OK), ("v1.32.0-eks-1", State.OK), ("v1.31.9", State.FAILED), ("what", State.UNKNOWN)],
)
def test_kubernetes_version(version: str, state: State) -> None:
    assert diagnosis.kubernetes(version).state is state


def crd(*, served: bool = True, established: str = "True", **meta: Any) -> dict[str, Any]:
    return {
        "metadata": meta,
        "spec": {"versions": [{"name": "v1", "served": served}]},
        "status": {"conditions": [{"type": "Established", "status": established}]},
    }


@pytest.mark.parametrize(
    ("raw", "state"),
    [
        (None, State.FAILED),
        (crd(), State.OK),
        (crd(served=False), State.FAILED),
        (crd(established="False"), State.FAILED),
        (crd(deletionTimestamp="2026-01-01T00:00:00Z"), State.FAILED),
    ],
)
def test_definition(raw: dict[str, Any] | None, state: State) -> None:
    assert diagnosis.definition("userstorages.userstorage.dev", raw).state is state


def test_policy_that_no_binding_enforces_is_reported() -> None:
    policy = {"metadata": {"name": "p"}}
    binding = {"spec": {"policyName": "p", "validationActions": ["Deny"]}}
    audit = {"spec": {"policyName": "p", "validationActions": ["Audit"]}}
    wanted = frozenset({"p"})
    assert diagnosis.policies(wanted, [policy], [binding]).state is State.OK
    assert diagnosis.policies(wanted, [policy], [audit]).message == "not enforced, no binding denies: p"
    assert diagnosis.policies(wanted, [], [binding]).message == "not installed: p"


@pytest.mark.parametrize(
    ("holder", "renewed", "state"),
    [
        ("operator-1_x", "2026-01-01T12:00:08.000000Z", State.OK),
        ("operator-1_x", "2026-01-01T11:59:00.000000Z", State.FAILED),
        ("laptop_x", "2026-01-01T12:00:08.000000Z", State.WARNING),
        ("", "2026-01-01T12:00:08.000000Z", State.FAILED),
    ],
)
def test_election(holder: str, renewed: str, state: State) -> None:
    lease = {
        "metadata": {"namespace": "s"},
        "spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15},
    }
    assert diagnosis.election(lease, PODS, NOW).state is state
    assert diagnosis.election(None, PODS, NOW).state is State.FAILED


def test_replica_reports_failing_and_degraded_checks() -> None:
    body = {"status": "failing", "failing": {"crds": "missing"}, "degraded": {"redis": "away"}, "role": "leading"}
    assert [(check.state, check.message) for check in diagnosis.replica("operator-1", "s", body)] == [
        (State.FAILED, "crds: missing"),
        (State.WARNING, "redis: away"),
    ]
    [well] = diagnosis.replica("operator-1", "s", {"failing": {}, "degraded": {}, "role": "leading"})
    assert (well.state, well.message) == (State.OK, "leading")


def test_redis_and_watches_are_read_from_metrics() -> None:
    text = (
        "# HELP userstorage_redis_breaker_state x\n"
        'userstorage_redis_breaker_state{state="closed"} 0.0\n'
        'userstorage_redis_breaker_state{state="open"} 1.0\n'
        'userstorage_watch_silence_seconds{resource="pods"} 3.5\n'
        'userstorage_watch_silence_seconds{resource="services"} 130.0\n'
    )
    redis, watches = diagnosis.metrics("operator-1", "system", text)
    assert (redis.state, redis.message) == (State.WARNING, "circuit breaker open")
    assert redis.next_step == "kubectl userstorage cache --operator-namespace system"
    assert watches.next_step == "kubectl logs operator-1 -n system"
    assert (watches.state, watches.message) == (
        State.WARNING,
        "the quietest of 2 watches, services, was heard 130 s ago",
    )


def test_replicas_of_two_versions_and_a_missing_deployment_are_reported() -> None:
    other = {"metadata": {"name": "operator-2"}, "spec": {"containers": [{"image": "operator:2"}]}}
    assert diagnosis.versions([*PODS, other]).state is State.WARNING
    assert diagnosis.versions(PODS).state is State.OK
    assert diagnosis.deployment("operator", None, "s", is_optional=False).state is State.FAILED
    raw = {
        "metadata": {"name": "operator"},
        "spec": {"replicas": 3, "template": {"spec": {"containers": [{"image": "operator:1"}]}}},
        "status": {"readyReplicas": 2},
    }
    assert diagnosis.deployment("operator", raw, "s", is_optional=False).message == "2 of 3 replicas ready (operator:1)"


def test_gate_wiring_and_enforcement_are_never_claimed() -> None:
    states = {check.name: check.state for check in diagnosis.guards([], [], 3)}
    assert states == {"NetworkPolicies": State.UNKNOWN, "gateways": State.WARNING, "gate wiring": State.UNKNOWN}


def test_missing_rights_of_a_tenant_and_of_an_admin_are_separate_checks() -> None:
    missing = {"team-a": ["list userstorages"], "system": ["get leases"]}
    own, admin = diagnosis.rights(missing, "team-a", "system")
    assert (own.state, own.message) == (State.WARNING, "in namespace team-a you may not list userstorages")
    assert "bind the ClusterRole edit in team-a" in own.next_step
    assert (admin.state, admin.next_step) == (State.UNKNOWN, "")
    assert "get leases" in admin.message
    assert [check.state for check in diagnosis.rights({}, "team-a", "system")] == [State.OK]
    assert len(diagnosis.rights({"system": ["get leases"]}, "system", "system")) == 1
