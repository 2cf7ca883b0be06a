"""Expansion of the two variables that administrators may use in paths."""

from userstorage_operator.api.userstorage import UserStorage


def expand(template: str, storage: UserStorage) -> str:
    """Replace `${namespace}` and `${slug}`. Both are DNS labels, so no expansion can leave the path."""
    return template.replace("${namespace}", storage.meta.namespace).replace("${slug}", storage.slug)
