"""deploy/, as `kubectl apply -k` sees it."""

import re
import subprocess
from pathlib import Path

import pytest

from manifests.render import PARTS, ROOT, WHOLE, Object, render, schema_errors

PROGRAMS = ("deploy.sh", "health-check.sh", "k8s-status.sh", "monitor-cache.sh", "redis-secret.sh")


@pytest.fixture(autouse=True)
def secret_of_the_demo() -> None:
    subprocess.run([ROOT / "scripts/redis-secret.sh"], check=True)


@pytest.mark.parametrize("directory", [*WHOLE, *PARTS])
def test_all_of_it_is_valid(directory: str) -> None:
    objects = render(directory)
    assert objects
    assert schema_errors(objects) == []


def test_a_field_that_does_not_exist_is_found() -> None:
    [service] = objects_of("deploy/manager", "Service")
    service["spec"]["sessions"] = "sticky"
    assert len(schema_errors([service])) == 1


def test_the_deployment_is_what_was_asked_for() -> None:
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


def test_a_namespaced_installation_has_the_users_rights_bound_in_no_cluster() -> None:
    bound = [(each["kind"], each["metadata"].get("namespace"), each["roleRef"]["name"]) for each in bindings()]
    assert ("RoleBinding", "team-a", "userstorage-operator") in bound
    assert ("ClusterRoleBinding", None, "userstorage-operator") not in bound


def test_policies_let_in_to_one_port_and_nobody_but_the_operator_to_redis() -> None:
    """Held against what they say: no node of the tests enforces them."""
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


def test_no_password_is_in_the_repository() -> None:
    tracked = subprocess.run(["git", "ls-files", "deploy"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "deploy/overlays/demo/kustomization.yaml" in tracked
    assert "redis-secret/" not in tracked


def test_the_base_image_is_pinned_and_the_user_is_a_number() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if re.fullmatch(r"FROM \S+:\d+\.\d+\.\d+-slim-\w+ AS pinned", line)]
    assert "ARG BASE_IMAGE=pinned" in lines
    assert "USER 65532:65532" in lines


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_script_says_what_it_is_for(name: str) -> None:
    done = subprocess.run([ROOT / "scripts" / name, "--help"], capture_output=True, text=True, check=False, cwd=Path("/"))
    assert done.returncode == 0
    assert done.stdout.startswith("usage: ")


def test_every_script_is_known_here() -> None:
    assert {path.name for path in (ROOT / "scripts").iterdir()} == set(PROGRAMS)


def bindings() -> list[Object]:
    return [each for each in render("deploy/overlays/namespaced") if each["kind"].endswith("RoleBinding")]


def objects_of(directory: str, kind: str) -> list[Object]:
    return [each for each in render(directory) if each["kind"] == kind]


def deployments() -> list[Object]:
    return objects_of("deploy/overlays/demo", "Deployment")


def probe(found: Object) -> tuple[str, str, int, int]:
    return found["httpGet"]["path"], found["httpGet"]["port"], found["initialDelaySeconds"], found["periodSeconds"]
