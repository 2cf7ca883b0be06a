"""Three replicas of which one leads: their isolation, a first user, and a rolling restart during a burst."""

import itertools
import json
from collections import Counter
from datetime import datetime
from typing import Any

from support.installation import ROOT, SYSTEM, Installation
from support.kubectl import eventually

COUNT = 100
BEFORE_RESTART = 60
"""Number of users created before the restart. The others are created once another replica leads, about when the last pod is
replaced.
"""
RUNNING = range(0, COUNT, 10)
"""Users with a pod. Pods are real containers and the machine is busy, so the other users are suspended: they have everything but
a pod.
"""

Object = dict[str, Any]


def test_replicas_run_unprivileged_on_read_only_root(installation: Installation) -> None:
    assert len(installation.pods()) == 3
    namespace = json.loads(installation.kubectl.run("get", "namespace", SYSTEM, "-o", "json").stdout)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    leader = installation.leader()
    assert leader in {pod["metadata"]["name"] for pod in installation.pods()}

    assert installation.exec(leader, "id", "-u") == (0, "65532")
    code, output = installation.exec(leader, "touch", "/opt/operator/evil")
    assert code != 0
    assert "Read-only file system" in output
    for program in ("pip", "uv", "gcc", "cc"):
        assert installation.exec(leader, "sh", "-c", f"command -v {program}") == (
            127,
            "command terminated with exit code 127",
        )
    code, output = installation.exec(leader, "python", "-m", "pip", "--version")
    assert code != 0
    assert "No module named pip" in output


def test_new_user_becomes_ready(installation: Installation, user_namespace: str) -> None:
    installation.kubectl.run("apply", "-n", user_namespace, "-f", str(ROOT / "examples/alice.yaml"))
    eventually(lambda: installation.kubectl.phase("alice", user_namespace) == "Ready")
    code, output = installation.exec(installation.leader(), "userstorage-operator", "cache")
    assert code == 0, output
    assert "drift: none" in output


def test_rolling_restart_during_burst_leaves_no_user_unserved(installation: Installation, user_namespace: str) -> None:
    before = {pod["metadata"]["name"] for pod in installation.pods()}
    terms = term(installation)
    create_users(installation, user_namespace, range(BEFORE_RESTART))
    installation.system("rollout", "restart", "deployment/userstorage-operator")
    assert count_phases(installation, user_namespace).total() < BEFORE_RESTART, (
        "all users were served before the restart, so this test proves nothing"
    )
    eventually(lambda: term(installation) > terms)
    create_users(installation, user_namespace, range(BEFORE_RESTART, COUNT))
    installation.until_rolled_out()
    assert not before & {pod["metadata"]["name"] for pod in installation.pods()}

    expected = Counter({"Ready": len(RUNNING), "Suspended": COUNT - len(RUNNING)})
    eventually(lambda: count_phases(installation, user_namespace) == expected, every=2)
    pods = installation.kubectl.list_all("pods", user_namespace)
    assert {pod["metadata"]["name"] for pod in pods} == {f"user-storage-u{number}" for number in RUNNING}
    assert len(installation.kubectl.list_all("services", user_namespace)) == COUNT
    assert len(installation.kubectl.list_all("persistentvolumeclaims", user_namespace)) == COUNT

    written = writes(installation, user_namespace)
    assert sum(is_new_pod(entry) for entry in written) == len(RUNNING), "a pod was created more than once"
    spans = spans_of(written)
    assert len(spans) > 1, "one replica wrote everything, so this test proves nothing"
    assert all(first[1] < second[0] for first, second in itertools.pairwise(spans)), "two replicas wrote at the same time"


def create_users(installation: Installation, namespace: str, numbers: range) -> None:
    """Create users, all at once."""
    items = [
        {
            "apiVersion": "userstorage.dev/v1",
            "kind": "UserStorage",
            "metadata": {"name": f"u{number}"},
            "spec": {"userID": f"u{number}", "replicas": int(number in RUNNING), "storage": {"size": "1Mi"}},
        }
        for number in numbers
    ]
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    installation.kubectl.run("create", "-n", namespace, "-f", "-", input=body)


def count_phases(installation: Installation, namespace: str) -> Counter[str]:
    """Count the phases of the users whose status is about their current generation."""
    found = installation.kubectl.list_all("userstorages", namespace)
    reported = [(raw["metadata"]["generation"], raw.get("status", {})) for raw in found]
    return Counter(status["phase"] for generation, status in reported if status.get("observedGeneration") == generation)


def term(installation: Installation) -> int:
    lease = installation.kubectl.get("lease", "userstorage-operator", SYSTEM)
    assert lease is not None
    return int(lease["spec"]["leaseTransitions"])


def writes(installation: Installation, namespace: str) -> list[Object]:
    """Return the operator's writes in the namespace, from the audit log; each names the pod that made it."""
    with (installation.directory / "logs/audit.jsonl").open() as log:
        entries = [json.loads(line) for line in log]
    return [
        entry
        for entry in entries
        if entry["user"]["username"] == f"system:serviceaccount:{SYSTEM}:userstorage-operator"
        and entry["verb"] in {"create", "update", "patch", "delete"}
        and entry.get("objectRef", {}).get("namespace") == namespace
    ]


def is_new_pod(entry: Object) -> bool:
    reference = entry["objectRef"]
    return (entry["verb"], reference["resource"], entry["responseStatus"]["code"]) == ("create", "pods", 201)


def spans_of(written: list[Object]) -> list[tuple[datetime, datetime]]:
    """Return the times of the first and last write of each replica that wrote, in order."""
    times: dict[str, list[datetime]] = {}
    for entry in written:
        [writer] = entry["user"]["extra"]["authentication.kubernetes.io/pod-name"]
        times.setdefault(writer, []).append(datetime.fromisoformat(entry["requestReceivedTimestamp"]))
    return sorted((min(moments), max(moments)) for moments in times.values())
