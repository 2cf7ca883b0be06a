"""The templates of the chart: the objects of `deploy/`, with the places that values of the chart set."""

import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from chart.markers import Marks, Object
from manifests.render import ROOT, render
from monitoring.rules import runbook_address

CHART = ROOT / "charts/userstorage-operator"
_HEADER = "{{- /* Generated from deploy/ by `make format`; do not edit. */ -}}\n"
_NAMESPACE = "userstorage-system"
_BY_NAMESPACE = frozenset({"userstorage-operator", "userstorage-operator-claim-owners", "userstorage-gate"})
"""The ClusterRoleBindings that are RoleBindings in each of the listed namespaces, if any are listed."""
_ENVIRONMENT = """\
{{- if $.Values.namespaces }}
- name: USERSTORAGE_RUN_NAMESPACES
  value: {{ join " " $.Values.namespaces | quote }}
{{- end }}
{{- with $.Values.clusterName }}
- name: USERSTORAGE_RUN_CLUSTER_NAME
  value: {{ . | quote }}
{{- end }}
{{- with $.Values.redis.username }}
- name: REDIS_USERNAME
  value: {{ . | quote }}
{{- end }}
{{- with $.Values.redis.passwordKey }}
- name: REDIS_PASSWORD_FILE
  value: {{ printf "/run/redis/%s" . | quote }}
{{- end }}
{{- with $.Values.redis.signingKeyKey }}
- name: REDIS_SIGNING_KEY_FILE
  value: {{ printf "/run/redis/%s" . | quote }}
{{- end }}
{{- with $.Values.redis.caKey }}
- name: REDIS_CA_FILE
  value: {{ printf "/run/redis/%s" . | quote }}
{{- end }}
{{- with $.Values.extraEnv }}
{{- toYaml . | nindent @0 }}
{{- end }}"""
_ARGUMENTS = """\
{{- if $.Values.metricsAuth.enabled }}
- --metrics-auth
{{- end }}
{{- if ne $.Values.volumeStats "off" }}
- --volume-stats={{ $.Values.volumeStats }}
{{- end }}
{{- with $.Values.extraArgs }}
{{- toYaml . | nindent @0 }}
{{- end }}"""
_GATE_ARGUMENTS = """\
{{- range $.Values.namespaces }}
- --namespace={{ . }}
{{- end }}
{{- with $.Values.gate.extraArgs }}
{{- toYaml . | nindent @0 }}
{{- end }}"""
_PORTS = """\
{{- if ne $.Values.volumeStats "off" }}
- port: 10250
{{- end }}
{{- with $.Values.networkPolicy.egressPorts }}
{{- toYaml . | nindent @0 }}
{{- end }}"""


def files() -> dict[Path, str]:
    """Return the text of each generated file: the templates, and the values for Argo CD's own chart."""
    bodies = {
        "crds.yaml": _file("$.Values.crds.enabled", "deploy/crds", _crd),
        "rbac.yaml": _file("", "deploy/rbac"),
        "admission.yaml": _file("", "deploy/admission", _admission),
        "manager.yaml": _file("", "deploy/manager", _manager),
        "gate.yaml": _file("$.Values.gate.enabled", "deploy/gate", _gate),
        "finalizer.yaml": _file("$.Values.finalizer.enabled", "deploy/finalizer"),
        "owner-references.yaml": _file("$.Values.ownerReferences.enabled", "deploy/owner-references"),
        "volume-stats.yaml": _file('ne $.Values.volumeStats "off"', "deploy/volume-stats"),
        "metrics-auth.yaml": _reader(),
        "monitoring.yaml": _monitoring(),
    }
    templates = {CHART / "templates" / name: _HEADER + body for name, body in bodies.items()}
    return templates | {ROOT / "deploy/gitops/argocd-values.yaml": _argocd_values()}


def _argocd_values() -> str:
    """Return the patch for the ConfigMap of Argo CD as values of the chart argo-cd."""
    data = (ROOT / "deploy/gitops/argocd-cm.yaml").read_text(encoding="utf-8").partition("\ndata:\n")[2]
    header = "# Generated from argocd-cm.yaml by `make format`; do not edit. Values of the chart argo-cd.\n"
    return f"{header}configs:\n  cm:\n{textwrap.indent(data, '  ')}"


def _file(condition: str, directory: str, edit: Callable[[Marks, Object], None] | None = None) -> str:
    """Return template text with the objects of a directory but the Namespace, which Helm makes. `edit` sets the marks."""
    return _template(condition, [each for each in render(directory) if each["kind"] != "Namespace"], edit)


def _template(condition: str, objects: Iterable[Object], edit: Callable[[Marks, Object], None] | None = None) -> str:
    body = "".join(_document(each, edit) for each in objects)
    return f"{{{{- if {condition} }}}}\n{body}{{{{- end }}}}\n" if condition else body


def _document(each: Object, edit: Callable[[Marks, Object], None] | None = None) -> str:
    marks = Marks()
    if edit is not None:
        edit(marks, each)
    text = f"---\n{_dump(marks, each)}"
    if each["kind"] == "ClusterRoleBinding" and each["metadata"]["name"] in _BY_NAMESPACE:
        each = {**each, "kind": "RoleBinding", "metadata": {**each["metadata"], "namespace": marks.mark("{{ . | quote }}")}}
        listed = f"{{{{- range $.Values.namespaces }}}}\n---\n{_dump(marks, each)}{{{{- end }}}}\n"
        return f"{{{{- if not $.Values.namespaces }}}}\n{text}{{{{- end }}}}\n{listed}"
    return text


def _dump(marks: Marks, each: Object) -> str:
    # A namespace may have the name of a number.
    text = re.sub(rf": {_NAMESPACE}$", ": {{ $.Release.Namespace | quote }}", marks.dump(each), flags=re.MULTILINE)
    return text.replace(_NAMESPACE, "{{ $.Release.Namespace }}")


def _crd(_marks: Marks, each: Object) -> None:
    # Helm would delete the CRDs with the release, and the API server every UserStorage with its CRD.
    each["metadata"].setdefault("annotations", {})["helm.sh/resource-policy"] = "keep"


def _admission(marks: Marks, each: Object) -> None:
    for variable in each["spec"].get("variables", ()) if "spec" in each else ():
        if variable["name"] == "platformKeys":
            variable["expression"] = marks.mark("{{ $.Values.admission.platformKeys | default list | toJson | quote }}")
    if each["kind"] == "ClusterRole":
        marks.append(
            each["rules"][0],
            "{{- with $.Values.admission.classes }}\nresourceNames:\n{{- toYaml . | nindent @2 }}\n{{- end }}",
        )


def _manager(marks: Marks, each: Object) -> None:
    if each["kind"] == "Deployment":
        container = _deployment(marks, each, "$.Values")
        container["args"].append(marks.mark(_ARGUMENTS))
        for entry in container["env"]:
            entry["valueFrom"]["secretKeyRef"]["name"] = marks.mark("{{ $.Values.redis.secretName | quote }}")
        container["env"].append(marks.mark(_ENVIRONMENT))
        [volume] = each["spec"]["template"]["spec"]["volumes"]
        volume["secret"]["secretName"] = marks.mark("{{ $.Values.redis.secretName | quote }}")
    if each["kind"] == "NetworkPolicy":
        [incoming] = each["spec"]["ingress"]
        marks.append(incoming, "{{- with $.Values.networkPolicy.from }}\nfrom:\n{{- toYaml . | nindent @2 }}\n{{- end }}")
        [outgoing] = each["spec"]["egress"]
        outgoing["ports"].append(marks.mark(_PORTS))


def _gate(marks: Marks, each: Object) -> None:
    if each["kind"] == "Deployment":
        container = _deployment(marks, each, "$.Values.gate")
        container["args"].append(marks.mark(_GATE_ARGUMENTS))
        [volume] = each["spec"]["template"]["spec"]["volumes"]
        volume["secret"]["secretName"] = marks.mark("{{ $.Values.gate.secretName | quote }}")
    if each["kind"] == "NetworkPolicy":
        door, metrics = each["spec"]["ingress"]
        for rule, name in ((door, "doorFrom"), (metrics, "metricsFrom")):
            # Without peers, a rule of a NetworkPolicy admits every pod. Argo CD can skip the schema that refuses that.
            failing = f'{{{{- fail "gate.{name}: must have a peer; without one, every pod of the cluster is admitted" }}}}'
            peers = f"{{{{- with $.Values.gate.{name} }}}}\n{{{{- toYaml . | nindent @2 }}}}\n{{{{- else }}}}\n{failing}\n{{{{- end }}}}"
            marks.replace(rule, "from", f"from:\n{peers}")


def _deployment(marks: Marks, each: Object, values: str) -> Object:
    """Mark what both Deployments have in common, with their own values below `values`; return the container."""
    spec = each["spec"]
    spec["replicas"] = marks.mark(f"{{{{ {values}.replicas }}}}")
    metadata = spec["template"]["metadata"]
    for field in ("labels", "annotations"):
        name = f"pod{field.title()}"
        marks.append(metadata[field], f"{{{{- with $.Values.{name} }}}}\n{{{{- toYaml . | nindent @0 }}}}\n{{{{- end }}}}")
    pod = spec["template"]["spec"]
    for field in ("imagePullSecrets", "nodeSelector", "tolerations", "affinity"):
        text = f"{{{{- with $.Values.{field} }}}}\n{field}:\n{{{{- toYaml . | nindent @2 }}}}\n{{{{- end }}}}"
        marks.append(pod, text)
    marks.append(pod, "{{- with $.Values.priorityClassName }}\npriorityClassName: {{ . | quote }}\n{{- end }}")
    [container] = pod["containers"]
    container["image"] = marks.mark('{{ include "userstorage-operator.image" $ | quote }}')
    container["imagePullPolicy"] = marks.mark("{{ $.Values.image.pullPolicy }}")
    marks.replace(container, "resources", f"resources:\n{{{{- toYaml {values}.resources | nindent @2 }}}}")
    result: Object = container
    return result


def _reader() -> str:
    reader = list(yaml.safe_load_all((ROOT / "deploy/metrics-auth/reader.yaml").read_text()))
    return _template("$.Values.metricsAuth.enabled", reader)


def _monitoring() -> str:
    plain = render("deploy/monitoring")
    services = [each for each in render("deploy/service-monitor") if each["kind"] == "ServiceMonitor"]
    pods = [each for each in plain if each["kind"] == "PodMonitor"]
    rest = [each for each in plain if each["kind"] not in {"PodMonitor", "ConfigMap"}]
    dashboard = [each for each in plain if each["kind"] == "ConfigMap"]
    enabled = "$.Values.monitoring.enabled"
    kind = "$.Values.monitoring.kind"
    return (
        _template(f'and {enabled} (eq {kind} "PodMonitor")', pods, _monitor)
        + _template(f'and {enabled} (eq {kind} "ServiceMonitor")', services, _monitor)
        + _template(enabled, rest, _rules)
        + _template(f"and {enabled} $.Values.monitoring.dashboard.enabled", dashboard, _dashboard)
    )


def _monitor(marks: Marks, each: Object) -> None:
    _labels(marks, each)
    endpoints = each["spec"].get("podMetricsEndpoints") or each["spec"]["endpoints"]
    for endpoint in endpoints:
        endpoint["interval"] = marks.mark("{{ $.Values.monitoring.interval }}")
        if each["metadata"]["name"] == "userstorage-operator":
            text = "authorization:\n  credentials:\n    name: userstorage-metrics-reader\n    key: token"
            marks.append(endpoint, f"{{{{- if $.Values.metricsAuth.enabled }}}}\n{text}\n{{{{- end }}}}")


def _rules(marks: Marks, each: Object) -> None:
    _labels(marks, each)
    cpu, memory = (marks.mark(f'{{{{ include "userstorage-operator.{name}" $ }}}}') for name in ("cores", "memory"))
    values = "$.Values.resources.limits"
    limits = {
        "cpu": marks.mark(f'{{{{ {values}.cpu | default "one core" }}}}'),
        "memory": marks.mark(f"{{{{ {values}.memory }}}}"),
    }
    runbook = marks.mark("{{ $.Values.monitoring.runbookURL }}")
    for group in each["spec"]["groups"]:
        for rule in group["rules"]:
            match rule.get("record"):
                case "userstorage:cpu_of_limit:ratio":
                    rule["expr"] = rule["expr"].replace("/ 0.5", f"/ {cpu}")
                case "userstorage:memory_of_limit:ratio":
                    rule["expr"] = rule["expr"].replace("(512 * 1024 * 1024)", memory)
            notes: dict[str, Any] = rule.get("annotations", {})
            for name, text in notes.items():
                notes[name] = text.replace(runbook_address(), runbook)
            match rule.get("alert"):
                case "UserStorageCPUHigh":
                    notes["summary"] = notes["summary"].replace("500m", limits["cpu"])
                case "UserStorageMemoryHigh":
                    notes["summary"] = notes["summary"].replace("512Mi", limits["memory"])


def _dashboard(marks: Marks, each: Object) -> None:
    metadata = each["metadata"]
    for label in [label for label in metadata["labels"] if label != "app.kubernetes.io/name"]:
        del metadata["labels"][label]
    dashboard = "$.Values.monitoring.dashboard"
    marks.append(metadata["labels"], f"{{{{- with {dashboard}.labels }}}}\n{{{{- toYaml . | nindent @0 }}}}\n{{{{- end }}}}")
    text = f"{{{{- with {dashboard}.annotations }}}}\nannotations:\n{{{{- toYaml . | nindent @2 }}}}\n{{{{- end }}}}"
    marks.append(metadata, text)


def _labels(marks: Marks, each: Object) -> None:
    text = "{{- with $.Values.monitoring.labels }}\n{{- toYaml . | nindent @0 }}\n{{- end }}"
    marks.append(each["metadata"]["labels"], text)
