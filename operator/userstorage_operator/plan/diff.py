"""Differences between desired and live children, as JSON merge patches (RFC 7386). A patch is empty if nothing differs."""

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.names import (
    ANNOTATION_REQUESTED_SIZE,
    FIELD_MANAGER,
    LABEL_MANAGED_BY,
    LABEL_RECOMMENDED_MANAGED_BY,
    MANAGED_BY,
)
from userstorage_operator.api.quantities import parse_quantity
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.observed.snapshot import controller, is_terminating
from userstorage_operator.plan import exposure

_OWN_MAPS = frozenset({"selector", "matchLabels"})
"""Maps in which an extra key is a difference too: a selector with one more label selects nothing."""
LABEL_PATCH: Unstructured = {"metadata": {"labels": {LABEL_MANAGED_BY: MANAGED_BY}}}
"""The patch that shows a child to the watches."""
_ANCIENT_CHANGES = "ancient-changes"
"""The manager into which the API server merges the oldest entries if there are more than ten, our own included."""
_PLACEMENT = frozenset({"f:nodeSelector", "f:affinity", "f:tolerations", "f:schedulingGates"})
"""Fields of a pod's spec that a queue manager writes when it lifts its scheduling gate."""


def without_absent(value: Unstructured) -> Unstructured:
    """Return `value` as the body of a create request: without keys whose value is None, also in nested maps."""
    return {
        key: without_absent(inner) if isinstance(inner, dict) else inner for key, inner in value.items() if inner is not None
    }


def child_patch(desired: Unstructured, live: Unstructured) -> Unstructured:
    """Return the patch that repairs metadata and spec of a Service, NetworkPolicy, Ingress or HTTPRoute."""
    metadata = _metadata_patch(desired, live) | _owner_patch(desired, live) | _finalizer_patch(desired, live)
    metadata = _with_withdrawn("annotations", metadata, desired, live)
    return _named(metadata, _difference(exposure.with_foreign_paths(desired, live)["spec"], live["spec"]))


def metadata_patch(desired: Unstructured, live: Unstructured) -> Unstructured:
    """Return the patch that repairs owner, labels and annotations of a pod, whose spec cannot be changed in place. What the
    operator has set and does not want any more is removed.
    """
    metadata = _metadata_patch(desired, live) | _owner_patch(desired, live)
    for field in ("labels", "annotations"):
        metadata = _with_withdrawn(field, metadata, desired, live)
    return _named(metadata, {})


def labels_patch(desired: Unstructured, live: Unstructured) -> Unstructured:
    """Return the patch of the labels alone; empty if none differs."""
    labels = _metadata_patch(desired, live).get("labels")
    return _named({"labels": labels} if labels else {}, {})


def claim_patch(desired: Unstructured, live: Unstructured) -> Unstructured:
    """Return the patch that repairs labels and annotations of a claim. Its owners are not changed."""
    return _named(_metadata_patch({"metadata": claim_metadata(desired)}, live), {})


def claim_metadata(desired: Unstructured) -> Unstructured:
    """Return the metadata of a claim that is repaired: without the record of the requested size, which changes with the size."""
    metadata: Unstructured = desired["metadata"]
    kept = {key: value for key, value in metadata["annotations"].items() if key != ANNOTATION_REQUESTED_SIZE}
    return metadata | {"annotations": kept}


def with_owner(live: Unstructured, owner: Unstructured) -> Unstructured:
    """Return the patch that makes `owner` the controller. References to other owners are kept."""
    others = _other_owners(live, owner["uid"])
    return {"metadata": {"ownerReferences": [*others, owner]}}


def without_owner(live: Unstructured, uid: str) -> Unstructured:
    """Return the patch that removes the owner with this uid; empty if it is none. References to other owners are kept."""
    others = _other_owners(live, uid)
    if len(others) == len(live["metadata"].get("ownerReferences") or ()):
        return {}
    return {"metadata": {"ownerReferences": others or None}}


def _other_owners(live: Unstructured, uid: str) -> list[Unstructured]:
    return [owner for owner in live["metadata"].get("ownerReferences") or () if owner["uid"] != uid]


def claim_resize(live: Unstructured, size: str | None) -> Unstructured:
    """Return the patch that makes the claim request `size`, and records that; empty if `size` is None, or is what was requested
    last: if another client has changed the claim since, that stays.

    The request can shrink as long as the volume has not reached it, but only to more than the volume has (Kubernetes,
    RecoverVolumeExpansionFailure). The API server refuses to change a claim that waits for its volume.
    """
    if size is None or live.get("status", {}).get("phase") != "Bound" or is_requested(live, size):
        return {}
    wanted, requested = parse_quantity(size), parse_quantity(live["spec"]["resources"]["requests"]["storage"])
    request = {"spec": {"resources": {"requests": {"storage": size}}}}
    if wanted <= requested:
        capacity = live["status"].get("capacity", {}).get("storage")
        if _last_requested(live) is None or capacity is None:
            return {}
        least = int(parse_quantity(capacity)) + 1
        if wanted == requested or requested < least:
            request = {}
        elif wanted < least:
            request = {"spec": {"resources": {"requests": {"storage": str(least)}}}}
    return {"metadata": {"annotations": {ANNOTATION_REQUESTED_SIZE: size}}} | request


def is_requested(live: Unstructured, size: str) -> bool:
    """Whether `size` is what the operator has made the claim request last."""
    last = _last_requested(live)
    return last is not None and last == parse_quantity(size)


def _last_requested(live: Unstructured) -> Decimal | None:
    text = (live["metadata"].get("annotations") or {}).get(ANNOTATION_REQUESTED_SIZE)
    try:
        return parse_quantity(text) if text is not None else None
    except InvalidSpec:  # edited by hand
        return None


def spec_edited_by_hand(pod: Unstructured) -> bool:
    """Whether another field manager changed what the pod runs. Where it may run is for queue managers to change, as long as
    their scheduling gate holds it.

    Read from managedFields, not by a comparison with the desired pod: admission plugins and webhooks may change it on creation,
    and such changes belong to no field manager, because the API server computes managedFields before admission.
    """
    return any(
        entry.get("manager") not in (FIELD_MANAGER, _ANCIENT_CHANGES)
        and not entry.get("subresource")
        and entry.get("fieldsV1", {}).get("f:spec", {}).keys() - _PLACEMENT
        for entry in pod["metadata"].get("managedFields", ())
    )


def _with_withdrawn(field: str, metadata: Unstructured, desired: Unstructured, live: Unstructured) -> Unstructured:
    """Return the patch `metadata` with the removal of the labels or annotations (`field`) in `live` that the operator set
    (managedFields) but that `desired` lacks. Those that another client has set, or set to another value, stay.
    """
    ours: set[str] = set()
    for entry in live["metadata"].get("managedFields", ()):
        if entry.get("manager") == FIELD_MANAGER and not entry.get("subresource"):
            fields = entry.get("fieldsV1", {}).get("f:metadata", {}).get(f"f:{field}", {})
            ours |= {key.removeprefix("f:") for key in fields if key.startswith("f:")}
    unwanted = ours - desired["metadata"][field].keys()
    withdrawn = [key for key in sorted(unwanted) if key in (live["metadata"].get(field) or {})]
    return metadata | {field: metadata.get(field, {}) | dict.fromkeys(withdrawn)} if withdrawn else metadata


def _owner_patch(desired: Unstructured, live: Unstructured) -> Unstructured:
    """Return the ownerReferences that adopt a child: one without a controller, or a terminating one of a former UserStorage."""
    [owner] = desired["metadata"]["ownerReferences"]
    present = controller(live)
    if present is not None and (present["uid"] == owner["uid"] or not is_terminating(live)):
        return {}
    others = [other for other in _other_owners(live, owner["uid"]) if not other.get("controller")]
    return {"ownerReferences": [*others, owner]}


def _finalizer_patch(desired: Unstructured, live: Unstructured) -> Unstructured:
    """Return the finalizers with those that the child lacks. The API server accepts no new one on a terminating object."""
    present = live["metadata"].get("finalizers") or []
    missing = [finalizer for finalizer in desired["metadata"].get("finalizers", ()) if finalizer not in present]
    return {"finalizers": [*present, *missing]} if missing and not is_terminating(live) else {}


def _metadata_patch(desired: Unstructured, live: Unstructured) -> Unstructured:
    """Return the labels and annotations that differ. The recommended label is left alone: policies of a platform may own it."""
    metadata = {field: dict(desired["metadata"][field]) for field in ("labels", "annotations")}
    metadata["labels"].pop(LABEL_RECOMMENDED_MANAGED_BY, None)
    return _difference(metadata, {field: live["metadata"].get(field) or {} for field in metadata})


def _named(metadata: Unstructured, spec: Unstructured) -> Unstructured:
    return ({"metadata": metadata} if metadata else {}) | ({"spec": spec} if spec else {})


def _difference(desired: Mapping[str, Any], live: Mapping[str, Any], foreign: Collection[str] = ()) -> Unstructured:
    """Return a merge patch: the values of `desired` that differ in `live`, and None for each key in `foreign`.

    A list that differs is replaced as a whole.
    """
    patch: Unstructured = dict.fromkeys(foreign)
    for key, value in desired.items():
        present = live.get(key)
        if isinstance(value, dict) and isinstance(present, dict):
            extra = present.keys() - value.keys() if key in _OWN_MAPS else ()
            if inner := _difference(value, present, extra):
                patch[key] = inner
        elif value != present:
            patch[key] = value
    return patch
