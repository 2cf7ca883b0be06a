"""Expansion of the two variables that administrators may use in paths and host names."""

from userstorage_operator.api.userstorage import UserStorage


def expand(template: str, storage: UserStorage) -> str:
    """Replace `${namespace}` and `${slug}`. Both have only letters, digits and `-`, so they cannot lead out of the path."""
    return template.replace("${namespace}", storage.meta.namespace).replace("${slug}", storage.slug)
