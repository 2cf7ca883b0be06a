"""kube-prometheus-stack with its default selectors: the real Prometheus operator finds our monitors and rules by the label of its
release, and a real Prometheus scrapes the operator and loads every rule with the configuration that it generates.
"""

import base64
import gzip
import json
import os
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.helm import template
from chart.templates import CHART
from conftest import ROOT, install_manifests
from localcluster.addresses import free_port
from localcluster.builds import GoProgram, build_go
from localcluster.progress import silent
from monitoring import rules
from support.kubectl import PATIENCE, Kubectl, eventually
from support.operator_account import SYSTEM, log_in
from support.operator_process import OperatorProcess
from testservers.prometheus import Prometheus
from userstorage_operator.api.unstructured import Unstructured

pytestmark = [pytest.mark.kwok, pytest.mark.timeout(1800)]  # the first build of the Prometheus operator
PROGRAM = GoProgram(
    "prometheusoperator",
    "github.com/prometheus-operator/prometheus-operator/cmd/operator",
    modules=Path(__file__).parent / "go",
)
RELEASE = "stack"
STACK = "monitoring"
"""Namespace of kube-prometheus-stack."""
SELECTED = {"matchLabels": {"release": RELEASE}}
PROMETHEUS = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "Prometheus",
    "metadata": {"name": RELEASE, "namespace": STACK},
    "spec": {
        "version": "v2.42.0",
        "replicas": 1,
        "serviceAccountName": "default",
        **{f"{kind}Selector": SELECTED for kind in ("podMonitor", "serviceMonitor", "rule")},
        **{f"{kind}NamespaceSelector": {} for kind in ("podMonitor", "serviceMonitor", "rule")},
    },
}
"""What the chart kube-prometheus-stack selects by default."""
LABELLED = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "PodMonitor",
    "metadata": {"name": "labelled", "namespace": STACK, "labels": {"release": RELEASE}},
    "spec": {"selector": {}, "podMetricsEndpoints": [{"port": "http"}]},
}
GENERATED = f"prometheus-{RELEASE}"


class Stack:
    """The Prometheus operator, and what it has generated."""

    def __init__(self, api: Kubectl) -> None:
        self._api = api

    def config(self) -> dict[str, Any]:
        """Return the configuration of Prometheus; empty while there is none."""
        secret = self._api.get("secret", GENERATED, STACK)
        if secret is None:
            return {}
        text = gzip.decompress(base64.b64decode(secret["data"]["prometheus.yaml.gz"])).decode()
        # In the pod of Prometheus, a sidecar replaces the variables of the environment.
        found: dict[str, Any] = yaml.safe_load(text.replace("$(SHARD)", "0"))
        return found

    def jobs(self) -> set[str]:
        return {each["job_name"] for each in self.config().get("scrape_configs") or ()}

    def rule_files(self) -> dict[str, str]:
        """Return the text of each rule file by its name."""
        found = self._api.get("configmap", f"{GENERATED}-rulefiles-0", STACK)
        return (found or {}).get("data") or {}


@pytest.fixture
def stack(empty_cluster: Kubectl, tmp_path: Path) -> Iterator[Stack]:
    listing = ["go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus-operator/prometheus-operator"]
    source = subprocess.run(listing, cwd=PROGRAM.module, capture_output=True, text=True, check=True).stdout.strip()
    program = build_go(PROGRAM, silent)
    empty_cluster.run("apply", "--server-side", "-f", f"{source}/example/prometheus-operator-crd")
    kinds = ("prometheuses", "podmonitors", "servicemonitors", "prometheusrules")
    empty_cluster.wait_established(*(f"crd/{kind}.monitoring.coreos.com" for kind in kinds))
    empty_cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": STACK}}, PROMETHEUS)
    with (tmp_path / "prometheus-operator.log").open("w+") as log:
        environment = {**os.environ, "KUBECONFIG": str(empty_cluster.kubeconfig)}
        options = [f"--web.listen-address=127.0.0.1:{free_port()}", "--kubelet-endpoints=false"]
        process = subprocess.Popen([program, *options], env=environment, stdout=log, stderr=subprocess.STDOUT)
        yield Stack(empty_cluster)
        process.terminate()
        process.wait(timeout=PATIENCE)
        log.seek(0)
        print(log.read()[-4000:])  # noqa: T201  # shown with a failure


@pytest.fixture
def metrics_port(empty_cluster: Kubectl, tmp_path: Path) -> Iterator[int]:
    """The port of an operator that stands for all pods of the Deployment, whose containers are not executed here."""
    install_manifests(empty_cluster)
    empty_cluster.run("apply", "-k", str(ROOT / "deploy/manager"))
    port = free_port()
    (tmp_path / "operator").mkdir()
    kubeconfig = log_in(empty_cluster, tmp_path / "operator").kubeconfig
    with OperatorProcess(kubeconfig, tmp_path / "operator/log", f"--http-port={port}") as process:
        process.start()
        yield port


def by_kustomize(api: Kubectl, tmp_path: Path) -> None:
    """Apply deploy/monitoring with the label, as docs/observability.md says."""
    shutil.copytree(ROOT / "deploy/monitoring", tmp_path / "mine/deploy/monitoring")
    own = {"resources": ["deploy/monitoring"], "labels": [{"pairs": {"release": RELEASE}}]}
    (tmp_path / "mine/kustomization.yaml").write_text(yaml.safe_dump(own))
    api.run("apply", "--server-side", "-k", str(tmp_path / "mine"))


def by_the_chart(kind: str) -> Callable[[Kubectl, Path], None]:
    def apply(api: Kubectl, _: Path) -> None:
        values = {"monitoring.enabled": True, "monitoring.kind": kind, "monitoring.labels": {"release": RELEASE}}
        monitoring = {kind, "PrometheusRule"}
        api.apply(*(each for each in template(CHART, values) if each["kind"] in monitoring))

    return apply


@pytest.mark.parametrize(
    "install",
    [by_kustomize, by_the_chart("PodMonitor"), by_the_chart("ServiceMonitor")],
    ids=["kustomize", "chart", "chart-service-monitor"],
)
def test_default_selectors_find_targets_and_rules(
    empty_cluster: Kubectl,
    stack: Stack,
    metrics_port: int,
    tmp_path: Path,
    install: Callable[[Kubectl, Path], None],
) -> None:
    eventually(stack.config)
    # Without the label of the release nothing is found: this is why the label is an option. Another monitor shows that the
    # Prometheus operator has looked since.
    empty_cluster.run("apply", "--server-side", "-k", str(ROOT / "deploy/monitoring"))
    empty_cluster.apply(LABELLED)
    eventually(lambda: any("labelled" in job for job in stack.jobs()))
    assert not any("userstorage" in job for job in stack.jobs())
    empty_cluster.run("delete", "podmonitor", "labelled", "-n", STACK)
    empty_cluster.run("delete", "-k", str(ROOT / "deploy/monitoring"))
    install(empty_cluster, tmp_path)
    # Of the operator and of the gate.
    eventually(lambda: len(stack.jobs()) == sum("userstorage" in job for job in stack.jobs()) == 2)
    eventually(stack.rule_files)
    generated = tmp_path / "generated"
    generated.mkdir()
    config = runnable(stack.config(), empty_cluster, metrics_port, generated)
    for name, text in stack.rule_files().items():
        (generated / name).write_text(text)
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    server = Prometheus(tmp_path / "prometheus", tmp_path / "prometheus.yaml").start()
    try:

        def query_api(path: str, **parameters: str) -> Any:
            url = f"{server.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
            with urllib.request.urlopen(url, timeout=PATIENCE) as response:  # noqa: S310  # our own http URL
                return json.load(response)["data"]

        def targets_up() -> set[str]:
            found = query_api("query", query=f'up{{job="userstorage-operator", namespace="{SYSTEM}"}} == 1')["result"]
            return {series["metric"]["pod"] for series in found}

        pods = {pod["metadata"]["name"] for pod in empty_cluster.list_all("pods", SYSTEM)}
        assert len(pods) == 3
        eventually(lambda: targets_up() == pods)
        loaded = [rule for group in query_api("rules")["groups"] for rule in group["rules"]]
        assert {rule["name"] for rule in loaded} == {*rules.rules("alert"), *rules.rules("record")}
        eventually(lambda: all(rule["health"] == "ok" for group in query_api("rules")["groups"] for rule in group["rules"]))
    finally:
        server.stop()


def runnable(config: dict[str, Any], api: Kubectl, port: int, directory: Path) -> dict[str, Any]:
    """Return the generated configuration with the targets that Prometheus would discover, each at `port` of this machine.

    Debian's Prometheus has no discovery of Kubernetes. So the labels that it would set are taken from the cluster's objects
    here; which targets are kept, and with which labels, is decided by the generated rules.
    """
    for job in config["scrape_configs"]:
        [discovery] = job.pop("kubernetes_sd_configs")
        found = discovered_pods(api) if discovery["role"] == "pod" else discovered_endpoints(api)
        path = directory / f"{job['job_name'].replace('/', '-')}.json"
        path.write_text(json.dumps([{"targets": [f"127.0.0.1:{port}"], "labels": labels} for labels in found]))
        job["file_sd_configs"] = [{"files": [str(path)]}]
        job |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    assert config["rule_files"]
    often = config["global"] | {"evaluation_interval": "1s"}
    return {**config, "global": often, "rule_files": [f"{directory}/*.yaml"], "alerting": {}}


def discovered_pods(api: Kubectl) -> Iterator[dict[str, str]]:
    """Yield the labels of each port of each pod in the operator's namespace, as the role `pod` has them."""
    for pod in api.list_all("pods", SYSTEM):
        for container in pod["spec"]["containers"]:
            for port in container["ports"]:
                yield meta("pod", pod) | {
                    "__meta_kubernetes_pod_phase": pod["status"]["phase"],
                    "__meta_kubernetes_pod_container_name": container["name"],
                    "__meta_kubernetes_pod_container_port_name": port["name"],
                }


def discovered_endpoints(api: Kubectl) -> Iterator[dict[str, str]]:
    """Yield the labels of each port of each pod behind a Service, as the roles `endpoints` and `endpointslice` have them."""
    for service in api.list_all("services", SYSTEM):
        for pod in api.list_all("pods", SYSTEM):
            if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items():
                for port in service["spec"]["ports"]:
                    labels = meta("service", service) | meta("pod", pod)
                    for kind in ("endpoint", "endpointslice"):
                        labels[f"__meta_kubernetes_{kind}_port_name"] = port["name"]
                        labels[f"__meta_kubernetes_{kind}_address_target_kind"] = "Pod"
                        labels[f"__meta_kubernetes_{kind}_address_target_name"] = pod["metadata"]["name"]
                    yield labels


def meta(kind: str, raw: Unstructured) -> dict[str, str]:
    """Return the labels that every role sets for an object."""
    metadata = raw["metadata"]
    labels = {"__meta_kubernetes_namespace": metadata["namespace"], f"__meta_kubernetes_{kind}_name": metadata["name"]}
    for name, value in metadata["labels"].items():
        plain = re.sub(r"\W", "_", name)
        labels[f"__meta_kubernetes_{kind}_label_{plain}"] = value
        labels[f"__meta_kubernetes_{kind}_labelpresent_{plain}"] = "true"
    return labels
