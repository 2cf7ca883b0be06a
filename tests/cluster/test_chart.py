"""The Helm chart renders what the kustomizations of deploy/ render, refuses values that cannot work, and follows those that can."""

import copy
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.helm import helm, template
from chart.templates import CHART
from conftest import ROOT
from localcluster.errors import ClusterError
from localcluster.progress import silent
from manifests.render import Object, display_name, render, schema_errors
from release.artifacts import VERSION, Image, write
from support.rights import rights_of

pytestmark = pytest.mark.timeout(1200)  # the first build of Helm
SYSTEM = "userstorage-system"
KEEP = "helm.sh/resource-policy"
DEMO = {"redis.username": "userstorage", "redis.passwordKey": "password", "redis.signingKeyKey": "signing-key"}
EVERYTHING: dict[str, Any] = {
    "finalizer.enabled": True,
    "gate.enabled": True,
    "metricsAuth.enabled": True,
    "monitoring.enabled": True,
    "monitoring.labels": {"release": "stack"},
    "ownerReferences.enabled": True,
    "volumeStats": "verified",
}


def comparable(objects: Iterable[Object]) -> dict[str, Object]:
    """Return the objects by name, without the Namespace, which Helm makes, and without the order of environment variables."""
    found = {}
    for each in copy.deepcopy([each for each in objects if each["kind"] != "Namespace"]):
        annotations = each["metadata"].get("annotations", {})
        if each["kind"] == "CustomResourceDefinition":
            annotations.pop(KEEP, None)
        if not annotations:
            each["metadata"].pop("annotations", None)
        if each["kind"] == "Deployment":
            for container in each["spec"]["template"]["spec"]["containers"]:
                container.get("env", []).sort(key=lambda entry: entry["name"])
        assert display_name(each) not in found
        found[display_name(each)] = each
    return found


def without_the_redis_of_the_demo(objects: Iterable[Object]) -> list[Object]:
    return [each for each in objects if each["kind"] != "Secret" and each["metadata"]["name"] != "userstorage-redis"]


def secret_names(objects: Iterable[Object]) -> dict[str, str]:
    """Return the names that kustomize generates for the Secrets, by the name that they were given."""
    names = [each["metadata"]["name"] for each in objects if each["kind"] == "Secret"]
    return {name.rpartition("-")[0]: name for name in names}


@pytest.mark.parametrize(
    ("directory", "values"),
    [
        ("deploy", {}),
        ("deploy/overlays/monitoring", {"monitoring.enabled": True}),
        ("deploy/overlays/namespaced", {"namespaces": ["team-a"]}),
        ("deploy/overlays/demo", DEMO),
    ],
)
def test_chart_renders_the_same_objects_as_the_overlay(directory: str, values: dict[str, Any]) -> None:
    if directory.endswith("demo"):
        subprocess.run([ROOT / "scripts/redis-secret.sh"], check=True)
    objects = render(directory)
    secrets = secret_names(objects)
    values = values | ({"redis.secretName": secrets["userstorage-redis"]} if secrets else {})
    assert comparable(template(CHART, values)) == comparable(without_the_redis_of_the_demo(objects))


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("deploy/gate", {"gate.enabled": True}),
        ("deploy/finalizer", {"finalizer.enabled": True}),
        ("deploy/owner-references", {"ownerReferences.enabled": True}),
        ("deploy/volume-stats", {"volumeStats": "verified"}),
        ("deploy/metrics-auth", {"metricsAuth.enabled": True, "monitoring.enabled": True}),
        ("deploy/service-monitor", {"monitoring.enabled": True, "monitoring.kind": "ServiceMonitor"}),
    ],
)
def test_an_option_of_the_chart_adds_the_objects_of_the_part(part: str, values: dict[str, Any]) -> None:
    plain, with_it = comparable(template(CHART, {})), comparable(template(CHART, values))
    assert {name: with_it[name] for name in with_it.keys() - plain.keys()} == comparable(render(part))
    changed = {name for name in plain if plain[name] != with_it[name]}
    # Only options and ports that the part needs.
    assert changed <= {f"Deployment/{SYSTEM}/userstorage-operator", f"NetworkPolicy/{SYSTEM}/userstorage-operator"}


def test_accounts_have_permissions_on_users_objects_in_the_listed_namespaces_only() -> None:
    listed = ["team-a", "team-b"]
    objects = template(CHART, EVERYTHING | {"finalizer.enabled": False, "namespaces": listed})
    assert schema_errors(objects) == []
    roles = {each["metadata"]["name"]: each.get("rules", []) for each in objects if each["kind"] == "ClusterRole"}
    bound: dict[str, set[str]] = {}
    for each in objects:
        if each["kind"] in {"RoleBinding", "ClusterRoleBinding"} and each["roleRef"]["kind"] == "ClusterRole":
            rules = [rule for rule in roles[each["roleRef"]["name"]] if "resources" in rule]
            if each["subjects"][0]["kind"] == "ServiceAccount":
                resources = {right.resource for right in rights_of(rules)}
                bound.setdefault(each["metadata"].get("namespace", "everywhere"), set()).update(resources)
    assert bound.pop("everywhere") == {
        "userstorageclasses",
        "storageclasses",
        "tokenreviews",
        "subjectaccessreviews",
        "nodes/stats",
    }
    assert bound.keys() == set(listed)
    assert bound["team-a"] == bound["team-b"] > {"userstorages", "persistentvolumeclaims", "pods"}
    [gate] = [each for each in objects if each["kind"] == "Deployment" and each["metadata"]["name"] == "userstorage-gate"]
    [container] = gate["spec"]["template"]["spec"]["containers"]
    assert [each for each in container["args"] if each.startswith("--namespace")] == [f"--namespace={each}" for each in listed]
    bindings = {display_name(each) for each in objects if each["kind"] == "RoleBinding"}
    expected = ("userstorage-gate", "userstorage-operator", "userstorage-operator-claim-owners")
    assert {f"RoleBinding/team-a/{name}" for name in expected} <= bindings


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_rendered_objects_match_the_schemas_of_kubernetes(values: dict[str, Any]) -> None:
    objects = template(CHART, values)
    assert len(objects) > 20
    assert schema_errors(objects) == []


def test_helm_lint_finds_nothing() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


@pytest.mark.parametrize("namespace", ["storage", "123"])
def test_every_object_is_in_the_namespace_of_the_release(namespace: str) -> None:
    objects = template(CHART, EVERYTHING, namespace=namespace)
    assert schema_errors(objects) == []
    assert {each["metadata"]["namespace"] for each in objects if "namespace" in each["metadata"]} == {namespace}
    assert SYSTEM not in yaml.safe_dump(objects)
    accounts = [
        entry["expression"].rpartition(" == ")[2]
        for each in objects
        if each["kind"] == "ValidatingAdmissionPolicy"
        for entry in each["spec"]["matchConditions"]
    ]
    assert len(accounts) == 5
    assert set(accounts) == {f"'system:serviceaccount:{namespace}:userstorage-operator'"}


def test_kustomize_puts_everything_into_another_namespace(tmp_path: Path) -> None:
    names = (
        "deploy",
        "deploy/gate",
        "deploy/owner-references",
        "deploy/volume-stats",
        "deploy/finalizer",
        "deploy/metrics-auth",
    )
    directory = ROOT / "dist" / tmp_path.name  # kustomize resolves paths relative to the file
    directory.mkdir(parents=True)
    own = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "storage",
        "resources": [f"../../{name}" for name in names],
        "transformers": ["../../deploy/transformers/namespace"],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(own))
    by_kustomize = comparable(render(f"dist/{tmp_path.name}"))
    shutil.rmtree(directory)
    by_helm = comparable(template(CHART, EVERYTHING | {"monitoring.labels": {}}, namespace="storage"))
    assert by_kustomize.keys() ^ by_helm.keys() == set()
    # The commands in alerts name the namespace, which kustomize cannot replace; Helm's options change the Deployment.
    same = [name for name in by_helm if not name.startswith(("PrometheusRule/", "Deployment/", "NetworkPolicy/"))]
    assert [name for name in same if by_kustomize[name] != by_helm[name]] == []


def test_values_reach_the_deployment() -> None:
    values = {
        "image.repository": "registry.example.org/userstorage-operator",
        "image.digest": f"sha256:{'0' * 64}",
        "imagePullSecrets": [{"name": "registry-login"}],
        "replicas": 2,
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": 2, "memory": "1Gi"}},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "podLabels": {"team": "storage"},
        "podAnnotations": {"note": "on"},
        "clusterName": "eu-1",
        "extraArgs": ["--workers=8"],
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "redis.secretName": "cache",
        "redis.caKey": "ca.crt",
        "networkPolicy.from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "networkPolicy.egressPorts": [{"port": 26379}],
        "admission.classes": ["standard"],
        "admission.platformKeys": ["istio.io/"],
        "monitoring.enabled": True,
        "monitoring.runbookURL": "https://docs.example.org/runbook",
        "monitoring.labels": {"release": "stack"},
    }
    objects = template(CHART, values)
    assert schema_errors(objects) == []
    by_name = comparable(objects)
    deployment = by_name[f"Deployment/{SYSTEM}/userstorage-operator"]["spec"]
    pod = deployment["template"]["spec"]
    [container] = pod["containers"]
    assert deployment["replicas"] == 2
    assert container["image"] == f"registry.example.org/userstorage-operator:{VERSION}@sha256:{'0' * 64}"
    assert container["args"][-1] == "--workers=8"
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment == {
        "REDIS_URL": None,
        "REDIS_CA_FILE": "/run/redis/ca.crt",
        "TZ": "UTC",
        "USERSTORAGE_RUN_CLUSTER_NAME": "eu-1",
    }
    assert container["env"][0]["name"] == "REDIS_CA_FILE"
    assert pod["volumes"][0]["secret"]["secretName"] == "cache"
    assert container["resources"] == values["resources"]
    for field in ("nodeSelector", "tolerations", "affinity", "priorityClassName", "imagePullSecrets"):
        assert pod[field] == values[field]
    assert deployment["template"]["metadata"]["labels"]["team"] == "storage"
    assert deployment["template"]["metadata"]["annotations"]["note"] == "on"
    policy = by_name[f"NetworkPolicy/{SYSTEM}/userstorage-operator"]["spec"]
    assert policy["ingress"][0]["from"] == values["networkPolicy.from"]
    assert {"port": 26379} in policy["egress"][0]["ports"]
    assert by_name["ClusterRole/userstorage-operator-classes"]["rules"][0]["resourceNames"] == ["standard"]
    for name in ("class-names", "class-pods"):
        variables = by_name[f"ValidatingAdmissionPolicy/userstorage-operator-{name}"]["spec"]["variables"]
        assert variables[0] == {"name": "platformKeys", "expression": '["istio.io/"]'}
    rule = by_name[f"PrometheusRule/{SYSTEM}/userstorage-operator"]
    assert rule["metadata"]["labels"]["release"] == "stack"
    rules = {entry.get("alert") or entry["record"]: entry for group in rule["spec"]["groups"] for entry in group["rules"]}
    assert rules["userstorage:cpu_of_limit:ratio"]["expr"].endswith(" / 2")
    assert rules["userstorage:memory_of_limit:ratio"]["expr"].endswith("(1 * 1024 * 1024 * 1024)")
    assert "CPU limit, 2." in rules["UserStorageCPUHigh"]["annotations"]["summary"]
    assert rules["UserStorageCPUHigh"]["annotations"]["runbook_url"] == "https://docs.example.org/runbook#userstoragecpuhigh"


@pytest.mark.parametrize(
    ("limits", "cores", "memory"),
    [
        ({"cpu": "250m", "memory": "1536Mi"}, "0.25", "(1536 * 1024 * 1024)"),
        ({"cpu": 1.5, "memory": "1.5Gi"}, "1.5", "(1.5 * 1024 * 1024 * 1024)"),
        ({"cpu": None, "memory": "500M"}, "1", "(500 * 1e6)"),
        ({"cpu": "2", "memory": "536870912"}, "2", "(536870912 * 1)"),
    ],
)
def test_alerts_follow_the_limits(limits: dict[str, Any], cores: str, memory: str) -> None:
    objects = template(CHART, {"monitoring.enabled": True, "resources.limits": limits})
    [rule] = [each for each in objects if each["kind"] == "PrometheusRule"]
    rules = {entry.get("alert") or entry["record"]: entry for group in rule["spec"]["groups"] for entry in group["rules"]}
    assert rules["userstorage:cpu_of_limit:ratio"]["expr"].rpartition(" / ")[2] == cores
    assert rules["userstorage:memory_of_limit:ratio"]["expr"].rpartition(" / ")[2] == memory
    summaries = [rules[name]["annotations"]["summary"] for name in ("UserStorageCPUHigh", "UserStorageMemoryHigh")]
    assert summaries[0].endswith(f"its CPU limit, {limits['cpu'] or 'one core'}.")
    assert limits["memory"] in summaries[1]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replica": 3}, "replica"),
        ({"replicas": "many"}, "replicas"),
        ({"image.digest": "latest"}, "digest"),
        ({"namespaces": ["Team A"]}, "namespaces"),
        ({"namespaces": ["team-a"], "finalizer.enabled": True}, "finalizer"),
        ({"resources.limits.memory": "half"}, "memory"),
        ({"monitoring.kind": "Probe"}, "kind"),
        ({"monitoring.runbookURL": "docs/runbook.md"}, "runbookURL"),
        ({"gate.enabled": True, "gate.doorFrom": []}, "doorFrom"),
        ({"gate.enabled": True, "gate.doorFrom": [{"namespaceSelector": None}]}, "doorFrom"),
        ({"gate.enabled": True, "gate.metricsFrom": [{"namespaceSelector": {"matchLabels": None}}]}, "metricsFrom"),
        ({"networkPolicy.from": [{}]}, "networkPolicy"),
        ({"volumeStats": True}, "volumeStats"),
        ({"clusterName": "eu:1"}, "clusterName"),
        # In a pod, `userstorage-operator cache` sees the environment, not the arguments of the operator.
        ({"extraArgs": ["--cluster-name=eu-1"]}, "extraArgs"),
        ({"extraArgs": ["--redis-username", "cache"]}, "extraArgs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_that_cannot_work_are_refused_with_their_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ClusterError, match=named):
        template(CHART, values)


def value_names(values: dict[str, Any], schema: dict[str, Any], above: str = "") -> Iterator[str]:
    """Yield the name of each value of the chart, such as `gate.doorFrom`; an entry of a free mapping, such as a label, is none."""
    for name, value in values.items():
        yield above + name
        below = schema["properties"][name]
        if isinstance(value, dict) and below.get("additionalProperties") is False:
            yield from value_names(value, below, f"{above}{name}.")


@pytest.mark.parametrize(
    "name",
    [*value_names(yaml.safe_load((CHART / "values.yaml").read_text()), json.loads((CHART / "values.schema.json").read_text()))],
)
def test_value_set_to_null_is_refused_or_renders_as_its_default(name: str) -> None:
    """Helm removes such a key before it checks the schema: without peers, a NetworkPolicy would admit every pod."""
    others = {other: value for other, value in EVERYTHING.items() if other != name}
    try:
        objects = template(CHART, others | {name: None})
    except ClusterError as error:
        assert name.rpartition(".")[2] in str(error)  # noqa: PT017  # either outcome is right
    else:
        assert comparable(objects) == comparable(template(CHART, others))


@pytest.mark.parametrize("name", ["gate.doorFrom", "gate.metricsFrom"])
@pytest.mark.parametrize("peers", ["null", "[]"])
def test_gate_without_peers_is_refused_without_the_schema_too(name: str, peers: str) -> None:
    options = ["--skip-schema-validation", "--set=gate.enabled=true", f"--set-json={name}={peers}"]
    with pytest.raises(ClusterError, match=f"{name}: must have a peer"):
        helm("template", "userstorage-operator", str(CHART), *options)


def test_uninstalling_the_release_keeps_the_crds() -> None:
    kept = {each["metadata"]["name"] for each in template(CHART, {}) if KEEP in each["metadata"].get("annotations", {})}
    assert kept == {"userstorages.userstorage.dev", "userstorageclasses.userstorage.dev"}
    assert not [each for each in template(CHART, {"crds.enabled": False}) if each["kind"] == "CustomResourceDefinition"]


def test_release_artifacts_name_the_image_of_the_release(tmp_path: Path) -> None:
    reference = f"localhost:5000/operator:1.2.3@sha256:{'0' * 64}"
    write(Image.parse(reference), "owner/name", tmp_path / "release", silent)
    files = {path.name: path for path in (tmp_path / "release").iterdir()}
    sums = {name: digest for digest, name in (line.split() for line in files["SHA256SUMS"].read_text().splitlines())}
    assert sums == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items() if name != "SHA256SUMS"}
    installed = [raw for raw in yaml.safe_load_all(files["install.yaml"].read_text()) if raw]
    by_chart = template(files[f"userstorage-operator-{VERSION}.tgz"], {})
    assert comparable(installed) == comparable(by_chart)
    jobs = [raw for raw in yaml.safe_load_all(files["uninstall.yaml"].read_text()) if raw["kind"] == "Job"]
    for raw in (*installed, *jobs):
        for container in raw.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ()):
            assert container["image"] == reference
    kinds = {raw["kind"] for raw in yaml.safe_load_all(files["crds.yaml"].read_text())}
    assert kinds == {"CustomResourceDefinition"}
    assert yaml.safe_load(files["prometheus-rules.yaml"].read_text())["groups"]
    assert files["images.txt"].read_text().splitlines()[0] == reference
