"""Differences between desired and live children, as JSON merge patches (RFC 7386). A patch is empty if nothing differs."""

from collections.abc import Collection, Mapping
from typing import Any

from userstorage_operator.api.names import FIELD_MANAGER
from userstorage_operator.api.quantities import parse_quantity
from userstorage_operator.api.unstructured import Unstructured

_OWN_MAPS = frozenset({"selector", "matchLabels"})
"""Maps in which a key that only the live object has is a difference too: a selector with one more label selects nothing."""


def without_absent(value: Unstructured) -> Unstructured:
    """Return `value` as the body of a create request: without keys whose value is None, also in nested maps."""
    return {
        key: without_absent(inner) if isinstance(inner, dict) else inner for key, inner in value.items() if inner is not None
    }


def child_patch(desired: Unstructured, live: Unstructured) -> Unstructured:
    """Return the patch that repairs metadata and spec of a Service, NetworkPolicy, Ingress or HTTPRoute."""
    metadata = _metadata_patch(desired, live)
    if withdrawn := _withdrawn_annotations(desired, live):
        metadata["annotations"] = metadata.get("annotations", {}) | dict.fromkeys(withdrawn)
    return _named(metadata, _difference(desired["spec"], live["spec"]))


def metadata_patch(desired: Unstructured, live: Unstructured) -> Unstructured:
    """Return the patch that repairs labels and annotations of a pod, whose spec cannot be changed in place."""
    return _named(_metadata_patch(desired, live), {})


def claim_patch(desired: Unstructured, live: Unstructured) -> Unstructured:
    """Return the patch that repairs a claim's metadata, and sets or removes its ownerReference as reclaimPolicy asks."""
    metadata = _metadata_patch(desired, live)
    owners = desired["metadata"]["ownerReferences"]
    if (live["metadata"].get("ownerReferences") or None) != owners:
        metadata["ownerReferences"] = owners
    return _named(metadata, {})


def claim_growth(live: Unstructured, size: str | None) -> Unstructured:
    """Return the patch that expands the claim to `size`; empty if `size` is None or no growth, or if the claim is not bound.

    The API server refuses to expand a claim that waits for its volume.
    """
    requested = live["spec"]["resources"]["requests"]["storage"]
    bound = live.get("status", {}).get("phase") == "Bound"
    if size is None or not bound or parse_quantity(size) <= parse_quantity(requested):
        return {}
    return {"spec": {"resources": {"requests": {"storage": size}}}}


def spec_edited_by_hand(pod: Unstructured) -> bool:
    """Whether a field manager other than the operator changed the spec of `pod`, according to its managedFields.

    A comparison with the desired pod could be wrong: admission plugins and webhooks may change
    the pod on creation, and the API server records their changes under our field manager.
    """
    return any(
        entry.get("manager") != FIELD_MANAGER and not entry.get("subresource") and "f:spec" in entry.get("fieldsV1", ())
        for entry in pod["metadata"].get("managedFields", ())
    )


def _withdrawn_annotations(desired: Unstructured, live: Unstructured) -> set[str]:
    """Return the keys of annotations in `live` that the operator set (managedFields) but that `desired` lacks."""
    ours: set[str] = set()
    for entry in live["metadata"].get("managedFields", ()):
        if entry.get("manager") == FIELD_MANAGER and not entry.get("subresource"):
            fields = entry.get("fieldsV1", {}).get("f:metadata", {}).get("f:annotations", {})
            ours |= {field.removeprefix("f:") for field in fields if field.startswith("f:")}
    withdrawn = ours - desired["metadata"]["annotations"].keys()
    return {key for key in withdrawn if key in (live["metadata"].get("annotations") or {})}


def _metadata_patch(desired: Unstructured, live: Unstructured) -> Unstructured:
    metadata = {field: desired["metadata"][field] for field in ("labels", "annotations")}
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
