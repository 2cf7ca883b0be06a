"""Removes the finalizers of UserStorages and NetworkPolicies, after the operator has stopped and before its CRDs can be deleted."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from userstorage_operator.api import names
from userstorage_operator.api.errors import ClusterError, NotFound
from userstorage_operator.api.resources import USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.kube.client import KubeClient
from userstorage_operator.observed.snapshot import is_owned_by_a_user_storage, is_terminating
from userstorage_operator.plan.finalizers import has_finalizer, release_patch

_ROUNDS = 3
"""Number of times that the finalizers are removed. Another controller may change finalizers at the same time, and a running
operator adds ours again.
"""
_FINALIZER_IS_BACK = "the finalizer is back: is the operator still running?"
_POD_EXISTS = "its pod still exists, and would run on without the policy: run this again once the pod is gone"


class Held(NamedTuple):
    """An object with our finalizer. Its text is how messages name it."""

    resource: Resource
    key: Key

    def __str__(self) -> str:
        return f"{self.resource.kind.lower()} {self.key}"


async def release_finalizers(
    client: KubeClient, namespaces: Iterable[str | None], on_released: Callable[[Held], None]
) -> dict[Held, str]:
    """Remove the operator's finalizer from every UserStorage and NetworkPolicy in `namespaces`. The element None stands for all
    namespaces. `on_released` is called with each object whose finalizer was removed.

    A NetworkPolicy loses its owner too, so that it does not go before the pods when the UserStorages are deleted
    (docs/install.md#uninstall). Nothing else is changed.

    Return each object that still has the finalizer, with the reason. Raises a ClusterError if the objects cannot be listed.
    """
    scopes, reasons = list(namespaces), dict[Held, str]()
    for _ in range(_ROUNDS):
        for resource, raw in await _with_finalizer(client, scopes):
            meta = raw["metadata"]
            held = Held(resource, Key.of(raw))
            if resource is not USER_STORAGES and is_terminating(raw) and await _pod_exists(client, held.key):
                reasons[held] = _POD_EXISTS
                continue
            try:
                await client.json_patch(resource, meta["namespace"], meta["name"], _patch(raw))
            except NotFound:
                continue
            except ClusterError as error:
                reasons[held] = error.message
            else:
                on_released(held)
                reasons[held] = _FINALIZER_IS_BACK
    left = [Held(resource, Key.of(raw)) for resource, raw in await _with_finalizer(client, scopes)]
    return {held: reasons.get(held, _FINALIZER_IS_BACK) for held in left}


def _patch(raw: Unstructured) -> list[Unstructured]:
    meta = raw["metadata"]
    patch = release_patch(meta["uid"], meta["finalizers"])
    if is_owned_by_a_user_storage(raw) and not is_terminating(raw):
        test: Unstructured = {"op": "test", "path": "/metadata/ownerReferences", "value": meta["ownerReferences"]}
        patch += [test, {"op": "replace", "path": "/metadata/ownerReferences", "value": _other_owners(meta["ownerReferences"])}]
    return patch


def _other_owners(owners: list[Unstructured]) -> list[Unstructured]:
    return [owner for owner in owners if not (owner.get("controller") and owner["kind"] == names.KIND)]


async def _pod_exists(client: KubeClient, policy: Key) -> bool:
    try:
        await client.get(Kind.POD.resource, policy.namespace, policy.name)
    except NotFound:
        return False
    return True


async def _with_finalizer(client: KubeClient, namespaces: list[str | None]) -> list[tuple[Resource, Unstructured]]:
    found: list[tuple[Resource, Unstructured]] = []
    for namespace in namespaces:
        for resource in (USER_STORAGES, Kind.NETWORK_POLICY.resource):
            async for page in client.pages(resource, namespace):
                found += [(resource, raw) for raw in page if has_finalizer(raw)]
    return found
