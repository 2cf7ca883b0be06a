"""Removes from Kubernetes objects everything that differs between two recordings, such as uids and times."""

import copy
from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]

_OF_THE_CLUSTER = (
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "selfLink",
    "namespace",
    "generateName",
)
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_ASSIGNED = {
    # A cluster assigns these, and refuses some values if a manifest has them.
    "Service": ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"),
    "PersistentVolumeClaim": ("volumeName",),
    "Pod": ("nodeName",),
}
_MOMENT = "2026-01-31T12:00:00Z"
_FIXED = {"lastTransitionTime": _MOMENT, "readyTime": _MOMENT, "startupSeconds": 0}
_NODE = "fake-1"


def placeholder(raw: Object) -> str:
    """Return the text that replaces the uid of the object `raw`, wherever the uid is used."""
    return f"uid-of-{raw['kind']}-{raw['metadata']['name']}"


def volume_placeholder(claim: Object) -> str:
    """Return the text that replaces the name of the volume of the claim `claim`, wherever that name is used."""
    return f"volume-of-{claim['metadata']['name']}"


def masked(objects: Iterable[Object]) -> list[Object]:
    """Return copies of the objects without the fields that differ between two recordings. Placeholders replace uids."""
    originals = list(objects)
    claims = [raw for raw in originals if raw["kind"] == "PersistentVolumeClaim" and "volumeName" in raw["spec"]]
    texts = {raw["metadata"]["uid"]: placeholder(raw) for raw in originals}
    texts |= {raw["spec"]["volumeName"]: volume_placeholder(raw) for raw in claims}
    return [_mask(raw, texts) for raw in originals]


def _mask(original: Object, texts: dict[str, str]) -> Object:
    raw = copy.deepcopy(original)
    for field in (*_OF_THE_CLUSTER, "uid"):
        raw["metadata"].pop(field, None)
    raw["metadata"].get("annotations", {}).pop(_APPLIED, None)
    if not raw["metadata"].get("annotations", True):
        del raw["metadata"]["annotations"]
    for field in _ASSIGNED.get(raw["kind"], ()):
        raw["spec"].pop(field, None)
    if not raw["apiVersion"].startswith("userstorage.dev/"):
        raw.pop("status", None)  # other controllers write it again
    elif "nodeName" in raw["status"]:
        raw["status"]["nodeName"] = _NODE
    result: Object = _replace(raw, texts)
    return result


def _replace(value: Any, texts: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _FIXED.get(key, _replace(inner, texts)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replace(inner, texts) for inner in value]
    return texts.get(value, value) if isinstance(value, str) else value
