"""`spec.storage.subPath`: a directory of a claim, as a relative path in which `${slug}` stands for the user."""

import re

from userstorage_operator.api.errors import InvalidSpec

Directory = tuple[str, ...]
"""The elements of a path below the root of a volume; empty for the root itself."""

ROOT: Directory = ()
_DEPTH_MAX = 8
"""Elements of a path. `arbitration/directories.py` keeps an entry for each of them."""
_ELEMENT = re.compile(r"[A-Za-z0-9._@+-]{0,199}[A-Za-z0-9_@+-]")
"""A file name has at most 255 bytes, and the longest slug is 43 longer than its variable. SMB drops a dot at its end."""
_SLUG = "${slug}"


def parse_sub_path(text: str) -> str:
    """Return `text` if it is a valid subPath. Raises InvalidSpec: the CRD of another version may have let it through."""
    elements = text.replace(_SLUG, "slug").split("/")
    if len(elements) > _DEPTH_MAX:
        raise InvalidSpec(f"has more than {_DEPTH_MAX} elements")
    if any(not _ELEMENT.fullmatch(element) for element in elements):
        raise InvalidSpec(
            f"{text!r} must be relative, without elements that end with a dot, and may hold letters, digits, . _ @ + - between "
            f"single / and the variable {_SLUG}"
        )
    return text


def directory(sub_path: str | None, slug: str) -> Directory:
    """Return the directory that a valid subPath names for the user with this slug; the root if it is None."""
    return tuple(sub_path.replace(_SLUG, slug).split("/")) if sub_path is not None else ROOT


def comparable(path: Directory) -> Directory:
    """Return the directory as file systems compare it that ignore case, such as Azure Files and other SMB shares.

    The operator does not know the file system of a claim.
    """
    return tuple(element.lower() for element in path)
