"""Who uninstalls with the operator still running is told."""

from typing import Any, cast

from support.builders import storage_object
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.kube.client import KubeClient
from userstorage_operator.uninstall import release_finalizers


class StillServed:
    """An API server whose objects get their finalizers back as soon as they lose them."""

    async def list_all(self, *_: Any) -> tuple[list[Unstructured], str]:
        return [storage_object()], "1"

    async def json_patch(self, *_: Any) -> Unstructured:
        return storage_object()


async def test_a_finalizer_that_comes_back_is_a_failure() -> None:
    told: list[Key] = []
    kept = await release_finalizers(cast("KubeClient", StillServed()), [None], told.append)
    assert "still running" in kept[Key("users", "alice")]
