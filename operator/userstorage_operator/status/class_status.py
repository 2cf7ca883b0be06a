"""The status of a UserStorageClass: whether it can be served, whether it is the default, how far its rollout has come."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from userstorage_operator.api.conditions import Condition, merge
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.reasons import DEFAULT, IMAGE_PINNED, READY, RECONCILING
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.browsers.browser import Browser


def class_report(
    raw: Unstructured,
    browser: Browser | InvalidSpec,
    defaults: Sequence[Unstructured],
    counts: Mapping[str, int],
    now: datetime,
) -> Unstructured:
    """The whole status of the class `raw`. `browser` is what its users get, or why they get none; `defaults` are the
    classes marked as default, the one that counts first; `counts` tell of the users.
    """
    generation = raw["metadata"]["generation"]
    found = [ready(browser), default(raw, defaults), reconciling(counts)]
    if isinstance(browser, Browser):
        found.append(image_pinned(browser.image))
    return {
        "observedGeneration": generation,
        **{name: counts[name] for name in ("users", "updated", "pending", "failed")},
        "conditions": merge((raw.get("status") or {}).get("conditions") or (), found, generation, now),
    }


def ready(browser: Browser | InvalidSpec) -> Condition:
    """Whether a UserStorage of the class can be served at all."""
    if isinstance(browser, InvalidSpec):
        return Condition(READY, False, browser.reason, browser.message)
    return Condition(READY, True, "Valid", "UserStorages of this class can be served")


def default(raw: Unstructured, defaults: Sequence[Unstructured]) -> Condition:
    """Whether it serves the UserStorages without a className."""
    names = [other["metadata"]["name"] for other in defaults]
    name = raw["metadata"]["name"]
    if name not in names:
        return Condition(DEFAULT, False, "NotDefault", "")
    if name != names[0]:
        return Condition(DEFAULT, False, "OlderDefaultWins", f"class {names[0]!r} is marked as default too, and is older")
    if len(names) > 1:
        others = ", ".join(repr(other) for other in names[1:])
        return Condition(DEFAULT, True, "SeveralDefaults", f"this one counts; marked as default too, and younger: {others}")
    return Condition(DEFAULT, True, "Default", "serves UserStorages without a className")


def image_pinned(image: str) -> Condition:
    """Whether the image says which bytes it means."""
    if "@sha256:" in image:
        return Condition(IMAGE_PINNED, True, "Digest", "the image is named by its digest")
    return Condition(IMAGE_PINNED, False, "NoDigest", f"image {image!r} has no digest: what runs may change without a trace")


def reconciling(counts: Mapping[str, int]) -> Condition:
    """kstatus: True while a change is on its way to users; those who keep their old pod on purpose are not waited for."""
    waiting = counts["pending"] - counts["deferred"]
    if waiting > 0:
        message = f"{waiting} of {counts['users']} UserStorages wait for their turn; {counts['unavailable']} are not ready"
        return Condition(RECONCILING, True, "RollingOut", message)
    return Condition(RECONCILING, False, "Done", "")
