"""The command line of the operator and of the kubectl plugin."""

import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from localcluster.addresses import free_port
from support.kubectl import COMMAND_TIMEOUT, PATIENCE, Kubectl, eventually
from support.logschema import check_line
from support.operator_process import PROGRAM, OperatorProcess

GRACE_SECONDS = 30
"""terminationGracePeriodSeconds in deploy/manager, after which the kubelet kills the operator."""


def run(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("KUBE", "USERSTORAGE"))}
    return subprocess.run(
        [PROGRAM, *options], env={**clean, **environment}, capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT
    )


def test_login_error_names_the_sources_tried(tmp_path: Path) -> None:
    done = run("run", KUBECONFIG=str(tmp_path / "missing"))
    assert done.returncode == 1
    assert "no login" in done.stderr
    assert "KUBECONFIG" in done.stderr
    assert "Traceback" not in done.stderr


def test_error_names_port_in_use(api: Kubectl) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("run", f"--http-port={port}", KUBECONFIG=str(api.kubeconfig))
    assert done.returncode == 1
    assert f"--http-port {port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("option", "value"), [("--workers", "0"), ("--http-port", "http"), ("--sweep-period", "-1")])
def test_error_names_invalid_option(option: str, value: str) -> None:
    done = run("run", f"{option}={value}")
    assert done.returncode == 2
    assert option in done.stderr


def test_options_can_be_set_by_environment() -> None:
    done = run("run", USERSTORAGE_RUN_HTTP_PORT="http")
    assert done.returncode == 2
    assert "http" in done.stderr


def test_http_endpoints_are_served_and_sigterm_stops_the_operator(api: Kubectl, namespace: str) -> None:
    port = free_port()
    process = subprocess.Popen(
        [PROGRAM, "run", f"--http-port={port}", f"--namespace={namespace}"],
        env={**os.environ, "KUBECONFIG": str(api.kubeconfig)},
        stderr=subprocess.DEVNULL,
    )
    try:

        def fetch(path: str) -> str | None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as response:
                    text: str = response.read().decode()
                    return text
            except urllib.error.URLError:
                return None

        eventually(lambda: fetch("/ready"))
        assert fetch("/health") is not None
        metrics = fetch("/metrics")
        assert metrics is not None
        assert "userstorage_api_requests_total" in metrics
    finally:
        process.send_signal(signal.SIGTERM)
        # Usually a third of a second; kopf grants five seconds more to a connection that is open at its end.
        code = process.wait(timeout=GRACE_SECONDS)
    assert code == 0


def test_sigusr1_toggles_debug_log_without_leaking_token(
    api: Kubectl, as_operator: Path, namespace: str, tmp_path: Path
) -> None:
    log = tmp_path / "operator.log"

    def count(event: str) -> int:
        return sum(
            check_line(line)["event"] == event for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")
        )

    with OperatorProcess(as_operator, log, f"--namespace={namespace}", "--sweep-period=1") as process:
        process.start()
        assert count("swept") == 0
        process.send_signal(signal.SIGUSR1)
        eventually(lambda: count("swept") > 1)
        process.send_signal(signal.SIGUSR1)
        eventually(lambda: count("log_level_changed") == 2)
        assert process.stop() == 0
    assert check_line(log.read_text().splitlines()[-1])["event"] == "stopped"
    token = json.loads(as_operator.read_text())["users"][0]["user"]["token"]
    assert token not in log.read_text()


@pytest.mark.kwok
def test_object_created_before_operator_start_is_served(api: Kubectl, namespace: str, operator: OperatorProcess) -> None:
    alice = {
        "apiVersion": "userstorage.dev/v1",
        "kind": "UserStorage",
        "metadata": {"name": "alice"},
        "spec": {"userID": "alice"},
    }
    api.apply({**alice, "metadata": {"name": "alice", "namespace": namespace}})
    assert "waiting for the operator" in api.run("get", "us", "alice", "-n", namespace, "-o", "yaml").stdout
    operator.start()
    eventually(lambda: api.phase("alice", namespace) == "Ready")
    columns = api.run("get", "us", "-n", namespace).stdout.splitlines()
    assert columns[0].split() == ["NAME", "USER", "PHASE", "READY", "REASON", "CAPACITY", "AGE"]
    assert columns[1].split()[:6] == ["alice", "alice", "Ready", "True", "PodReady", "10Gi"]
