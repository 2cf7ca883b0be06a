"""The summary of a UserStorage for platform backends: selected fields of its spec and status, in one flat object."""

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
    """Return the summary of a raw UserStorage.

    Fields that the UserStorage lacks are left out, except `ready`, `phase` and `userID`, which are always present.
    """
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    fields: Unstructured = {
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
        fields["deletionTimestamp"] = meta["deletionTimestamp"]
        if fields["ready"]:  # the status of a deletion comes later, and callers must not be sent to a pod that terminates
            fields |= {
                "phase": "Terminating",
                "ready": False,
                "reason": "Terminating",
                "message": "the UserStorage is being deleted",
            }
    if "className" in spec:
        fields["className"] = spec["className"]
    return fields


def _ready(status: Unstructured) -> Unstructured:
    """Return the fields `ready`, `reason` and `message` from the condition Ready; False, Pending and "" if it is missing."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Ready":
            return {
                "ready": condition.get("status") == "True",
                "reason": condition.get("reason", ""),
                "message": condition.get("message", ""),
            }
    return {"ready": False, "reason": "Pending", "message": ""}
