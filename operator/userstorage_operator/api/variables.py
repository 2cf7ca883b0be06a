"""Expansion of the variables that an administrator may write into fields of a class, each value encoded for its place."""

import re
from collections.abc import Mapping
from urllib.parse import quote

from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import UserStorageClass

_VARIABLE = re.compile(r"\$\{([^}]*)(\}?)")
_PATH = re.compile(r"/[A-Za-z0-9._~/-]*")
PATH_MAX = 1024
"""Characters that the path of an HTTPRoute may have."""


def dns_name(field: str, template: str, storage: UserStorage) -> str:
    """Expand `${slug}`, `${namespace}` and `${name}` in the class field `field`. The result may be no valid DNS name.

    The user id is not known here: a DNS name can hold few of its characters. Raises InvalidSpec for any other variable.
    """
    return _expand(field, template, _names(storage))


def annotations(storage: UserStorage, cls: UserStorageClass) -> dict[str, str]:
    """Return `network.annotations` with their values expanded, the user id percent-encoded.

    Raises InvalidSpec for an unknown variable.
    """
    values = _names(storage) | {"userID": _encoded(storage.user_id)}
    return {key: _expand(f"network.annotations[{key}]", value, values) for key, value in cls.exposure.annotations.items()}


def base_path(storage: UserStorage, cls: UserStorageClass) -> str:
    """Return the URL path below which the file browser serves; it starts and ends with `/`. Raises InvalidSpec as `_url_path`."""
    field, path = "browser.basePath", _url_path("browser.basePath", cls.browser.base_path, storage)
    if not path.endswith("/"):
        raise InvalidSpec(f"class spec.{field}: {path!r} does not end with /")
    return path


def health_path(storage: UserStorage, cls: UserStorageClass) -> str | None:
    """Return the URL path of the health page that the class names; None if it names none. Raises InvalidSpec as `_url_path`."""
    template = cls.browser.health_path
    return _url_path("browser.healthPath", template, storage) if template is not None else None


def _url_path(field: str, template: str, storage: UserStorage) -> str:
    """Expand all variables in the class field `field`, an absolute URL path.

    Raises InvalidSpec for an unknown variable, for a path with other characters than the unreserved ones of RFC 3986, because
    nginx compares decoded paths and Envoy encoded ones, and for a path that a client shortens (`..`).
    """
    path = _expand(field, template, _names(storage) | {"userID": _encoded(storage.user_id)})
    made = f"class spec.{field} makes {path[:PATH_MAX]!r} of spec.userID {storage.user_id!r}"
    if not _PATH.fullmatch(path):
        raise InvalidSpec(
            f"{made}: gateways and file browsers compare only letters, digits and . _ ~ - alike; write ${{slug}} for ${{userID}}"
        )
    if "//" in path or not {".", ".."}.isdisjoint(path.split("/")):
        raise InvalidSpec(f"{made}: an element of the path is empty, . or ..")
    if len(path) > PATH_MAX:
        raise InvalidSpec(f"{made}: a path has at most {PATH_MAX} characters, this one {len(path)}")
    return path


def _names(storage: UserStorage) -> dict[str, str]:
    return {"slug": storage.slug, "namespace": storage.meta.namespace, "name": storage.meta.name}


def _encoded(user_id: str) -> str:
    """Return the user id with all but the unreserved characters of RFC 3986 percent-encoded."""
    return quote(user_id, safe="")


def _expand(field: str, template: str, values: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        if found[1] not in values or not found[2]:
            known = ", ".join(f"${{{name}}}" for name in values)
            raise InvalidSpec(f"class spec.{field}: unknown variable {found[0]!r}; known are {known}")
        return values[found[1]]

    return _VARIABLE.sub(value, template)
