"""The reading of an audit log by the workload of the Redis proof."""

import json
from pathlib import Path

import pytest

from support.kubectl import Kubectl
from support.operator_account import audit_log
from support.redis_workload import AuditLog

OPERATOR, KWOK = "userstorage-operator", "kwok/v0.8.0"


@pytest.mark.parametrize(
    ("events", "unasked"),
    [
        ([(1, "create", OPERATOR), (2, "delete", OPERATOR), (3, "delete", KWOK), (4, "create", OPERATOR)], 0),
        (
            [
                (1, "create", OPERATOR),
                (2, "delete", OPERATOR),
                (3, "delete", KWOK),
                (4, "create", OPERATOR),
                (5, "delete", KWOK),
            ],
            1,
        ),
        ([(1, "create", OPERATOR), (3, "delete", KWOK), (2, "delete", OPERATOR)], 0),  # lines are in the order of the responses
    ],
    ids=["asked", "repeated", "answered-late"],
)
def test_pods_that_kwok_deletes_unasked_are_counted(tmp_path: Path, events: list[tuple[int, str, str]], unasked: int) -> None:
    api = Kubectl(tmp_path / "kubeconfig")
    path = audit_log(api)
    path.parent.mkdir()
    path.touch()
    log = AuditLog(api, "users")
    with path.open("w") as lines:
        for second, verb, agent in events:
            time = f"2026-01-31T10:00:0{second}Z"
            event = {
                "verb": verb,
                "userAgent": agent,
                "objectRef": {"resource": "pods", "namespace": "users", "name": "user-storage-alice"},
                "responseStatus": {"code": 200},
                "requestReceivedTimestamp": time,
                "stageTimestamp": time,
            }
            lines.write(json.dumps(event, separators=(",", ":")) + "\n")
    log.read()
    assert log.unasked() == unasked
    assert log.writes.total() == sum(agent == OPERATOR for _, _, agent in events)
