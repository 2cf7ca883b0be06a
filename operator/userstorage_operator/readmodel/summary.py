"""What platform backends are told of a UserStorage: a flat summary of its spec and status, and nothing else of it."""

from userstorage_operator.api.unstructured import Unstructured

_STATUS = (
    "phase",
    "podName",
    "podUID",
    "serviceName",
    "url",
    "nodeName",
    "image",
    "readyTime",
    "restartCount",
    "storage",
    "lastError",
)


def summary(raw: Unstructured) -> Unstructured:
    """The summary of a raw UserStorage. Absent fields are absent here too; `ready`, `phase` and `userID` always are there."""
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    told: Unstructured = {
        "namespace": meta["namespace"],
        "name": meta["name"],
        "uid": meta["uid"],
        "resourceVersion": meta["resourceVersion"],
        "generation": meta["generation"],
        "observedGeneration": status.get("observedGeneration", 0),
        "creationTimestamp": meta["creationTimestamp"],
        "userID": spec.get("userID", ""),
        "replicas": spec.get("replicas", 1),
        "phase": status.get("phase", "Pending"),
        **_ready(status),
        **{field: status[field] for field in _STATUS if field in status},
    }
    if "deletionTimestamp" in meta:
        told["deletionTimestamp"] = meta["deletionTimestamp"]
    if "className" in spec:
        told["className"] = spec["className"]
    return told


def _ready(status: Unstructured) -> Unstructured:
    """The condition Ready, as a truth value with its reason and message."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Ready":
            return {
                "ready": condition.get("status") == "True",
                "reason": condition.get("reason", ""),
                "message": condition.get("message", ""),
            }
    return {"ready": False, "reason": "Pending", "message": ""}
