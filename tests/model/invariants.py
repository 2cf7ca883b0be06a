"""What must hold at every write of the operator, and at the end: `reconcile` may be disturbed anywhere, these may not be broken."""

import json
from collections.abc import Iterator

from support.memory_api import MemoryAPI, Write, key_of, owners_of
from userstorage_operator.api import names
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.informers.caches import Caches
from userstorage_operator.observed.pod_status import is_ready
from userstorage_operator.observed.snapshot import controller_uid, is_terminating

MASKED_ANNOTATIONS = (names.ANNOTATION_REQUESTED_SIZE, names.ANNOTATION_RUN_AS)
"""Annotations that record what was before: a new object does not have them, or has others."""
OPPONENT = "example.org/opponent"
"""Label and annotation that an opponent adds; the operator leaves them alone."""

_MASKED_LABELS = (names.LABEL_OWNER_UID, names.LABEL_RECOMMENDED_MANAGED_BY, OPPONENT)
"""The uid differs, and the recommended label is not repaired."""

_PLACEMENT = ("nodeName", "affinity")
"""Where a pod runs: the affinity to the node of its volume depends on the pods that mounted it when the pod was created."""


class Watchdog:
    """Observes every write to an API server, and raises AssertionError at the first that breaks an invariant."""

    def __init__(self, api: MemoryAPI) -> None:
        self._api = api
        self.foreign: set[str] = set()
        """The uids of objects of other programs, which the operator must not write."""
        self.disturbed = False
        """Whether something else happened during this reconcile: what the operator had verified may not be true any more."""
        self.writes = 0
        """Writes of the operator, also those that changed nothing."""
        self.last_spec: dict[str, Unstructured] = {}
        """Uid of each UserStorage that ever existed -> its last spec."""
        self.created: set[str] = set()
        """The uids of the pods that the operator has created."""
        self.released_by_force: set[str] = set()
        """The uids of NetworkPolicies whose finalizer an opponent has removed, or the operator for a class without policies."""
        self.caches: Caches | None = None
        """What the operator knows."""
        for storage in api.of(USER_STORAGES).values():
            self.last_spec[storage["metadata"]["uid"]] = storage
        self.created.update(pod["metadata"]["uid"] for pod in api.of(Kind.POD.resource).values())
        api.observers.append(self)

    def __call__(self, write: Write) -> None:
        if write.resource is USER_STORAGES and write.after is not None:
            self.last_spec[write.after["metadata"]["uid"]] = write.after
        if write.manager == names.FIELD_MANAGER:
            self.writes += 1
            self._check(write)
        elif write.resource is Kind.PVC.resource and write.manager == "garbage-collector" and write.verb == "delete":
            self._check_collected(write)
        if write.verb == "removed" and write.resource is Kind.NETWORK_POLICY.resource:
            self._check_unprotected(write)

    def _check(self, write: Write) -> None:
        if write.before is not None:
            assert write.before["metadata"]["uid"] not in self.foreign, f"a foreign object was written: {write}"
        if write.verb == "create":
            self._check_created(write)
        elif write.resource is USER_STORAGES and write.verb == "patch":
            self._check_released(write)
        elif write.resource is Kind.PVC.resource:
            self._check_claim(write)
        elif write.resource is Kind.POD.resource and write.verb == "delete":
            self._check_deleted(write)
        elif write.resource is Kind.NETWORK_POLICY.resource:
            self._check_policy(write)

    def _check_policy(self, write: Write) -> None:
        assert write.before is not None
        assert write.after is not None
        had, has = (names.FINALIZER in obj["metadata"].get("finalizers", ()) for obj in (write.before, write.after))
        if has or not had:
            return
        if not self._is_managed(write.before):  # it goes, whatever the class asks for later
            self.released_by_force.add(write.before["metadata"]["uid"])
        elif not self.disturbed:
            pod = self._pod_of(write.before)
            protected = pod is not None and pod["metadata"]["uid"] in self.created
            assert not protected, f"the NetworkPolicy was released before its pod was gone: {write}"

    def _check_created(self, write: Write) -> None:
        assert write.after is not None
        uid = controller_uid(write.after)
        if write.resource is Kind.POD.resource:
            self.created.add(write.after["metadata"]["uid"])
            pods = [pod for pod in self._api.of(write.resource).values() if controller_uid(pod) == uid]
            assert len(pods) == 1, f"two pods of one UserStorage: {[pod['metadata'] for pod in pods]}"
        if self.disturbed:
            return
        if uid is not None:
            owner = self._api.by_uid(USER_STORAGES, uid)
            assert owner is not None, f"a child was created for a UserStorage that is gone: {write.after['metadata']}"
            assert not is_terminating(owner), f"a child was created for a UserStorage that is going: {write.after['metadata']}"
            assert names.FINALIZER in owner["metadata"].get("finalizers", ()), "a child was created before the finalizer"
        if write.resource is Kind.POD.resource and self._is_managed(write.after):
            policy = self._api.find(Kind.NETWORK_POLICY.resource, *key_of(write.after))
            assert policy is not None, "a pod was created without its NetworkPolicy"
            selector = policy["spec"]["podSelector"]["matchLabels"]
            assert selector.items() <= write.after["metadata"]["labels"].items(), "the NetworkPolicy does not select the pod"

    def _check_released(self, write: Write) -> None:
        assert write.before is not None
        assert write.after is not None
        assert write.after["spec"] == write.before["spec"], "the operator wrote a spec"
        if write.after.get("status") != write.before.get("status"):
            self._check_truth(write.after)
        had, has = (names.FINALIZER in obj["metadata"].get("finalizers", ()) for obj in (write.before, write.after))
        if had and not has and not self.disturbed:
            pods = [
                pod
                for pod in self._api.of(Kind.POD.resource).values()
                if controller_uid(pod) == write.before["metadata"]["uid"]
            ]
            assert not pods, f"the finalizer was removed before the pod was gone: {pods[0]['metadata']}"

    def _check_truth(self, storage: Unstructured) -> None:
        """Check that a UserStorage is only reported as ready if its pod is, as far as the operator can know."""
        ready = next((entry for entry in storage["status"].get("conditions", ()) if entry["type"] == "Ready"), None)
        if ready is None or ready["status"] != "True" or self.caches is None:
            return
        if next(entry for entry in storage["status"]["conditions"] if entry["type"] == "Paused")["status"] == "True":
            return  # the rest of the status is not updated
        pod = self.caches.child(Kind.POD, storage["metadata"]["namespace"], _child_name(storage))
        assert pod is not None, "reported as ready without a pod"
        assert controller_uid(pod) == storage["metadata"]["uid"], "reported as ready by the pod of another owner"
        assert is_ready(pod), "reported as ready although the pod is not"

    def _check_claim(self, write: Write) -> None:
        assert write.verb != "delete", "the operator deleted a claim"
        assert write.before is not None
        assert write.after is not None
        for uid in set(owners_of(write.after)) - set(owners_of(write.before)):
            owner = self._api.by_uid(USER_STORAGES, uid)
            assert owner is not None, f"a claim was given to a UserStorage that is gone: {write.after['metadata']}"
            assert is_terminating(owner), "a claim got an owner although its UserStorage lives"
            assert owner["spec"]["storage"]["reclaimPolicy"] == "Delete" or self.disturbed, (
                "a claim that is to stay got an owner"
            )

    def _check_collected(self, write: Write) -> None:
        assert write.before is not None
        if write.before["metadata"]["uid"] in self.foreign:
            return
        specs = [self.last_spec[uid] for uid in owners_of(write.before) if uid in self.last_spec]
        assert all("deletionTimestamp" in last["metadata"] for last in specs), (
            "a claim was collected although its owner was not deleted"
        )
        assert all(last["spec"]["storage"]["reclaimPolicy"] == "Delete" for last in specs), (
            "a claim that is to stay was collected"
        )

    def _check_deleted(self, write: Write) -> None:
        """Check that the last pod on a claim that is being deleted is only ended if the tenant wants it to end."""
        assert write.before is not None
        claim = self._api.find(Kind.PVC.resource, *key_of(write.before))
        owner = self._api.by_uid(USER_STORAGES, controller_uid(write.before) or "")
        if claim is None or owner is None or not is_terminating(claim) or self.disturbed:
            return
        wanted = is_terminating(owner) or owner["spec"].get("replicas") == 0
        assert wanted, "the last pod on a claim that is being deleted was ended"

    def _check_unprotected(self, write: Write) -> None:
        assert write.before is not None
        pod = self._pod_of(write.before)
        forced = write.before["metadata"]["uid"] in self.released_by_force or not self._is_managed(write.before)
        assert pod is None or forced or pod["metadata"]["uid"] not in self.created, "a NetworkPolicy is gone before its pod"

    def _is_managed(self, child: Unstructured) -> bool:
        """Whether the class of the child's UserStorage has the operator manage NetworkPolicies, as it does by default.

        A child without an owner, which a deletion has orphaned, belongs to the UserStorage that has its user id now.
        """
        uid, name = controller_uid(child), child["metadata"]["name"]
        owners = [self.last_spec[uid]] if uid in self.last_spec else self._api.of(USER_STORAGES).values()
        return not any(self._is_without_policy(one) for one in owners if _child_name(one) == name)

    def _is_without_policy(self, storage: Unstructured) -> bool:
        cls = self._api.find(USER_STORAGE_CLASSES, None, storage["spec"]["className"])
        return cls is not None and cls["spec"].get("network", {}).get("policy") == "None"

    def _pod_of(self, policy: Unstructured) -> Unstructured | None:
        return self._api.find(Kind.POD.resource, *key_of(policy))


def _child_name(storage: Unstructured) -> str:
    return names.child_name(names.slug(storage["spec"]["userID"]))


def masked(child: Unstructured) -> Unstructured:
    """Return what two children that were built from one spec have in common, however they came to be."""
    meta = child["metadata"]
    labels = {key: value for key, value in meta.get("labels", {}).items() if key not in _MASKED_LABELS}
    annotations = {
        key: value for key, value in meta.get("annotations", {}).items() if key not in (*MASKED_ANNOTATIONS, OPPONENT)
    }
    spec = {key: value for key, value in child.get("spec", {}).items() if key not in _PLACEMENT}
    return {"labels": labels, "annotations": annotations, "spec": spec}


def children_of(api: MemoryAPI, storage: Unstructured) -> Iterator[tuple[Resource, Unstructured]]:
    """Yield the children that the UserStorage controls."""
    for kind in Kind:
        for child in api.of(kind.resource).values():
            if controller_uid(child) == storage["metadata"]["uid"]:
                yield kind.resource, child


def picture(api: MemoryAPI, storage: Unstructured) -> dict[str, str]:
    """Return the masked children of a UserStorage by kind, as text."""
    return {resource.kind: json.dumps(masked(child), sort_keys=True) for resource, child in children_of(api, storage)}
