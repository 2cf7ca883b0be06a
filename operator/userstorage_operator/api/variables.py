"""Expansion of the two placeholders that administrators may use in paths."""

from userstorage_operator.api.userstorage import UserStorage


def expand(template: str, storage: UserStorage) -> str:
    """`${namespace}` and `${slug}` replaced; both are DNS labels, so no expansion can leave the path."""
    return template.replace("${namespace}", storage.meta.namespace).replace("${slug}", storage.slug)
