"""All replicas are restarted at once, again and again."""

import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from support.kubectl import Kubectl, eventually
from support.operator_replicas import assert_never_two, is_work, replicas

pytestmark = [pytest.mark.kwok]

RESTARTS = 20
USERS = 5
"""New ones at each restart."""
CHILDREN = ("networkpolicies", "services", "persistentvolumeclaims", "pods")
"""Of each user."""


def test_replicas_that_are_restarted_at_once_write_one_after_the_other_and_nothing_twice(
    api: Kubectl, namespace: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    names: list[str] = []
    with replicas(api, tmp_path, namespace, 3) as three:
        for number in range(RESTARTS):
            three.leader()
            names += three.create_users(USERS)
            three.replace_all(signal.SIGKILL if number % 4 == 3 else signal.SIGTERM)
        eventually(lambda: _ready(api, namespace) == set(names), every=1)
        writes = three.writes()
    assert_never_two(writes, {})
    created = Counter((write.resource, write.name) for write in writes if write.verb == "create" and write.code == 201)
    assert created == Counter((resource, f"user-storage-{name}") for resource in CHILDREN for name in names)
    leaders = {write.credential for write in writes if is_work(write)}
    record_property("worst", f"{len(leaders)} leaders in {RESTARTS} restarts")


def _ready(api: Kubectl, namespace: str) -> set[str]:
    return {
        raw["metadata"]["name"]
        for raw in api.list_all("userstorages", namespace)
        if raw.get("status", {}).get("phase") == "Ready"
    }
