"""An API server in memory, with what the operator relies on: resourceVersions, preconditions, finalizers, propagation policies.

Objects are never changed in place: every write stores another one, so that readers may keep what they were given.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from userstorage_operator.api.errors import AlreadyExists, Conflict, NotFound, Refused
from userstorage_operator.api.names import CONTAINER, FIELD_MANAGER, FOREGROUND_FINALIZER, ORPHAN_FINALIZER
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES, Kind, Resource
from userstorage_operator.api.timestamps import format_time
from userstorage_operator.api.unstructured import Unstructured

START = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
PVC_PROTECTION = "kubernetes.io/pvc-protection"
FOREIGN_UID = "uid-of-another-owner"
"""The uid of an owner of another kind, which exists."""
_COUNTED = (USER_STORAGES, USER_STORAGE_CLASSES)
"""Resources whose objects have a generation."""
_PENDING = (USER_STORAGES, Kind.POD.resource, Kind.PVC.resource)
"""Resources whose objects have a phase from their creation on."""

ObjectKey = tuple[str, str]
"""Namespace (empty for cluster-scoped objects) and name."""


class Change(NamedTuple):
    """One change of one object: None before its creation and after its removal."""

    version: int
    before: Unstructured | None
    after: Unstructured | None

    @property
    def obj(self) -> Unstructured:
        """The object after the change; of a removal, the object as it was, with the version of the removal."""
        if self.after is not None:
            return self.after
        assert self.before is not None
        return with_metadata(self.before, resourceVersion=str(self.version))


class Write(NamedTuple):
    """A write that the server has carried out, also one that changed nothing."""

    manager: str
    verb: str
    resource: Resource
    before: Unstructured | None
    after: Unstructured | None


@dataclass
class MemoryAPI:
    """The API server, the garbage collector and a kubelet of one cluster. Nothing happens by itself."""

    now: datetime = START
    version: int = 0
    objects: dict[Resource, dict[ObjectKey, Unstructured]] = field(default_factory=dict)
    changes: dict[Resource, list[Change]] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    """The uids of the pods that a kubelet runs: they are gone only when it says so."""
    observers: list[Callable[[Write], None]] = field(default_factory=list)
    """Each is called after every write."""

    def copy(self) -> "MemoryAPI":
        """Return an API server with the same objects and history, and no observers."""
        objects = {resource: dict(known) for resource, known in self.objects.items()}
        changes = {resource: list(known) for resource, known in self.changes.items()}
        return MemoryAPI(self.now, self.version, objects, changes, set(self.running))

    # Reading

    def of(self, resource: Resource) -> dict[ObjectKey, Unstructured]:
        """Return the objects of the resource by key."""
        return self.objects.setdefault(resource, {})

    def find(self, resource: Resource, namespace: str | None, name: str) -> Unstructured | None:
        """Return the object; None if it does not exist."""
        return self.of(resource).get((namespace or "", name))

    def get(self, resource: Resource, namespace: str | None, name: str) -> Unstructured:
        """Return the object. Raises NotFound if it does not exist."""
        found = self.find(resource, namespace, name)
        if found is None:
            raise NotFound(404, f"{resource.plural} {name!r} not found")
        return found

    def at(self, resource: Resource, version: int) -> list[Unstructured]:
        """Return the objects of the resource as they were at that version, as an API server that lags behind lists them."""
        found: dict[ObjectKey, Unstructured] = {}
        for change in self.changes.get(resource, ()):
            if change.version > version:
                break
            if change.after is not None:
                found[key_of(change.after)] = change.after
            else:
                found.pop(key_of(change.obj), None)
        return list(found.values())

    def by_uid(self, resource: Resource, uid: str) -> Unstructured | None:
        """Return the object with that uid; None if it does not exist."""
        return next((obj for obj in self.of(resource).values() if obj["metadata"]["uid"] == uid), None)

    # Writing

    def create(self, resource: Resource, namespace: str | None, body: Unstructured, manager: str) -> Unstructured:
        """Create the object. Raises AlreadyExists if its name is taken."""
        key = namespace or "", body["metadata"]["name"]
        if key in self.of(resource):
            raise AlreadyExists(409, f"{resource.plural} {key[1]!r} already exists")
        defaults: Unstructured = {"uid": f"uid-{self.version + 1}", "creationTimestamp": format_time(self.now)}
        if namespace:
            defaults["namespace"] = namespace
        if resource in _COUNTED:
            defaults["generation"] = 1
        obj: Unstructured = {"apiVersion": resource.api_version, "kind": resource.kind} | body
        obj["metadata"] = body["metadata"] | defaults
        if resource in _PENDING:
            obj["status"] = {"phase": "Pending"}
        if resource is Kind.PVC.resource:
            obj["metadata"]["finalizers"] = [*obj["metadata"].get("finalizers", ()), PVC_PROTECTION]
        if manager == FIELD_MANAGER and resource is not USER_STORAGES:
            obj = _managed({}, obj, manager)
        stored = self._store(resource, key, None, obj)
        self._observed(Write(manager, "create", resource, None, stored))
        return stored

    def merge_patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        patch: Unstructured,
        manager: str,
        subresource: str | None = None,
    ) -> Unstructured:
        """Apply a JSON merge patch; `metadata.uid` and `metadata.resourceVersion` in it are preconditions."""
        before = self.get(resource, namespace, name)
        metadata = dict(patch.get("metadata") or {})
        for precondition in ("uid", "resourceVersion"):
            if metadata.pop(precondition, before["metadata"][precondition]) != before["metadata"][precondition]:
                raise Conflict(409, f"the {precondition} of {resource.plural} {name!r} differs")
        if subresource is not None:
            patch = {subresource: patch[subresource]}
        elif resource in _COUNTED:
            patch = {key: value for key, value in patch.items() if key != "status"} | {"metadata": metadata}
        else:
            patch = patch | {"metadata": metadata}
        return self._update(resource, before, merged(before, patch), manager)

    def json_patch(
        self, resource: Resource, namespace: str, name: str, patch: Iterable[Unstructured], manager: str
    ) -> Unstructured:
        """Apply the operations add, remove and test of a JSON patch. Raises Conflict if a test fails."""
        before = after = self.get(resource, namespace, name)
        for operation in patch:
            after = _operated(after, operation["path"].split("/")[1:], operation)
        return self._update(resource, before, after, manager)

    def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        manager: str,
        *,
        uid: str | None = None,
        propagation: str = "Background",
        grace_period: int = 0,
        resource_version: str | None = None,
    ) -> Unstructured:
        """Start the deletion of the object; `grace_period` is in seconds. Return the terminating object, or a Status."""
        before = self.get(resource, namespace, name)
        meta = before["metadata"]
        if uid not in (None, meta["uid"]) or resource_version not in (None, meta["resourceVersion"]):
            raise Conflict(409, f"a precondition of the deletion of {resource.plural} {name!r} failed")
        finalizers = list(meta.get("finalizers", ()))
        wanted = {"Foreground": FOREGROUND_FINALIZER, "Orphan": ORPHAN_FINALIZER}.get(propagation)
        if wanted is not None and "deletionTimestamp" not in meta:
            finalizers.append(wanted)
        grace = timedelta(seconds=grace_period if meta["uid"] in self.running else 0)
        deleted = {"deletionTimestamp": meta.get("deletionTimestamp") or format_time(self.now + grace)}
        after = self._update(resource, before, with_metadata(before, finalizers=finalizers, **deleted), manager, "delete")
        return after if self.find(resource, namespace, name) is after else {"kind": "Status"}

    def put_status(self, resource: Resource, obj: Unstructured, manager: str, **status: Any) -> Unstructured:
        """Set fields of the status, as a controller of Kubernetes does."""
        return self._update(resource, obj, obj | {"status": (obj.get("status") or {}) | status}, manager)

    def remove(self, resource: Resource, obj: Unstructured) -> None:
        """Remove an object at once, whatever keeps it: no finalizer and no kubelet."""
        self.running.discard(obj["metadata"]["uid"])
        ended = {"finalizers": None, "deletionTimestamp": obj["metadata"].get("deletionTimestamp") or format_time(self.now)}
        self._remove(resource, self._store(resource, key_of(obj), obj, with_metadata(obj, **ended)))

    def pod_ended(self, pod: Unstructured) -> None:
        """Confirm, as its kubelet, that a terminating pod has ended."""
        self.running.discard(pod["metadata"]["uid"])
        if self._is_released(pod):
            self._remove(Kind.POD.resource, pod)

    def _update(
        self, resource: Resource, before: Unstructured, after: Unstructured, manager: str, verb: str = "patch"
    ) -> Unstructured:
        known, wanted = (set(obj["metadata"].get("finalizers", ())) for obj in (before, after))
        if "deletionTimestamp" in before["metadata"] and wanted - known:
            raise Refused(422, "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted")
        if not wanted and "finalizers" in after["metadata"]:
            after = with_metadata(after, finalizers=None)
        if after == before:
            self._observed(Write(manager, verb, resource, before, before))
            return before
        if resource in _COUNTED and after.get("spec") != before.get("spec"):
            after = with_metadata(after, generation=before["metadata"]["generation"] + 1)
        elif resource not in _COUNTED and manager != "kubelet":
            after = _managed(before, after, manager)
        if self._is_released(after):  # this state is never stored, and the event of the removal shows the one before
            self._observed(Write(manager, verb, resource, before, after))
            self._remove(resource, before)
            return after
        stored = self._store(resource, key_of(before), before, after)
        self._observed(Write(manager, verb, resource, before, stored))
        return stored

    def _is_released(self, obj: Unstructured) -> bool:
        meta = obj["metadata"]
        return "deletionTimestamp" in meta and not meta.get("finalizers") and meta["uid"] not in self.running

    def _remove(self, resource: Resource, obj: Unstructured) -> None:
        self.version += 1
        del self.of(resource)[key_of(obj)]
        self.changes[resource].append(Change(self.version, obj, None))
        self._observed(Write("apiserver", "removed", resource, obj, None))

    def _store(self, resource: Resource, key: ObjectKey, before: Unstructured | None, after: Unstructured) -> Unstructured:
        self.version += 1
        stored = with_metadata(after, resourceVersion=str(self.version))
        self.of(resource)[key] = stored
        self.changes.setdefault(resource, []).append(Change(self.version, before, stored))
        return stored

    def _observed(self, write: Write) -> None:
        for observer in self.observers:
            observer(write)

    # What other programs of a cluster do

    def start_pods(self) -> None:
        """Schedule the pods that are pending, and run them until they are ready."""
        for pod in list(self.of(Kind.POD.resource).values()):
            if pod["status"]["phase"] == "Pending" and "deletionTimestamp" not in pod["metadata"]:
                self.running.add(pod["metadata"]["uid"])
                since = format_time(self.now)
                ready = [{"type": "Ready", "status": "True", "lastTransitionTime": since}]
                container = {"name": CONTAINER, "ready": True, "started": True, "restartCount": 0}
                container["state"] = {"running": {"startedAt": since}}
                status = {"phase": "Running", "conditions": ready, "containerStatuses": [container]}
                placed = pod | {"spec": pod["spec"] | {"nodeName": "node-1"}, "status": status}
                self._update(Kind.POD.resource, pod, placed, "kubelet")

    def end_pods(self) -> None:
        """End the containers of the pods that terminate."""
        for pod in list(self.of(Kind.POD.resource).values()):
            if "deletionTimestamp" in pod["metadata"] and pod["metadata"]["uid"] in self.running:
                self.pod_ended(pod)

    def bind_claims(self) -> None:
        """Bind the claims that a pod uses, give them the size that they ask for, and release terminating ones without a pod."""
        used = {
            (pod["metadata"]["namespace"], volume["persistentVolumeClaim"]["claimName"])
            for pod in self.of(Kind.POD.resource).values()
            for volume in pod["spec"].get("volumes", ())
            if "persistentVolumeClaim" in volume
        }
        for key, claim in list(self.of(Kind.PVC.resource).items()):
            size = claim["spec"]["resources"]["requests"]["storage"]
            if "deletionTimestamp" in claim["metadata"]:
                finalizers = claim["metadata"].get("finalizers", ())
                if key not in used and PVC_PROTECTION in finalizers:
                    left = [name for name in finalizers if name != PVC_PROTECTION]
                    self._update(Kind.PVC.resource, claim, with_metadata(claim, finalizers=left), "pvc-protection")
            elif key in used and claim["status"].get("capacity", {}).get("storage") != size:
                volume = {"volumeName": f"pv-{claim['metadata']['uid']}"}
                bound = {"phase": "Bound", "capacity": {"storage": size}}
                self._update(
                    Kind.PVC.resource, claim, claim | {"spec": claim["spec"] | volume, "status": bound}, "pv-controller"
                )

    def collect_garbage(self) -> None:
        """Carry out propagation policies, and delete the objects whose owners are gone, once."""
        uids = {FOREIGN_UID, *(obj["metadata"]["uid"] for objects in self.objects.values() for obj in objects.values())}
        for resource in list(self.objects):
            for obj in list(self.of(resource).values()):
                self._propagate(obj, resource)
        for kind in Kind:
            for child in list(self.of(kind.resource).values()):
                owners = child["metadata"].get("ownerReferences") or ()
                if owners and not any(owner["uid"] in uids for owner in owners):
                    self._collect(kind.resource, child)

    def _collect(self, resource: Resource, child: Unstructured) -> None:
        if "deletionTimestamp" not in child["metadata"]:
            grace = child["spec"].get("terminationGracePeriodSeconds", 30)
            namespace, name = key_of(child)
            self.delete(resource, namespace, name, "garbage-collector", grace_period=grace)

    def _propagate(self, owner: Unstructured, resource: Resource) -> None:
        finalizers, uid = owner["metadata"].get("finalizers", ()), owner["metadata"]["uid"]
        if "deletionTimestamp" not in owner["metadata"]:
            return
        for wanted in (FOREGROUND_FINALIZER, ORPHAN_FINALIZER):
            if wanted not in finalizers:
                continue
            children = [
                (kind.resource, child) for kind in Kind for child in self.of(kind.resource).values() if uid in owners_of(child)
            ]
            for kind, child in children:
                if wanted is FOREGROUND_FINALIZER:
                    self._collect(kind, child)
                else:
                    left = [entry for entry in child["metadata"]["ownerReferences"] if entry["uid"] != uid]
                    self._update(kind, child, with_metadata(child, ownerReferences=left or None), "garbage-collector")
            blocked = any(uid in owners_of(child) for kind in Kind for child in self.of(kind.resource).values())
            live = self.find(resource, *key_of(owner))
            if not blocked and live is not None:
                left = [name for name in live["metadata"]["finalizers"] if name != wanted]
                self._update(resource, live, with_metadata(live, finalizers=left), "garbage-collector")


def key_of(obj: Unstructured) -> ObjectKey:
    """Return namespace and name of an object."""
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def owners_of(obj: Unstructured) -> list[str]:
    """Return the uids in the ownerReferences of an object."""
    return [owner["uid"] for owner in obj["metadata"].get("ownerReferences") or ()]


def with_metadata(obj: Unstructured, **fields: Any) -> Unstructured:
    """Return the object with other fields of its metadata; those that are None are removed."""
    metadata = obj["metadata"] | fields
    return obj | {"metadata": {key: value for key, value in metadata.items() if value is not None}}


def merged(target: Any, patch: Mapping[str, Any]) -> Unstructured:
    """Return the target after a JSON merge patch (RFC 7386)."""
    result: Unstructured = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value) if isinstance(value, dict) else value
    return result


def _operated(target: Any, path: list[str], operation: Unstructured) -> Any:
    """Return the target after one operation of a JSON patch (RFC 6902)."""
    head, *rest = path
    copy: Any = list(target) if isinstance(target, list) else dict(target)
    place: Any = int(head) if isinstance(target, list) and head != "-" else head
    present = (place == "-" or place < len(target)) if isinstance(target, list) else place in target
    if rest:
        if not present:
            raise Conflict(422, f"the path {head!r} does not exist")
        copy[place] = _operated(target[place], rest, operation)
        return copy
    match operation["op"]:
        case "test":
            if not present or target[place] != operation["value"]:
                raise Conflict(422, "a test of the JSON patch failed")
        case "remove":
            if not present:
                raise Conflict(422, f"the path {head!r} does not exist")
            del copy[place]
        case "add" if place == "-":
            copy.append(operation["value"])
        case "add":
            copy[place] = operation["value"]
    return copy


def _managed(before: Unstructured, after: Unstructured, manager: str) -> Unstructured:
    """Return the object with the managedFields after a write: who has set which label and annotation last, and fields of the spec."""
    owned = {entry["manager"]: _fields_of(entry) for entry in (before.get("metadata") or {}).get("managedFields", ())}
    ours = owned.setdefault(manager, {"f:labels": {}, "f:annotations": {}, "f:spec": {}})
    for part in ("labels", "annotations"):
        old, new = ((obj.get("metadata") or {}).get(part) or {} for obj in (before, after))
        for key in old.keys() | new.keys():
            if old.get(key) != new.get(key):
                for fields in owned.values():
                    fields[f"f:{part}"].pop(f"f:{key}", None)
                if key in new:
                    ours[f"f:{part}"][f"f:{key}"] = {}
    old_spec, new_spec = before.get("spec") or {}, after.get("spec") or {}
    ours["f:spec"] |= {f"f:{key}": {} for key in new_spec if old_spec.get(key) != new_spec[key]}
    entries = [
        {"manager": name, "operation": "Update", "fieldsV1": found}
        for name, fields in owned.items()
        if (found := _entry(fields))
    ]
    return with_metadata(after, managedFields=entries or None)


def _fields_of(entry: Unstructured) -> Unstructured:
    """Return what an entry of managedFields owns: keys of labels, of annotations and of the spec."""
    fields = entry["fieldsV1"]
    found = {part: dict(fields.get("f:metadata", {}).get(part, {})) for part in ("f:labels", "f:annotations")}
    return found | {"f:spec": dict(fields.get("f:spec", {}))}


def _entry(fields: Unstructured) -> Unstructured:
    metadata = {part: fields[part] for part in ("f:labels", "f:annotations") if fields[part]}
    return ({"f:metadata": metadata} if metadata else {}) | ({"f:spec": fields["f:spec"]} if fields["f:spec"] else {})
