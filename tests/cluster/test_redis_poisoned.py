"""Poisoned values in Redis, with a leader and a standby replica as processes."""

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.backend import account
from support.kubectl import Kubectl, eventually
from support.operator_process import PROGRAM
from support.operator_replicas import OperatorReplicas, Replica, replicas
from support.redis_workload import AuditLog, listed, metric, user
from testservers.redis import RedisServer
from userstorage_operator.readmodel.summary import summary
from userstorage_operator.redis_cache.keys import Keys

pytestmark = [pytest.mark.kwok]

KEYS = Keys("default")
REJECTED = "userstorage_cache_rejected_total"


@pytest.fixture
def two(api: Kubectl, namespace: str, redis_server: RedisServer, tmp_path: Path) -> Iterator[OperatorReplicas]:
    with replicas(api, tmp_path, namespace, 2, [f"--redis-url={redis_server.url}"]) as several:
        yield several
    command = [PROGRAM, "release-finalizers", f"--namespace={namespace}"]
    subprocess.run(command, env={**os.environ, "KUBECONFIG": str(api.kubeconfig)}, capture_output=True, check=True, timeout=120)


def served_by(replica: Replica, namespace: str, token: str) -> Any:
    """Return the summary of alice that a replica serves."""
    url = f"http://127.0.0.1:{replica.port}/v1/namespaces/{namespace}/userstorages/alice"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})  # the URL is built above
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  # as above
        return json.loads(answer.read())["item"]


def poison(server: RedisServer, kind: str, alice: str, bob: str) -> str:
    """Replace alice's summary in Redis. Return the reason with which it must be rejected."""
    key, good = KEYS.summary(alice), server.cli("get", KEYS.summary(alice))
    match kind:
        case "of another object":
            server.cli("set", key, server.cli("get", KEYS.summary(bob)))
            return "other_object"
        case "of a future generation":
            _, seal, body = good.split(" ", 2)
            later = body.replace('"generation":1', '"generation":9')
            server.cli("set", key, f"99999999 {seal} {later}")
            return "seal"
        case "garbage":
            server.cli("set", key, "garbage")
            return "garbage"
        case _:
            server.cli("del", key)
            server.cli("setrange", key, str(10 * 1024 * 1024), "x")
            return "too_big"


def test_poisoned_values_are_counted_and_neither_served_nor_acted_on(
    api: Kubectl, namespace: str, two: OperatorReplicas, redis_server: RedisServer
) -> None:
    leader = two.leader()
    [standby] = [replica for replica in two.running if replica is not leader]
    api.run("create", "-n", namespace, "-f", "-", input=listed([user("alice"), user("bob")]))
    eventually(lambda: api.phase("alice", namespace) == api.phase("bob", namespace) == "Ready")
    truth, bob = api.get("us", "alice", namespace), api.get("us", "bob", namespace)
    assert truth is not None
    assert bob is not None
    token = account(api, namespace, here=True)
    eventually(lambda: served_by(standby, namespace, token) == summary(truth))
    log = AuditLog(api, namespace)
    for kind in ("of another object", "of a future generation", "garbage", "10 MiB"):
        counted = metric(standby.port, REJECTED)
        reason = poison(redis_server, kind, truth["metadata"]["uid"], bob["metadata"]["uid"])

        def rejected() -> bool:
            assert served_by(standby, namespace, token) == summary(truth)
            return metric(standby.port, REJECTED) > counted  # noqa: B023  # called within the same turn

        eventually(rejected, every=0.05)
        assert metric(standby.port, f'{REJECTED}{{reason="{reason}"}}') > 0
        assert served_by(leader, namespace, token) == summary(truth)
    log.read()
    assert not log.writes
    assert api.get("us", "alice", namespace) == truth
