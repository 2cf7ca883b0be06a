"""The manifests in deploy/, rendered as `kubectl apply -k` renders them, and the scripts."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from chart.templates import CHART, files
from manifests.render import PARTS, ROOT, WHOLE, Object, render, schema_errors
from support.rights import Right, rights_of
from userstorage_operator.api.names import LABEL_GATEWAY

SCRIPTS = ("deploy.sh", "health-check.sh", "k8s-status.sh", "monitor-cache.sh", "redis-secret.sh")


@pytest.fixture(autouse=True)
def demo_redis_secret() -> None:
    subprocess.run([ROOT / "scripts/redis-secret.sh"], check=True)


@pytest.mark.parametrize("directory", [*WHOLE, *PARTS])
def test_manifests_match_their_schemas(directory: str) -> None:
    objects = render(directory)
    assert objects
    assert schema_errors(objects) == []


def test_chart_is_generated_from_the_manifests() -> None:
    expected = files()
    assert {path: path.read_text() for path in expected} == expected
    assert set((CHART / "templates").glob("*.yaml")) <= expected.keys()


def test_unknown_field_in_a_manifest_is_reported() -> None:
    [service] = objects_of("deploy/manager", "Service")
    service["spec"]["sessions"] = "sticky"
    assert len(schema_errors([service])) == 1


def test_deployment_has_the_documented_replicas_resources_and_probes() -> None:
    [deployment] = objects_of("deploy", "Deployment")
    spec = deployment["spec"]
    assert spec["replicas"] == 3
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    [container] = spec["template"]["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"cpu": "500m", "memory": "512Mi"},
    }
    assert probe(container["livenessProbe"]) == ("/health", "http", 10, 30)
    assert probe(container["readinessProbe"]) == ("/ready", "http", 5, 10)
    assert container["ports"] == [{"name": "http", "containerPort": 8080}]
    [url] = [entry for entry in container["env"] if entry["name"] == "REDIS_URL"]
    assert url["valueFrom"]["secretKeyRef"]["optional"] is True


def test_namespaced_overlay_binds_the_operator_role_in_listed_namespaces_only() -> None:
    bindings = [(each["kind"], each["metadata"].get("namespace"), each["roleRef"]["name"]) for each in role_bindings()]
    assert ("RoleBinding", "team-a", "userstorage-operator") in bindings
    assert ("ClusterRoleBinding", None, "userstorage-operator") not in bindings


def test_network_policies_admit_one_port_and_only_the_operator_to_redis() -> None:
    """Check the manifests only: no node of the tests enforces NetworkPolicies."""
    policies = {each["metadata"]["name"]: each["spec"] for each in objects_of("deploy/overlays/demo", "NetworkPolicy")}
    operator, redis = policies["userstorage-operator"], policies["userstorage-redis"]
    pods = {each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"] for each in deployments()}
    assert operator["podSelector"]["matchLabels"] == pods["userstorage-operator"]
    assert redis["podSelector"]["matchLabels"] == pods["userstorage-redis"]
    assert operator["policyTypes"] == redis["policyTypes"] == ["Ingress", "Egress"]
    assert operator["ingress"] == [{"ports": [{"port": 8080}]}]
    assert {each["port"] for rule in operator["egress"] for each in rule["ports"]} == {53, 5353, 443, 6443, 6379}
    [rule] = redis["ingress"]
    assert rule["ports"] == [{"port": 6379}]
    assert [each["podSelector"]["matchLabels"] for each in rule["from"]] == [pods["userstorage-operator"]]
    assert "egress" not in redis


def test_gate_is_restricted_and_has_two_replicas_without_a_cpu_limit() -> None:
    [deployment] = objects_of("deploy/gate", "Deployment")
    [budget] = objects_of("deploy/gate", "PodDisruptionBudget")
    spec = deployment["spec"]
    assert spec["replicas"] >= 2
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert budget["spec"]["maxUnavailable"] == 1
    pod = spec["template"]["spec"]
    [container] = pod["containers"]
    assert set(container["resources"]["limits"]) == {"memory"}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    [volume] = pod["volumes"]
    assert "optional" not in volume["secret"]
    [mount] = container["volumeMounts"]
    assert f"--key-file={mount['mountPath']}/keys" in container["args"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"door": 8444, "http": 8080}
    assert probe(container["readinessProbe"])[:2] == ("/ready", "http")
    assert probe(container["livenessProbe"])[:2] == ("/health", "http")


def test_gate_is_reached_by_gateways_and_prometheus_only() -> None:
    [policy] = objects_of("deploy/gate", "NetworkPolicy")
    [deployment] = objects_of("deploy/gate", "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    spec = policy["spec"]
    assert spec["podSelector"]["matchLabels"] == labels
    door, metrics = spec["ingress"]
    assert door["ports"] == [{"port": 8444}]
    assert door["from"] == [{"namespaceSelector": {"matchLabels": {LABEL_GATEWAY: "true"}}}]
    assert metrics["ports"] == [{"port": 8080}]
    assert all(each["namespaceSelector"]["matchLabels"] for each in metrics["from"])
    for service in objects_of("deploy/gate", "Service"):
        assert service["spec"]["selector"] == labels
    assert {each["port"] for rule in spec["egress"] for each in rule["ports"]} == {53, 5353, 443, 6443}


def test_account_of_the_gate_may_read_two_kinds_and_nothing_else() -> None:
    rules = [rule for role in objects_of("deploy/gate", "ClusterRole") for rule in role["rules"]]
    assert set(rights_of(rules)) == {
        Right("userstorage.dev", kind, verb) for kind in ("userstorages", "userstorageclasses") for verb in ("list", "watch")
    }


def test_redis_password_is_not_in_the_repository() -> None:
    tracked = subprocess.run(["git", "ls-files", "deploy"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "deploy/overlays/demo/kustomization.yaml" in tracked
    assert "redis-secret/" not in tracked


def test_base_image_is_pinned_and_user_is_numeric() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if re.fullmatch(r"FROM \S+:\d+\.\d+\.\d+-slim-\w+ AS pinned", line)]
    assert "ARG BASE_IMAGE=pinned" in lines
    assert "USER 65532:65532" in lines


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_has_a_help_text(name: str) -> None:
    result = subprocess.run([ROOT / "scripts" / name, "--help"], capture_output=True, text=True, check=False, cwd=Path("/"))
    assert result.returncode == 0
    assert result.stdout.startswith("usage: ")


@pytest.mark.parametrize("name", ["health-check.sh", "k8s-status.sh", "monitor-cache.sh"])
def test_script_looks_for_the_operator_in_the_named_namespace(name: str, tmp_path: Path) -> None:
    """Run it with a kubectl whose cluster has the operator's objects in namespace `storage` only, and one pod there."""
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        "#!/bin/bash\n"
        'echo "$*" >>"$0.log"\n'
        '[[ "$*" == *--namespace=storage* || "$*" != *--namespace=* ]] || exit 1\n'
        'case "$*" in "get pods"*) echo operator-1 ;; "get deployment "*) echo "1 of 1" ;; "get lease"*) echo operator-1_0 ;;\n'
        "*exec*cache*) echo complete ;; *exec*) echo leading ;; esac\n"
    )
    kubectl.chmod(0o755)
    done = subprocess.run(
        [ROOT / "scripts" / name, "--namespace", "storage"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    asked = (tmp_path / "kubectl.log").read_text()
    assert "--namespace=storage" in asked
    assert "userstorage-system" not in asked
    assert (done.returncode, done.stderr) == (0, "")


def test_transformer_for_another_namespace_accepts_policies_without_one(tmp_path: Path) -> None:
    directory = ROOT / "dist" / f"transformed-{tmp_path.name}"  # kustomize resolves paths relative to the file
    directory.mkdir(parents=True)
    resources = ["../../deploy/rbac", "../../deploy/admission"]
    own = {"resources": resources, "transformers": ["../../deploy/transformers/namespace"]}
    (directory / "kustomization.yaml").write_text(json.dumps(own))
    try:
        objects = render(f"dist/{directory.name}")
    finally:
        shutil.rmtree(directory)
    policies = [each for each in objects if each["kind"] == "ValidatingAdmissionPolicy"]
    assert policies == [each for each in render("deploy/admission") if each["kind"] == "ValidatingAdmissionPolicy"]


def test_every_script_is_in_the_list_of_tested_scripts() -> None:
    assert {path.name for path in (ROOT / "scripts").iterdir()} == set(SCRIPTS)


def role_bindings() -> list[Object]:
    return [each for each in render("deploy/overlays/namespaced") if each["kind"].endswith("RoleBinding")]


def objects_of(directory: str, kind: str) -> list[Object]:
    return [each for each in render(directory) if each["kind"] == kind]


def deployments() -> list[Object]:
    return objects_of("deploy/overlays/demo", "Deployment")


def probe(raw: Object) -> tuple[str, str, int, int]:
    return raw["httpGet"]["path"], raw["httpGet"]["port"], raw["initialDelaySeconds"], raw["periodSeconds"]


def test_uninstall_deletes_every_part_that_can_be_applied() -> None:
    section = (ROOT / "docs/install.md").read_text().partition("\n### Uninstall: kustomization\n")[2].partition("\n### ")[0]
    parts = {path.parent.name for path in (ROOT / "deploy").glob("*/kustomization.yaml")} - {"base"}
    assert set(re.findall(r"^kubectl delete --ignore-not-found -k deploy/([\w-]+)", section, re.MULTILINE)) == parts
