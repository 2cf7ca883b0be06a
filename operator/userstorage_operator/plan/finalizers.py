"""Our finalizer: on a UserStorage and its NetworkPolicy, which both outlive the pod (docs/semantics.md#deletion).

A reconcile removes it, or `userstorage-operator release-finalizers`.
"""

from collections.abc import Mapping, Sequence

from userstorage_operator.api.names import ANNOTATION_USER_ID, FINALIZER, FOREGROUND_FINALIZER
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.observed.snapshot import is_labelled, is_owned_by_a_user_storage


def has_finalizer(obj: Unstructured) -> bool:
    """Whether our finalizer is on the object."""
    return FINALIZER in (obj["metadata"].get("finalizers") or ())


def is_held(obj: Unstructured) -> bool:
    """Whether the object is being deleted and our finalizer keeps it."""
    return "deletionTimestamp" in obj["metadata"] and has_finalizer(obj)


def is_unwatched(obj: Unstructured) -> bool:
    """Whether our finalizer is on the object, and no watch would show its deletion: it has lost the label that the watches select."""
    return has_finalizer(obj) and not is_labelled(obj)


def foreign_finalizers(obj: Unstructured) -> list[str]:
    """Return the finalizers of other controllers that keep an object which is being deleted."""
    if "deletionTimestamp" not in obj["metadata"]:
        return []
    return [name for name in obj["metadata"].get("finalizers") or () if name not in (FINALIZER, FOREGROUND_FINALIZER)]


def selects(selector: Mapping[str, str], pod: Unstructured) -> bool:
    """Whether the pod has the labels of the selector."""
    return selector.items() <= (pod["metadata"].get("labels") or {}).items()


def protects(policy: Unstructured, pod: Unstructured) -> bool:
    """Whether a NetworkPolicy of ours is for that pod of its name: it selects the pod, or the pod is ours and has lost its labels."""
    of_pod, of_policy = ((obj["metadata"].get("annotations") or {}).get(ANNOTATION_USER_ID) for obj in (pod, policy))
    if is_owned_by_a_user_storage(pod) or (of_pod is not None and of_pod == of_policy):
        return True
    return selects(policy["spec"].get("podSelector", {}).get("matchLabels") or {}, pod)


def release_patch(uid: str, finalizers: Sequence[str]) -> list[Unstructured]:
    """Return the JSON patch that removes our finalizer from a UserStorage whose metadata has `uid` and `finalizers`.

    The API server refuses the patch if the uid differs, or if our finalizer is no longer at its position in `finalizers`.
    """
    path = f"/metadata/finalizers/{finalizers.index(FINALIZER)}"
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": path, "value": FINALIZER},
        {"op": "remove", "path": path},
    ]
