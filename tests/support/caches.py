"""Lists for caches, as an informer puts them there."""

from collections.abc import Iterable

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.informers.object_cache import Listing, ObjectCache


def put_list(cache: ObjectCache, objects: Iterable[Unstructured], version: str, namespace: str | None = None) -> None:
    """Put a full list of one page into the cache."""
    listing = Listing(namespace)
    cache.add_page(listing, objects, version)
    cache.finish_list(listing, version)
