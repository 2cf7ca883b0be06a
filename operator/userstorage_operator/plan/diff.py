"""What has to change in a live child for it to be as desired: JSON merge patches (RFC 7386), empty for nothing."""

from collections.abc import Collection, Mapping
from typing import Any

from userstorage_operator.api.names import FIELD_MANAGER
from userstorage_operator.api.quantities import parse_quantity
from userstorage_operator.api.unstructured import Unstructured

_OWN_MAPS = frozenset({"selector", "matchLabels"})
"""Maps of which every key counts: one more label in a selector and it selects nothing."""


def without_absent(value: Unstructured) -> Unstructured:
    """`value` for creation: the keys that must be absent left out, at every depth of maps."""
    return {
        key: without_absent(inner) if isinstance(inner, dict) else inner for key, inner in value.items() if inner is not None
    }


def child_patch(desired: Unstructured, live: Unstructured) -> Unstructured:
    """For a child all of whose spec is ours (Service, NetworkPolicy, Ingress, HTTPRoute)."""
    metadata = _metadata_patch(desired, live)
    if withdrawn := _withdrawn_annotations(desired, live):
        metadata["annotations"] = metadata.get("annotations", {}) | dict.fromkeys(withdrawn)
    return _named(metadata, _difference(desired["spec"], live["spec"]))


def metadata_patch(desired: Unstructured, live: Unstructured) -> Unstructured:
    """For a child whose spec cannot or may not be mended in place (Pod)."""
    return _named(_metadata_patch(desired, live), {})


def claim_patch(desired: Unstructured, live: Unstructured) -> Unstructured:
    """Labels, and the owner that reclaimPolicy asks for."""
    metadata = _metadata_patch(desired, live)
    owners = desired["metadata"]["ownerReferences"]
    if (live["metadata"].get("ownerReferences") or None) != owners:
        metadata["ownerReferences"] = owners
    return _named(metadata, {})


def claim_growth(live: Unstructured, size: str | None) -> Unstructured:
    """The patch that makes the claim as large as the user asks for; empty where it is, or where none was named.

    Only a bound claim can grow: the API server refuses it for one that waits for its volume.
    """
    requested = live["spec"]["resources"]["requests"]["storage"]
    bound = live.get("status", {}).get("phase") == "Bound"
    if size is None or not bound or parse_quantity(size) <= parse_quantity(requested):
        return {}
    return {"spec": {"resources": {"requests": {"storage": size}}}}


def spec_edited_by_hand(pod: Unstructured) -> bool:
    """Whether somebody else changed the spec of a pod that we made.

    Read from managedFields, not by comparing with what we sent: admission plugins and webhooks may rightly change
    what we send, and the API server books their changes on our name.
    """
    return any(
        entry.get("manager") != FIELD_MANAGER and not entry.get("subresource") and "f:spec" in entry.get("fieldsV1", ())
        for entry in pod["metadata"].get("managedFields", ())
    )


def _withdrawn_annotations(desired: Unstructured, live: Unstructured) -> set[str]:
    """Annotations that we once set and no longer want. Controllers and people add others, which are theirs: whose is
    whose is in managedFields.
    """
    ours: set[str] = set()
    for entry in live["metadata"].get("managedFields", ()):
        if entry.get("manager") == FIELD_MANAGER and not entry.get("subresource"):
            fields = entry.get("fieldsV1", {}).get("f:metadata", {}).get("f:annotations", {})
            ours |= {field.removeprefix("f:") for field in fields if field.startswith("f:")}
    withdrawn = ours - desired["metadata"]["annotations"].keys()
    return {key for key in withdrawn if key in (live["metadata"].get("annotations") or {})}


def _metadata_patch(desired: Unstructured, live: Unstructured) -> Unstructured:
    wanted = {field: desired["metadata"][field] for field in ("labels", "annotations")}
    return _difference(wanted, {field: live["metadata"].get(field) or {} for field in wanted})


def _named(metadata: Unstructured, spec: Unstructured) -> Unstructured:
    return ({"metadata": metadata} if metadata else {}) | ({"spec": spec} if spec else {})


def _difference(desired: Mapping[str, Any], live: Mapping[str, Any], foreign: Collection[str] = ()) -> Unstructured:
    """Keys of `desired` that `live` has differently, and `foreign` keys to remove. Lists are compared whole."""
    patch: Unstructured = dict.fromkeys(foreign)
    for key, wanted in desired.items():
        present = live.get(key)
        if isinstance(wanted, dict) and isinstance(present, dict):
            strangers = present.keys() - wanted.keys() if key in _OWN_MAPS else ()
            if inner := _difference(wanted, present, strangers):
                patch[key] = inner
        elif wanted != present:
            patch[key] = wanted
    return patch
