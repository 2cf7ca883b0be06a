"""Many users all become Ready and then cause no more writes, also if the operator is killed in between."""

import json
import re
import time
from typing import Any

import pytest

from support.kubectl import PATIENCE, Kubectl, eventually, until_unchanged
from support.operator_account import WRITES, audit_log
from support.operator_process import OperatorProcess

pytestmark = [pytest.mark.kwok]

SETTLE_SECONDS = 3 * PATIENCE
"""Bound for all users together: many pods take longer than the one for which PATIENCE is meant."""
SWEEP_SECONDS = 5
QUIET_SECONDS = 2 * SWEEP_SECONDS
"""Seconds without a write after which nothing is left to write once all users are reported: two sweeps reconcile each of them."""
OURS = ("userstorages", "pods", "services", "networkpolicies", "persistentvolumeclaims", "events")
REQUESTS = re.compile(
    r'apiserver_request_total\{[^}]*[,{]resource="(\w+)"[^}]*verb="(?:POST|PUT|PATCH|APPLY|DELETE)"[^}]*\} (\S+)'
)


def users(count: int) -> list[dict[str, Any]]:
    return [
        {"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "metadata": {"name": f"u{n}"}, "spec": {"userID": f"u{n}"}}
        for n in range(count)
    ]


def writes(api: Kubectl) -> dict[str, float]:
    """Return the number of writes by resource, from the API server's metrics, without the heartbeats in leases and nodes."""
    counted = dict.fromkeys(OURS, 0.0)
    for resource, value in REQUESTS.findall(api.raw("/metrics")):
        if resource in counted:
            counted[resource] += float(value)
    return counted


def operators_writes(api: Kubectl) -> int:
    """Return the operator's writes, from the audit log: other clients may write because other namespaces terminate."""
    with audit_log(api).open() as log:
        events = [json.loads(line) for line in log if '"userstorage-operator"' in line]
    return sum(event["userAgent"] == "userstorage-operator" and event["verb"] in WRITES for event in events)


def reported(api: Kubectl, namespace: str) -> int:
    """Return the number of users of whom all is reported: the pod is ready, and the details of the claim, which may come later."""
    found = [raw.get("status", {}) for raw in api.list_all("userstorages", namespace)]
    return sum(each.get("phase") == "Ready" and each["storage"].get("claimPhase") == "Bound" for each in found)


def comparable_state(api: Kubectl, namespace: str) -> str:
    """Return the namespace's objects as JSON, without values that differ between runs, such as uids, times and addresses."""
    volatile = re.compile(
        r'"(uid|resourceVersion|creationTimestamp|lastTransitionTime|startTime|startedAt|readyTime|startupSeconds|podUID|'
        r"userstorage\.dev/uid|podIP|ip|hostIP|nodeName|nodeIP|clusterIP|volumeName|namespace|url)\": (\"[^\"]*\"|[0-9]+)"
    )
    kinds = "userstorages,pods,services,networkpolicies,persistentvolumeclaims"
    items = json.loads(api.run("get", kinds, "-n", namespace, "-o", "json").stdout)["items"]
    for item in items:
        item["spec"].pop("clusterIPs", None)
        item["metadata"].pop("managedFields", None)
        item["metadata"].get("annotations", {}).pop("kubectl.kubernetes.io/last-applied-configuration", None)
    items.sort(key=lambda item: (item["kind"], item["metadata"]["name"]))
    return volatile.sub(r'"\1": "masked"', json.dumps(items, sort_keys=True).replace(namespace, "ns"))


@pytest.fixture
def operator_options() -> tuple[str, ...]:
    return (f"--sweep-period={SWEEP_SECONDS}",)


@pytest.mark.timeout(1200)
def test_many_users_become_ready_and_writes_stop_also_after_kills(
    api: Kubectl, namespace: str, operator: OperatorProcess, many: int
) -> None:
    manifests = json.dumps({"apiVersion": "v1", "kind": "List", "items": users(many)})
    operator.start()
    api.run("create", "-n", namespace, "-f", "-", input=manifests)
    eventually(lambda: reported(api, namespace) == many, within=SETTLE_SECONDS, every=2)
    until_unchanged(lambda: writes(api), QUIET_SECONDS, within=SETTLE_SECONDS)
    unharmed = comparable_state(api, namespace)
    claims = {raw["metadata"]["uid"] for raw in api.list_all("pvc", namespace)}
    api.run("delete", "us", "--all", "-n", namespace, "--wait=false")
    for _ in range(3):
        time.sleep(0.7)
        operator.kill()
        operator.start()
    eventually(lambda: not api.list_all("userstorages", namespace), within=SETTLE_SECONDS, every=2)
    eventually(lambda: not api.list_all("pods", namespace), every=2)
    eventually(lambda: not api.list_all("services", namespace), every=2)

    api.run("create", "-n", namespace, "-f", "-", input=manifests)
    for _ in range(3):
        time.sleep(1)
        operator.kill()
        operator.start()
    eventually(lambda: reported(api, namespace) == many, within=SETTLE_SECONDS, every=2)
    until_unchanged(lambda: writes(api), QUIET_SECONDS, within=SETTLE_SECONDS)
    assert comparable_state(api, namespace) == unharmed
    assert {raw["metadata"]["uid"] for raw in api.list_all("pvc", namespace)} == claims
    pods = api.list_all("pods", namespace)
    assert len(pods) == many
    before = operators_writes(api)
    operator.kill()
    operator.start()
    time.sleep(SWEEP_SECONDS)
    assert before > 0
    assert operators_writes(api) == before
