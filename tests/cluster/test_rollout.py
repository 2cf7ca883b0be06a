"""A new image for the class of many users: there are never more of them unavailable than maxUnavailable allows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.availability import max_unavailable, recorded_pod_events
from support.kubectl import PATIENCE, Kubectl, eventually
from support.operator_process import OperatorProcess

pytestmark = [pytest.mark.kwok]

SETTLE_SECONDS = 3 * PATIENCE
"""Bound for all users together: many pods take longer than the one for which PATIENCE is meant."""
BUDGET = 10
"""Per cent of the users that should run: the default of maxUnavailable."""
DEFERRED = 5
OLD, NEW = "example.org/browser:1", "example.org/browser:2"


def users(class_name: str, count: int) -> list[dict[str, Any]]:
    """Return manifests of all users; the first ones keep their pod until they are suspended."""
    strategies = ["WhenSuspended"] * DEFERRED + ["Immediate"] * (count - DEFERRED)
    return [
        {
            "apiVersion": "userstorage.dev/v1",
            "kind": "UserStorage",
            "metadata": {"name": f"u{n}"},
            "spec": {"userID": f"u{n}", "className": class_name, "lifecycle": {"updateStrategy": strategy}},
        }
        for n, strategy in enumerate(strategies)
    ]


@pytest.fixture
def class_name(api: Kubectl, namespace: str) -> Iterator[str]:
    api.apply(
        {
            "apiVersion": "userstorage.dev/v1",
            "kind": "UserStorageClass",
            "metadata": {"name": namespace},
            "spec": {"browser": {"image": OLD}},
        }
    )
    yield namespace
    api.delete("usc", namespace)


def images(api: Kubectl, namespace: str) -> list[str]:
    return [raw["status"]["image"] for raw in api.list_all("userstorages", namespace) if raw["status"]["phase"] == "Ready"]


@pytest.mark.timeout(1200)
def test_rollout_never_exceeds_max_unavailable(
    api: Kubectl, namespace: str, class_name: str, operator: OperatorProcess, tmp_path: Path, many: int
) -> None:
    operator.start()
    items = {"apiVersion": "v1", "kind": "List", "items": users(class_name, many)}
    api.run("create", "-n", namespace, "-f", "-", input=json.dumps(items))
    eventually(lambda: images(api, namespace) == [OLD] * many, within=SETTLE_SECONDS, every=2)
    pods = {raw["status"]["podName"]: raw["status"]["podUID"] for raw in api.list_all("us", namespace)}
    with recorded_pod_events(api, namespace, tmp_path / "pods.json"):
        api.run("patch", "usc", class_name, "--type=merge", "-p", json.dumps({"spec": {"browser": {"image": NEW}}}))
        eventually(lambda: images(api, namespace).count(NEW) >= (many - DEFERRED) // 2, within=SETTLE_SECONDS, every=1)
        operator.kill()  # a restart must not exceed the budget
        operator.start()
        eventually(lambda: images(api, namespace).count(NEW) == many - DEFERRED, within=SETTLE_SECONDS, every=1)
    most = max_unavailable(tmp_path / "pods.json", set(pods))
    print(f"at most {most} of {many} users were unavailable at the same time")  # noqa: T201  # shown with -s
    assert 0 < most <= many * BUDGET // 100
    for number in range(DEFERRED):
        found = api.get("us", f"u{number}", namespace)
        assert found is not None
        assert found["status"]["podUID"] == pods[f"user-storage-u{number}"]
        [freshness] = [entry for entry in found["status"]["conditions"] if entry["type"] == "PodUpToDate"]
        assert freshness["reason"] == "UpdateDeferred"
    for replicas in (0, 1):
        api.run("scale", "us", *(f"u{number}" for number in range(DEFERRED)), "-n", namespace, f"--replicas={replicas}")
        wanted = many - DEFERRED * (1 - replicas)
        eventually(lambda wanted=wanted: len(images(api, namespace)) == wanted, every=1)  # type: ignore[misc]
    assert images(api, namespace) == [NEW] * many
