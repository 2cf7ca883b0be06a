"""The part of each object that the caches keep: what the operator reads, with a limit for everything that a tenant can fill.

Anyone who may create objects in a namespace can give them our label, and fill each with a megabyte. So objects whose names are not
those of children are dropped, and of the others only the fields below are kept. A field that a plan or a report reads has to be
listed here: `tests/unit/test_kept.py` compares plans and reports of whole objects with those of kept ones.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from typing import Any

from userstorage_operator.api import names
from userstorage_operator.api.resources import STORAGE_CLASSES, USER_STORAGE_CLASSES, USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured

MAP_MAX = 12 << 10
"""Characters of the labels of an object that are kept, and of its annotations: `podMetadata` of a class and of a UserStorage may have
4 KiB each.
"""
SPEC_MAX = 16 << 10
"""Characters of JSON of a spec that are kept. A list or map that does not fit counts as empty, so it differs from a desired one."""
_TEXT_MAX = 4096
"""Characters of a text: a kubelet cuts the termination message of a container there too."""
_MESSAGE_MAX = 1024
"""Characters of the message of a condition: as many as one of ours can have."""
_NAME_MAX = 512
"""Characters of a name or an image."""
_LIST_MAX = 16
"""Entries of a list whose end is not needed: owners, finalizers, field managers, containers, volumes."""

_LABELS = frozenset(
    {
        names.LABEL_APP,
        names.LABEL_USER,
        names.LABEL_SLUG,
        names.LABEL_MANAGED_BY,
        names.LABEL_RECOMMENDED_MANAGED_BY,
        names.LABEL_OWNER_UID,
        names.LABEL_SHAREABLE,
    }
)
_ANNOTATIONS = frozenset(
    {
        names.ANNOTATION_USER_ID,
        names.ANNOTATION_POD_HASH,
        names.ANNOTATION_SPEC_HASH,
        names.ANNOTATION_SOURCES_HASH,
        names.ANNOTATION_EXPOSURE_HASH,
        names.ANNOTATION_CLASS,
        names.ANNOTATION_BASE_PATH,
        names.ANNOTATION_REQUESTED_SIZE,
        names.ANNOTATION_RUN_AS,
        names.ANNOTATION_RESTARTED_AT,
    }
)
_REQUESTS = frozenset({names.ANNOTATION_PAUSED, names.ANNOTATION_RESTARTED_AT})
"""The annotations of a UserStorage that are read."""
_IDENTITY = ("name", "namespace", "uid", "resourceVersion")
_LIFE = ("generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")

_SPECS = {
    Kind.NETWORK_POLICY: ("podSelector", "policyTypes", "ingress", "egress"),
    Kind.SERVICE: (
        "type",
        "selector",
        "ports",
        "sessionAffinity",
        "internalTrafficPolicy",
        "externalIPs",
        "publishNotReadyAddresses",
    ),
    Kind.PVC: ("accessModes", "resources", "storageClassName", "volumeName"),
    Kind.INGRESS: ("rules", "tls", "defaultBackend", "ingressClassName"),
    Kind.HTTP_ROUTE: ("parentRefs", "hostnames", "rules"),
}
"""The fields of the spec of each kind that a plan compares or a report reads."""
_FREE_ANNOTATIONS = frozenset({Kind.POD, Kind.INGRESS, Kind.HTTP_ROUTE})
"""The kinds to whose children a class or a UserStorage can add annotations."""
_FREE_LABELS = frozenset({Kind.POD})


_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"

Keep = Callable[[Unstructured], Unstructured | None]
"""Returns the kept part of an object; None if the object is none of ours."""


def keep(resource: Resource) -> Keep:
    """Return the function that returns the kept part of an object of the resource."""
    return _KEEP[resource]


def shared_claim(claim: Unstructured) -> Unstructured:
    """Return the kept part of a claim of any name that UserStorages may name: its owner can fill the rest."""
    meta = claim["metadata"]
    return {
        "metadata": _some(meta, *_IDENTITY, "deletionTimestamp")
        | {"labels": _some(meta.get("labels") or {}, names.LABEL_SHAREABLE)},
        "spec": _bounded(claim.get("spec") or {}, ("accessModes", "volumeName")),
        "status": _some(claim.get("status") or {}, "phase"),
    }


def _storage(raw: Unstructured) -> Unstructured:
    meta = raw["metadata"]
    annotations = _texts(meta.get("annotations"), _REQUESTS, 64)
    return {
        **_some(raw, "apiVersion", "kind", "spec", "status"),
        "metadata": _life(meta) | ({"annotations": annotations} if annotations else {}),
    }


def _class(raw: Unstructured) -> Unstructured:
    """Return a class without what `kubectl apply` records of it: administrators write classes."""
    meta = raw["metadata"]
    annotations = _texts(meta.get("annotations"), (names.ANNOTATION_DEFAULT_CLASS,), 64)
    return {
        **_some(raw, "apiVersion", "kind", "spec", "status"),
        "metadata": _life(meta) | ({"annotations": annotations} if annotations else {}),
    }


def _storage_class(raw: Unstructured) -> Unstructured:
    return {"metadata": _some(raw["metadata"], *_IDENTITY), **_some(raw, "volumeBindingMode")}


def _child(kind: Kind) -> Keep:
    fields = _SPECS[kind]

    def kept(child: Unstructured) -> Unstructured | None:
        if names.slug_of_child(child["metadata"]["name"]) is None:
            return None
        spec = _bounded(child.get("spec") or {}, fields)
        found = {**_some(child, "kind"), "metadata": _metadata(kind, child["metadata"], spec), "spec": spec}
        if kind is Kind.PVC and "status" in child:
            found["status"] = _claim_status(child["status"])
        elif kind is Kind.HTTP_ROUTE and "status" in child:
            found["status"] = _route_status(child["status"])
        return found

    return kept


def _claim_status(status: Unstructured) -> Unstructured:
    kept = _some(status, "phase")
    for field in ("capacity", "allocatedResourceStatuses"):
        if field in status:
            kept[field] = _some(status[field] or {}, "storage")
    if "conditions" in status:
        kept["conditions"] = _conditions(status["conditions"])
    return kept


def _route_status(status: Unstructured) -> Unstructured:
    parents = [
        {
            "parentRef": _cut(_some(parent["parentRef"], "group", "kind", "namespace", "name", "sectionName"), _NAME_MAX),
            "conditions": _conditions(parent.get("conditions")),
        }
        for parent in (status.get("parents") or ())[:_LIST_MAX]
    ]
    return {"parents": parents}


def _pod(pod: Unstructured) -> Unstructured:
    meta, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    if names.slug_of_child(meta["name"]) is None:
        return _strange_pod(pod)
    kept = _bounded(spec, ("nodeName", "schedulingGates", "readinessGates"))
    kept["containers"] = [_container(entry) for entry in spec.get("containers") or () if entry["name"] == names.CONTAINER]
    if volumes := _volumes(spec):
        kept["volumes"] = volumes
    if security := _some(spec.get("securityContext") or {}, "runAsUser", "runAsGroup", "fsGroup"):
        kept["securityContext"] = security
    if required := ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(_REQUIRED):
        kept["affinity"] = {"nodeAffinity": _bounded({_REQUIRED: required}, (_REQUIRED,))}
    found: Unstructured = {"metadata": _metadata(Kind.POD, meta, {}), "spec": kept}
    if "status" in pod:
        found["status"] = _cut(_some(status, "phase", "reason", "message", "hostIP"), _TEXT_MAX)
        if "conditions" in status:
            found["status"]["conditions"] = _conditions(status["conditions"])
        for field in ("initContainerStatuses", "containerStatuses"):
            if field in status:
                found["status"][field] = _fitting_list(_container_status(entry) for entry in status[field] or ())
    return found


def _strange_pod(pod: Unstructured) -> Unstructured:
    """Return what keeps the volume of a claim on a node: a pod with our label that is no child may mount the claim of a user."""
    meta, spec = pod["metadata"], pod.get("spec") or {}
    labels = _some(meta.get("labels") or {}, names.LABEL_MANAGED_BY)
    return {
        "metadata": _some(meta, *_IDENTITY) | {"labels": labels},
        "spec": {**_bounded(spec, ("nodeName",)), "volumes": _volumes(spec), "containers": []},
        "status": _some(pod.get("status") or {}, "phase"),
    }


def _volumes(spec: Unstructured) -> list[Unstructured]:
    """Return the volumes of a pod that have a claim."""
    claims = [
        {"name": volume["name"], "persistentVolumeClaim": _cut(_some(claim, "claimName", "readOnly"), _NAME_MAX)}
        for volume in spec.get("volumes") or ()
        if (claim := volume.get("persistentVolumeClaim"))
    ]
    claims.sort(key=lambda volume: volume["name"] != names.FILES_VOLUME)
    return claims[:_LIST_MAX]


def _container(container: Unstructured) -> Unstructured:
    kept = _cut(_some(container, "name", "image"), _NAME_MAX)
    mounts = [mount for mount in container.get("volumeMounts") or () if mount["name"] == names.FILES_VOLUME]
    ports = [port for port in container.get("ports") or () if port.get("name") == "http"]
    kept["volumeMounts"] = [_cut(_some(mount, "name", "subPath"), _TEXT_MAX) for mount in mounts[:1]]
    kept["ports"] = [_some(port, "name", "containerPort") for port in ports[:1]]
    for field in ("startupProbe", "readinessProbe"):
        if probe := container.get(field):
            kept[field] = _some(probe, "initialDelaySeconds", "periodSeconds", "failureThreshold")
    return kept


def _container_status(status: Unstructured) -> Unstructured:
    kept = _cut(_some(status, "name", "ready", "started", "restartCount"), _NAME_MAX)
    for field, states in (("state", ("waiting", "running", "terminated")), ("lastState", ("terminated",))):
        found = {
            state: _cut(_some(known, "reason", "message", "exitCode", "startedAt"), _TEXT_MAX)
            for state in states
            if (known := (status.get(field) or {}).get(state)) is not None
        }
        if found:
            kept[field] = found
    return kept


def _conditions(conditions: Iterable[Unstructured] | None) -> list[Unstructured]:
    fields = ("type", "status", "reason", "message", "lastTransitionTime", "observedGeneration")
    return [_cut(_some(condition, *fields), _MESSAGE_MAX) for condition in islice(conditions or (), _LIST_MAX)]


def _life(meta: Unstructured) -> Unstructured:
    """Return the metadata of an object apart from labels, annotations, owners and field managers."""
    kept = _some(meta, *_IDENTITY, *_LIFE)
    if finalizers := meta.get("finalizers"):
        kept["finalizers"] = finalizers[:_LIST_MAX]
    return kept


def _metadata(kind: Kind, meta: Unstructured, spec: Unstructured) -> Unstructured:
    """Return the metadata of a child; `spec` is what is kept of its spec."""
    kept, ours = _life(meta), _own_fields(meta)
    if owners := meta.get("ownerReferences"):
        kept["ownerReferences"] = [_cut(owner, _NAME_MAX) for owner in _controller_first(owners)[: _LIST_MAX // 4]]
    if texts := _fitting(meta.get("labels") or {}, _LABELS, ours.get("f:labels") or {}, free=kind in _FREE_LABELS):
        kept["labels"] = texts
    free = kind in _FREE_ANNOTATIONS
    if texts := _fitting(meta.get("annotations") or {}, _ANNOTATIONS, ours.get("f:annotations") or {}, free=free):
        kept["annotations"] = texts
    if managers := _managers(kind, meta, kept, spec, ours):
        kept["managedFields"] = managers
    return kept


def _controller_first(owners: list[Unstructured]) -> list[Unstructured]:
    return owners if len(owners) <= _LIST_MAX // 4 else sorted(owners, key=lambda owner: not owner.get("controller"))


def _fitting(texts: Mapping[str, str], known: Collection[str], ours: Mapping[str, Any], *, free: bool) -> dict[str, str]:
    """Return the labels or annotations that are `known` or that our field manager has set (`ours`, of the format FieldsV1), and all
    others if `free`; as many as MAP_MAX holds, in that order, the shortest first.
    """
    wanted = texts if free else {key: text for key, text in texts.items() if key in known or f"f:{key}" in ours}
    if sum(map(len, wanted)) + sum(map(len, wanted.values())) <= MAP_MAX:
        return dict(wanted)

    def rank(entry: tuple[str, str]) -> tuple[int, int, str]:
        key, text = entry
        return 0 if key in known else 1 if f"f:{key}" in ours else 2, len(key) + len(text), key

    kept, left = dict[str, str](), MAP_MAX
    for key, text in sorted(wanted.items(), key=rank):
        if len(key) + len(text) <= left:
            kept[key] = text
            left -= len(key) + len(text)
    return kept


def _own_fields(meta: Unstructured) -> Unstructured:
    """Return the labels and annotations that our field manager has set, in the format FieldsV1."""
    found: Unstructured = {}
    for entry in meta.get("managedFields") or ():
        if entry.get("manager") == names.FIELD_MANAGER and not entry.get("subresource"):
            owned = (entry.get("fieldsV1") or {}).get("f:metadata") or {}
            for field in ("f:labels", "f:annotations"):
                if fields := owned.get(field):
                    found[field] = found[field] | fields if field in found else fields
    return found


def _managers(kind: Kind, meta: Unstructured, kept: Unstructured, spec: Unstructured, ours: Unstructured) -> list[Unstructured]:
    """Return a digest of managedFields: which labels and annotations we have set, and which of the kept fields others have."""
    digest, left = list[Unstructured](), MAP_MAX
    fields = ("f:labels", "f:annotations") if kind is Kind.POD else ("f:annotations",) if kind is not Kind.PVC else ()
    own = {field: _present(ours[field], kept.get(field[2:], {})) for field in fields if field in ours}
    if own:
        digest.append({"manager": names.FIELD_MANAGER, "fieldsV1": {"f:metadata": own}})
    for entry in (meta.get("managedFields") or ())[: 2 * _LIST_MAX]:
        if entry.get("manager") != names.FIELD_MANAGER and (found := _foreign_fields(kind, entry, kept, spec)):
            left -= sum(sum(map(len, inner)) for part in found.values() for inner in part.values())
            if left < 0:
                break
            digest.append(_cut(_some(entry, "manager", "time", "subresource"), _NAME_MAX) | {"fieldsV1": found})
    return digest[:_LIST_MAX]


def _present(owned: Unstructured, texts: Mapping[str, str]) -> Unstructured:
    """Return the owned labels or annotations: of too many only those that are kept."""
    return owned if len(owned) <= _LIST_MAX else {key: {} for key in owned if key[2:] in texts}


def _foreign_fields(kind: Kind, entry: Unstructured, kept: Unstructured, spec: Unstructured) -> Unstructured:
    """Return those fields of another manager that a patch of ours may concern; of a pod also which fields of its spec."""
    owned, found = entry.get("fieldsV1") or {}, Unstructured()
    if owned_metadata := owned.get("f:metadata"):
        metadata: Unstructured = {}
        for field, fields in owned_metadata.items():
            if field in ("f:labels", "f:annotations"):
                present = kept.get(field[2:], {})
                if keys := [key for key in fields if key[2:] in present]:
                    metadata[field] = {key: {} for key in keys}
            elif field in ("f:ownerReferences", "f:finalizers"):
                metadata[field] = {".": {}}
        if metadata:
            found["f:metadata"] = metadata
    if owned_spec := owned.get("f:spec"):
        if kind is not Kind.POD:
            some = {field: _without_items(fields) for field, fields in owned_spec.items() if field[2:] in spec}
        else:
            some = {field: {} for field in owned_spec} if not entry.get("subresource") else {}
        if some:
            found["f:spec"] = some
    return found


def _without_items(fields: Unstructured) -> Unstructured:
    """Return owned fields without the items of lists, which a merge patch replaces as a whole. What is too large counts as one."""
    kept = {key: _without_items(inner) for key, inner in fields.items() if key[:2] == "f:" or key == "."}
    return kept if len(kept) <= _LIST_MAX else {}


def _some(raw: Mapping[str, Any], *fields: str) -> Unstructured:
    return {field: raw[field] for field in fields if field in raw}


def _texts(raw: Mapping[str, str] | None, keys: Iterable[str], longest: int) -> dict[str, str]:
    return {key: raw[key][:longest] for key in keys if key in raw} if raw else {}


def _cut(raw: Unstructured, longest: int) -> Unstructured:
    """Return the map with no text longer than `longest` characters."""
    for value in raw.values():
        if isinstance(value, str) and len(value) > longest:
            return {key: text[:longest] if isinstance(text, str) else text for key, text in raw.items()}
    return raw


def _fitting_list(entries: Iterable[Unstructured]) -> list[Unstructured]:
    """Return the first entries of a list: more than two only as far as they are in SPEC_MAX characters of JSON."""
    kept = list(islice(entries, _LIST_MAX))
    while len(kept) > 2 and len(json.dumps(kept)) > SPEC_MAX:
        kept.pop()
    return kept


def _bounded(raw: Mapping[str, Any], fields: Iterable[str]) -> Unstructured:
    """Return the fields of a spec: as far as they fit into SPEC_MAX, the others without their content."""
    kept, left = Unstructured(), SPEC_MAX
    for field in fields:
        if field in raw:
            value = raw[field]
            size = len(json.dumps(value)) if isinstance(value, list | dict | str) and value else 0
            kept[field] = value if size <= left else type(value)()
            left -= size if size <= left else 0
    return kept


_KEEP: dict[Resource, Keep] = {
    USER_STORAGES: _storage,
    USER_STORAGE_CLASSES: _class,
    STORAGE_CLASSES: _storage_class,
    Kind.POD.resource: _pod,
    **{kind.resource: _child(kind) for kind in Kind if kind is not Kind.POD},
}
