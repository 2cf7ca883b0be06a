"""User ids as identity providers send them, and hostile ones. All are valid; no place that takes one may be fooled by it."""

import string

from hypothesis import strategies as st

PROVIDERS = (
    "auth0|5f7c8ec7c33c6c004bbafe82",
    "f:1b2c:alice",
    "CORP\\alice",
    "_a@example.org",
    "Z3x-_",
    "o'brien@example.org",
    "alice smith",
    "google-oauth2|1234",
    "https://idp.example.org/u/1",
    "https://idp.example.org/u/alice@example.org",
    "CN=Alice Smith,OU=Users,DC=example,DC=org",
    "AB",
    "Jo",
)
ROWS: dict[int, tuple[str, ...]] = {
    6: ("../root", "../etc", "..", "."),
    7: ("a/b", "a\\b", "a%2e%2eb", "%2e%2e", "%00", "a%2fb"),
    10: ("{{.}}", "$(id)", "$$(id)", "${X}", "${slug}", "`id`", "%s", "{0}", "'; DROP", "'; --", '"; id; "', "*", "|", "---"),
}
"""Number of the row in `component/catalogue.py` -> its user ids."""
HOSTILE = (*(user_id for ids in ROWS.values() for user_id in ids), "@", "#", "?a=b&c", "a: b", "- x", "&x", "null", "~", "1e3")
ALL = (*PROVIDERS, *HOSTILE)

_VISIBLE = string.ascii_letters + string.digits + string.punctuation
VALID = st.text(_VISIBLE + " ", min_size=1, max_size=255).filter(lambda text: text == text.strip(" "))
"""Every user id that the CRD accepts."""
