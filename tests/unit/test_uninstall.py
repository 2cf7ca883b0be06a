"""`release-finalizers` while the operator still runs."""

from collections.abc import AsyncIterator
from typing import Any, cast

from support.builders import storage_object
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.kube.client import KubeClient
from userstorage_operator.uninstall import Held, release_finalizers


class StillManaged:
    """An API server where an operator adds the finalizers again as soon as they are removed."""

    async def pages(self, *_: Any) -> AsyncIterator[list[Unstructured]]:
        yield [storage_object()]

    async def json_patch(self, *_: Any) -> Unstructured:
        return storage_object()


async def test_finalizer_that_is_added_again_is_reported() -> None:
    released: list[Held] = []
    failed = await release_finalizers(cast("KubeClient", StillManaged()), [None], released.append)
    assert "still running" in failed[Held(USER_STORAGES, Key("users", "alice"))]
