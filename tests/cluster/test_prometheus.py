"""A real Prometheus on real operators: it scrapes, its rules load, its alerts fire, the dashboard has answers."""

import base64
import json
import shlex
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster import ClusterError
from localcluster.addresses import free_port
from localcluster.prometheus import Prometheus
from localcluster.redis import RedisServer
from monitoring import rules
from support.kubectl import Kubectl, eventually
from support.operator_account import SYSTEM
from support.operator_process import OperatorProcess
from support.operator_replicas import LEASE, free_lease

pytestmark = [pytest.mark.kwok]

SPEEDUP = 100
"""How many times shorter than in production the pauses and windows of the rules are: ten minutes are six seconds."""
SCRAPE = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
LISTED = json.loads((rules.FOLDER / "dashboard.json").read_text())["panels"]
QUERIES = [target["expr"] for panel in LISTED for target in panel.get("targets", ())]


class PrometheusClient:
    """Prometheus with the rules of deploy/monitoring in a hurry."""

    def __init__(self, server: Prometheus) -> None:
        self._server = server

    def query_api(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API."""
        url = f"{self._server.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  # our own http URL
            return json.load(answer)["data"]

    def values(self, query: str) -> list[float]:
        """One number per series."""
        return [float(sample["value"][1]) for sample in self.query_api("query", query=query)["result"]]

    def firing(self) -> dict[str, dict[str, str]]:
        """The annotations of what fires, by name."""
        alerts = self.query_api("alerts")["alerts"]
        return {alert["labels"]["alertname"]: alert["annotations"] for alert in alerts if alert["state"] == "firing"}


@pytest.fixture
def operators(
    api: Kubectl, as_operator: Path, namespace: str, redis_server: RedisServer, tmp_path: Path
) -> Iterator[dict[int, OperatorProcess]]:
    """Two replicas by their port, the first of which leads."""
    free_lease(api)
    several = {}
    for port in (free_port(), free_port()):
        options = [f"--namespace={namespace}", f"--http-port={port}", "--leader-elect", f"--redis-url={redis_server.url}"]
        options.append("--metrics-auth")
        several[port] = OperatorProcess(as_operator, tmp_path / f"operator-{port}.log", *options)
    first, second = several.values()
    first.start()
    second.launch()
    yield several
    for process in several.values():
        process.stop()
        print(process.log.read_text()[-4000:])  # noqa: T201  # shown with a failure
    api.run("delete", "lease", LEASE, "-n", SYSTEM, "--ignore-not-found")


@pytest.fixture
def token(api: Kubectl) -> str:
    """What Prometheus is let in with."""
    api.run("apply", "-f", str(rules.FOLDER.parent / "metrics-auth/reader.yaml"))
    secret = ["get", "secret", "userstorage-metrics-reader", "-n", SYSTEM, "-o", "jsonpath={.data.token}"]
    return base64.b64decode(eventually(lambda: api.run(*secret).stdout)).decode()


@pytest.fixture
def prometheus(operators: dict[int, OperatorProcess], token: str, tmp_path: Path) -> Iterator[PrometheusClient]:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules.hurried(SPEEDUP)))
    targets = [{"targets": [f"127.0.0.1:{port}" for port in operators]}]
    config = {
        "global": SCRAPE,
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {
                "job_name": "userstorage-operator",
                "authorization": {"credentials": token},
                "static_configs": targets,
            }
        ],
    }
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    try:
        server = Prometheus(tmp_path / "prometheus", tmp_path / "prometheus.yaml").start()
    except ClusterError as error:
        pytest.skip(str(error)) if "to be had" in str(error) else pytest.fail(str(error))
    yield PrometheusClient(server)
    server.stop()


def user(namespace: str, name: str, **spec: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "metadata": metadata, "spec": {"userID": name, **spec}}


def run_next_command(api: Kubectl, alert: str) -> str:
    """What the command prints that the alert tells people to type."""
    command = rules.rules("alert")[alert]["annotations"]["description"].partition("Next: ")[2]
    script = f'kubectl() {{ {shlex.join(api.command())} "$@"; }}; {command}'
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout


def expect_alert(prometheus: PrometheusClient, alert: str) -> None:
    annotations = eventually(lambda: prometheus.firing().get(alert), within=40)
    assert annotations is not None
    assert all(text and "<error" not in text for text in annotations.values()), "a template cannot be filled in"


def test_alerts_fire_only_for_failures(
    api: Kubectl, namespace: str, redis_server: RedisServer, operators: dict[int, OperatorProcess], prometheus: PrometheusClient
) -> None:
    api.apply(user(namespace, "alice"))
    eventually(lambda: api.phase("alice", namespace) == "Ready")
    eventually(lambda: prometheus.values("sum(up)") == [2])
    eventually(lambda: prometheus.values("sum(userstorage_leader)") == [1])
    eventually(lambda: prometheus.values("max(userstorage_objects{phase='Ready'})") == [1])
    # Whatever began before the operators had, has ended.
    eventually(lambda: not prometheus.firing())

    loaded = [rule for group in prometheus.query_api("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in loaded} == {*rules.rules("alert"), *rules.rules("record")}
    eventually(
        lambda: all(rule["health"] == "ok" for group in prometheus.query_api("rules")["groups"] for rule in group["rules"])
    )

    # A rate needs two scrapes within its window, which is short here: on a busy machine the second may be late.
    waiting = list(QUERIES)

    def answered() -> bool:
        waiting[:] = [query for query in waiting if not prometheus.values(query)]
        return not waiting

    eventually(answered)

    api.apply(user(namespace, "bob", className="no-such-class"))
    expect_alert(prometheus, "UserStorageLongNotReady")
    for alert in ("UserStorageLongNotReady", "UserStorageStalled"):
        told = run_next_command(api, alert)
        assert "bob" in told
        assert "ClassNotFound" in told
    # Of this namespace: those of tests before may still be on their way out.
    ours = [line for line in run_next_command(api, "UserStorageLongNotReady").splitlines() if line.startswith(namespace)]
    assert len(ours) == 1, ours
    assert "bob" in ours[0]
    assert "SINCE" in run_next_command(api, "UserStorageDeletionOverdue")
    assert "holderIdentity: " in run_next_command(api, "UserStorageNoLeader")
    assert "etcd ok" in run_next_command(api, "UserStorageReconcileSlow")
    api.run("delete", "us", "--all", "-n", namespace, "--timeout=60s")
    eventually(lambda: "UserStorageLongNotReady" not in prometheus.firing(), within=30)

    assert "UserStorageRedisDown" not in prometheus.firing()
    redis_server.kill()
    expect_alert(prometheus, "UserStorageRedisDown")

    assert "UserStorageOperatorDown" not in prometheus.firing()
    for process in operators.values():
        assert process.stop() == 0
    expect_alert(prometheus, "UserStorageOperatorDown")
