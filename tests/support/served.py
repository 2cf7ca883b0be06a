"""Children as a real API server has them: with the defaults that it sets, the field managers that it records, and a status."""

from copy import deepcopy
from typing import Any

from support.builders import CREATED, stored
from userstorage_operator.api.names import FIELD_MANAGER
from userstorage_operator.api.unstructured import Unstructured

_ENTRY = {"apiVersion": "v1", "fieldsType": "FieldsV1", "operation": "Update", "time": CREATED}
_KEYS = ("name", "port", "containerPort", "mountPath", "uid", "ip", "type")
"""The keys of list items: the first that an item has names it in managedFields, as far as it matters here."""


def owned(value: Any) -> Any:
    """Return the fields of `value` in the format FieldsV1."""
    if isinstance(value, dict):
        return {f"f:{key}": owned(inner) for key, inner in value.items()}
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        keys = [next((key for key in _KEYS if key in item), "") for item in value]
        if all(keys):
            pairs = zip(keys, value, strict=True)
            return {f'k:{{"{key}":"{item[key]}"}}': {".": {}, **owned(item)} for key, item in pairs}
    return {}


def managed_by(manager: str, fields: Unstructured, subresource: str | None = None) -> Unstructured:
    """Return an entry of managedFields: `manager` has written `fields`, a part of the object."""
    entry = {"manager": manager, "fieldsV1": owned(fields), **_ENTRY}
    return entry | ({"subresource": subresource} if subresource is not None else {})


def served_pod(child: Unstructured) -> Unstructured:
    """Return a desired pod that runs: about ten kilobytes of JSON."""
    pod = deepcopy(stored(child))
    spec = pod["spec"]
    spec |= {
        "dnsPolicy": "ClusterFirst",
        "nodeName": "node-17.example.org",
        "preemptionPolicy": "PreemptLowerPriority",
        "priority": 0,
        "schedulerName": "default-scheduler",
        "serviceAccount": "default",
        "serviceAccountName": "default",
        "tolerations": [
            {"effect": "NoExecute", "key": f"node.kubernetes.io/{key}", "operator": "Exists", "tolerationSeconds": 300}
            for key in ("not-ready", "unreachable")
        ],
    }
    names = [container["name"] for container in (*spec["containers"], *spec.get("initContainers", ()))]
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        container |= {"imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log"}
    conditions = [
        {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": CREATED, "observedGeneration": 1}
        for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    ]
    statuses = [
        {
            "name": name,
            "containerID": f"containerd://{'4f' * 32}",
            "image": "docker.io/filebrowser/filebrowser:v2.63.22",
            "imageID": f"docker.io/filebrowser/filebrowser@sha256:{'a7' * 32}",
            "lastState": {},
            "ready": True,
            "restartCount": 0,
            "started": True,
            "state": {"running": {"startedAt": CREATED}},
            "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
            "user": {"linux": {"uid": 1000, "gid": 1000, "supplementalGroups": [1000]}},
            "volumeMounts": [{"mountPath": "/srv", "name": "files"}],
        }
        for name in names
    ]
    pod["status"] = {
        "phase": "Running",
        "conditions": conditions,
        "containerStatuses": statuses[:1],
        "hostIP": "10.0.0.17",
        "hostIPs": [{"ip": "10.0.0.17"}],
        "podIP": "10.244.17.23",
        "podIPs": [{"ip": "10.244.17.23"}],
        "qosClass": "Burstable",
        "startTime": CREATED,
    } | ({"initContainerStatuses": statuses[1:]} if statuses[1:] else {})
    meta = pod["metadata"] | {"generation": 1}
    meta["annotations"] = meta["annotations"] | {
        "cni.projectcalico.org/containerID": "5e" * 32,
        "cni.projectcalico.org/podIP": "10.244.17.23/32",
    }
    kubelet = {"status": pod["status"]}
    calico = {"metadata": {"annotations": {"cni.projectcalico.org/podIP": ""}}, "status": {"phase": ""}}
    meta["managedFields"] = [
        managed_by(FIELD_MANAGER, {"metadata": _written(child), "spec": child["spec"]}),
        managed_by("calico", calico, "status"),
        managed_by("kubelet", kubelet, "status"),
    ]
    return pod | {"metadata": meta}


def served_claim(child: Unstructured) -> Unstructured:
    """Return a desired claim that is bound."""
    claim = deepcopy(stored(child))
    claim["spec"] |= {"volumeMode": "Filesystem", "volumeName": "pvc-0b5f8c3e-0000-4000-8000-000000000007"}
    claim["spec"].setdefault("storageClassName", "standard")
    size = claim["spec"]["resources"]["requests"]["storage"]
    claim["status"] = {"accessModes": claim["spec"]["accessModes"], "capacity": {"storage": size}, "phase": "Bound"}
    bound = {"pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes"}
    claim["metadata"]["annotations"] |= bound | {"volume.kubernetes.io/storage-provisioner": "rancher.io/local-path"}
    claim["metadata"]["finalizers"] = ["kubernetes.io/pvc-protection"]
    claim["metadata"]["managedFields"] = [
        managed_by(FIELD_MANAGER, {"metadata": _written(child), "spec": child["spec"]}),
        managed_by("kube-controller-manager", {"metadata": {"annotations": bound}, "spec": {"volumeName": ""}}),
        managed_by("kube-controller-manager", {"status": claim["status"]}, "status"),
    ]
    return claim


def served(child: Unstructured) -> Unstructured:
    """Return a desired child of another kind: a Service, NetworkPolicy, Ingress or HTTPRoute."""
    found = deepcopy(stored(child))
    if child["kind"] == "Service":
        addresses = {"clusterIP": "10.96.17.23", "clusterIPs": ["10.96.17.23"], "ipFamilies": ["IPv4"]}
        found["spec"] |= addresses | {"ipFamilyPolicy": "SingleStack"}
        found["status"] = {"loadBalancer": {}}
    elif child["kind"] == "HTTPRoute":
        accepted = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "lastTransitionTime": CREATED}
        parent = {
            "parentRef": child["spec"]["parentRefs"][0],
            "controllerName": "example.org/gateway",
            "conditions": [accepted],
        }
        found["status"] = {"parents": [parent]}
    else:
        found["metadata"]["generation"] = 1
    found["metadata"]["managedFields"] = [managed_by(FIELD_MANAGER, {"metadata": _written(child), "spec": child["spec"]})]
    return found


def _written(child: Unstructured) -> Unstructured:
    return {field: value for field, value in child["metadata"].items() if field not in ("name", "namespace")}
