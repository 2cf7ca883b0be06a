"""A real Prometheus scrapes real operators: the rules load, the alerts fire, and every query of the dashboard has results."""

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
from monitoring import rules
from monitoring.panels import with_everything_selected
from support.kubectl import COMMAND_TIMEOUT, PATIENCE, WAIT, Kubectl, eventually
from support.operator_account import SYSTEM
from support.operator_process import OperatorProcess
from support.operator_replicas import LEASE, free_lease
from testservers.prometheus import Prometheus
from testservers.redis import RedisServer

pytestmark = [pytest.mark.kwok]

SPEEDUP = 100
"""The factor by which the pauses and windows of the rules are shorter than in production: ten minutes become six seconds."""
SCRAPE = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
LISTED = json.loads((rules.FOLDER / "dashboard.json").read_text())["panels"]
QUERIES = [with_everything_selected(target["expr"]) for panel in LISTED for target in panel.get("targets", ())]


class PrometheusClient:
    """A Prometheus server with the rules of deploy/monitoring, sped up."""

    def __init__(self, server: Prometheus) -> None:
        self._server = server

    def query_api(self, path: str, **parameters: str) -> Any:
        """Return the data of a response of its HTTP API."""
        url = f"{self._server.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:  # noqa: S310  # our own http URL
            return json.load(response)["data"]

    def values(self, query: str) -> list[float]:
        """Return the current value of each series of the query."""
        return [float(sample["value"][1]) for sample in self.query_api("query", query=query)["result"]]

    def firing(self) -> dict[str, dict[str, str]]:
        """Return the annotations of each firing alert, by alert name."""
        alerts = self.query_api("alerts")["alerts"]
        return {alert["labels"]["alertname"]: alert["annotations"] for alert in alerts if alert["state"] == "firing"}


@pytest.fixture
def operators(
    api: Kubectl, as_operator: Path, namespace: str, redis_server: RedisServer, tmp_path: Path
) -> Iterator[dict[int, OperatorProcess]]:
    """Two replicas by their port; the first one leads."""
    free_lease(api)
    options = [f"--namespace={namespace}", "--leader-elect", f"--redis-url={redis_server.url}", "--metrics-auth"]
    one, other = free_port(), free_port()
    with (
        OperatorProcess(as_operator, tmp_path / "first.log", f"--http-port={one}", *options) as first,
        OperatorProcess(as_operator, tmp_path / "second.log", f"--http-port={other}", *options) as second,
    ):
        first.start()
        second.launch()
        yield {one: first, other: second}
    api.delete("lease", LEASE, namespace=SYSTEM)


@pytest.fixture
def token(api: Kubectl) -> str:
    """The token with which Prometheus reads the metrics."""
    api.run("apply", "-f", str(rules.FOLDER.parent / "metrics-auth/reader.yaml"))
    secret = ["get", "secret", "userstorage-metrics-reader", "-n", SYSTEM, "-o", "jsonpath={.data.token}"]
    return base64.b64decode(eventually(lambda: api.run(*secret).stdout)).decode()


@pytest.fixture
def prometheus(operators: dict[int, OperatorProcess], token: str, tmp_path: Path) -> Iterator[PrometheusClient]:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules.accelerated(SPEEDUP)))
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
    """Run the command that the alert's description gives as the next step, and return its output."""
    command = rules.rules("alert")[alert]["annotations"]["description"].partition("Next: ")[2]
    script = f'kubectl() {{ {shlex.join(api.command())} "$@"; }}; {command}'
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=COMMAND_TIMEOUT).stdout


def expect_alert(prometheus: PrometheusClient, alert: str) -> None:
    annotations = eventually(lambda: prometheus.firing().get(alert))
    assert annotations is not None
    assert all(text and "<error" not in text for text in annotations.values()), "a template of an annotation failed"


def test_alerts_fire_only_for_failures(
    api: Kubectl, namespace: str, redis_server: RedisServer, operators: dict[int, OperatorProcess], prometheus: PrometheusClient
) -> None:
    api.apply(user(namespace, "alice"))
    eventually(lambda: api.phase("alice", namespace) == "Ready")
    eventually(lambda: prometheus.values("sum(up)") == [2])
    eventually(lambda: prometheus.values("sum(userstorage_leader)") == [1])
    eventually(lambda: prometheus.values("max(userstorage_objects{phase='Ready'})") == [1])
    # Alerts that fired before the operators had started have ended.
    eventually(lambda: not prometheus.firing())

    loaded = [rule for group in prometheus.query_api("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in loaded} == {*rules.rules("alert"), *rules.rules("record")}
    eventually(
        lambda: all(rule["health"] == "ok" for group in prometheus.query_api("rules")["groups"] for rule in group["rules"])
    )

    # A rate needs two scrapes within its window, which is short here; on a busy machine the second may be late. So each query
    # needs results once, not all at the same time.
    unanswered = list(QUERIES)

    def are_answered() -> bool:
        unanswered[:] = [query for query in unanswered if not prometheus.values(query)]
        return not unanswered

    eventually(are_answered)

    api.apply(user(namespace, "bob", className="no-such-class"))
    expect_alert(prometheus, "UserStorageLongNotReady")
    for alert in ("UserStorageLongNotReady", "UserStorageStalled"):
        output = run_next_command(api, alert)
        assert "bob" in output
        assert "ClassNotFound" in output
    # Only this namespace: users of earlier tests may still be terminating.
    lines = [line for line in run_next_command(api, "UserStorageLongNotReady").splitlines() if line.startswith(namespace)]
    assert len(lines) == 1, lines
    assert "bob" in lines[0]
    assert "SINCE" in run_next_command(api, "UserStorageDeletionOverdue")
    assert "holderIdentity: " in run_next_command(api, "UserStorageNoLeader")
    assert "etcd ok" in run_next_command(api, "UserStorageReconcileSlow")
    api.run("delete", "us", "--all", "-n", namespace, WAIT)
    eventually(lambda: "UserStorageLongNotReady" not in prometheus.firing())

    assert "UserStorageRedisDown" not in prometheus.firing()
    redis_server.kill()
    expect_alert(prometheus, "UserStorageRedisDown")

    assert "UserStorageOperatorDown" not in prometheus.firing()
    for process in operators.values():
        assert process.stop() == 0
    expect_alert(prometheus, "UserStorageOperatorDown")
