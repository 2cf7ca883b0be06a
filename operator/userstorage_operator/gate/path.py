"""Whether a request's path lies below the base path of a user, for every program that reads it."""

from urllib.parse import unquote

_DECODINGS = 3
"""Programs on the way decode a path once, some twice. A path that still changes after that has no one meaning."""


def is_below(uri: str, base: str) -> bool:
    """Whether the path of a request URI, such as `/u/alice/a%20b?x=1`, starts with the base path `base`, which ends with `/`.

    False for a path that some gateway or file browser would take to another place: with empty elements or dots, also behind
    percent-encoding, with a backslash or a control character, or with a fragment. The host's whole path space, `/`, contains
    every path: there is no other place to go to.
    """
    if base == "/":
        return True
    path = uri.partition("?")[0]
    return (path.startswith(base) or f"{path}/" == base) and "#" not in path and _has_one_meaning(path)


def _has_one_meaning(path: str) -> bool:
    for _ in range(_DECODINGS):
        *elements, last = (element.partition(";")[0] for element in path.split("/")[1:])
        if not {"", ".", ".."}.isdisjoint(elements) or last in (".", ".."):
            return False
        if any(char == "\\" or char < " " or char == "\x7f" for char in path):
            return False
        decoded = unquote(path, encoding="latin-1")  # one character for each byte: no byte is replaced
        if decoded == path:
            return True
        path = decoded
    return False
