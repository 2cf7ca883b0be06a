"""I14 and I5: two runs of a workload end in the same state, by the same writes. What differs between any two runs is masked."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from support.faultproxy import Request
from support.live import Live
from support.oracles.history import RESOURCES
from userstorage_operator.api.unstructured import Unstructured

_META = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "deletionTimestamp")
_VOLATILE = re.compile(
    r'("(?:lastTransitionTime|startTime|startedAt|readyTime|time|nextRetryTime|lastProbeTime|'
    r'uid|podUID|claimUID|userstorage\.dev/uid|podIP|ip|hostIP|nodeName|clusterIP|volumeName)": )"[^"]*"|("startupSeconds": )[0-9.]+'
)


def masked(item: Unstructured) -> str:
    """Return an object as JSON in which every value that differs between two runs is masked."""
    meta = {key: value for key, value in item["metadata"].items() if key not in _META}
    if "ownerReferences" in meta:
        meta["ownerReferences"] = [reference | {"uid": ""} for reference in meta["ownerReferences"]]
    copied: Unstructured = json.loads(json.dumps(item | {"metadata": meta}))
    copied.get("spec", {}).pop("clusterIPs", None)
    copied.get("status", {}).get("lastError", {}).pop("attempts", None)
    return _VOLATILE.sub(r'\1\2"masked"', json.dumps(copied, sort_keys=True))


async def end_state(live: Live, *, generations: bool = True) -> dict[str, str]:
    """Return all objects of the namespace by kind and name, masked. Without `generations`, which number the changes of a spec,
    a history of changes can be compared with a fresh creation of its last spec.
    """
    found: dict[str, str] = {}
    for resource in RESOURCES:
        for raw in (await live.client.list_all(resource, live.namespace))[0]:
            text = masked(raw)
            if not generations:
                text = re.sub(r'("(?:observedG|g)eneration": )\d+', r"\1 0", text)
            found[f"{resource.kind}/{raw['metadata']['name']}"] = text
    return found


def differences(reference: dict[str, str], ended: dict[str, str]) -> list[str]:
    """Return how an end state differs from the reference: each field with both values."""
    found = [f"{name}: only in one of both" for name in sorted(reference.keys() ^ ended.keys())]
    for name in sorted(reference.keys() & ended.keys()):
        if reference[name] != ended[name]:
            one, other = _leaves(json.loads(reference[name])), _leaves(json.loads(ended[name]))
            found += [
                f"{name} {path}: {one.get(path)} != {other.get(path)}"
                for path in sorted(one.keys() | other.keys())
                if one.get(path) != other.get(path)
            ]
    return found


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not pairs:
        return {path: value}
    return {leaf: found for key, inner in pairs for leaf, found in _leaves(inner, f"{path}.{key}").items()}


def write_counts(requests: Iterable[Request]) -> Counter[str]:
    """Return how often each write was executed, by verb, resource and name."""
    return Counter(f"{request.what} {request.name}" for request in requests if request.is_write and request.accepted)
