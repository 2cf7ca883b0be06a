"""Removes the finalizer from every UserStorage, after the operator has stopped and before its CRDs can be deleted."""

from collections.abc import Callable, Iterable

from userstorage_operator.api import names
from userstorage_operator.api.errors import ClusterError, NotFound
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key, Metadata
from userstorage_operator.kube.client import KubeClient
from userstorage_operator.plan.finalizers import release_patch

_ROUNDS = 3
"""Number of times that the finalizers are removed. Another controller may change finalizers at the same time, and a running
operator adds ours again.
"""
_FINALIZER_IS_BACK = "the finalizer is back: is the operator still running?"


async def release_finalizers(
    client: KubeClient, namespaces: Iterable[str | None], on_released: Callable[[Key], None]
) -> dict[Key, str]:
    """Remove the operator's finalizer from every UserStorage in `namespaces`, and change nothing else. The element None stands
    for all namespaces. `on_released` is called with the key of each UserStorage whose finalizer was removed.

    Return the key of each UserStorage that still has the finalizer, with the reason. Raises a ClusterError if the UserStorages
    cannot be listed.
    """
    scopes, reasons = list(namespaces), dict[Key, str]()
    for _ in range(_ROUNDS):
        for meta in await _with_finalizer(client, scopes):
            try:
                patch = release_patch(meta.uid, meta.finalizers)
                await client.json_patch(USER_STORAGES, meta.namespace, meta.name, patch)
            except NotFound:
                continue
            except ClusterError as error:
                reasons[meta.key] = error.message
            else:
                on_released(meta.key)
                reasons[meta.key] = _FINALIZER_IS_BACK
    return {meta.key: reasons.get(meta.key, _FINALIZER_IS_BACK) for meta in await _with_finalizer(client, scopes)}


async def _with_finalizer(client: KubeClient, namespaces: list[str | None]) -> list[Metadata]:
    listed: list[Unstructured] = []
    for namespace in namespaces:
        listed += (await client.list_all(USER_STORAGES, namespace))[0]
    return [meta for meta in map(Metadata.parse, listed) if names.FINALIZER in meta.finalizers]
