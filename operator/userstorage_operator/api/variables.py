"""Expansion of `${namespace}` and `${slug}`, which an administrator may write into the URL path and host name of a class."""

from userstorage_operator.api.userstorage import UserStorage


def expand(template: str, storage: UserStorage) -> str:
    """Replace `${namespace}` and `${slug}` in `template`. Both values have only letters, digits and `-`, so no `/` or `..`."""
    return template.replace("${namespace}", storage.meta.namespace).replace("${slug}", storage.slug)
