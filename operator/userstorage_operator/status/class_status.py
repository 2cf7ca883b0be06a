"""The status of a UserStorageClass: whether it can be served, whether it is the default, and how far its rollout is."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from userstorage_operator.api.conditions import Condition, merge
from userstorage_operator.api.errors import ClusterError, InvalidSpec
from userstorage_operator.api.reasons import DEFAULT, END_OF_LIFE, IMAGE_PINNED, READY, RECONCILING
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.browsers.browser import Browser
from userstorage_operator.plan.pod_builder import DIRECTORY_IMAGE


def class_report(
    raw: Unstructured,
    browser: Browser | InvalidSpec,
    defaults: Sequence[Unstructured],
    counts: Mapping[str, int],
    now: datetime,
    refusal: ClusterError | None = None,
) -> Unstructured:
    """Return the complete new status of the raw class `raw`.

    `browser` is the rendered browser, or the error of rendering it. `defaults` are the classes marked as default, the effective
    one first. `counts` are the members of the class by state: users, updated, pending, deferred, failed, unavailable. `refusal`
    is the API server's answer if it refused a dry run of a user's NetworkPolicy or pod.
    """
    generation = raw["metadata"]["generation"]
    found = [ready(browser, refusal), default(raw, defaults), reconciling(raw, counts)]
    if isinstance(browser, Browser):
        found += [image_pinned(browser.image, directory_image(raw)), end_of_life(browser)]
    return {
        "observedGeneration": generation,
        **{name: counts[name] for name in ("users", "updated", "pending", "failed")},
        "conditions": merge((raw.get("status") or {}).get("conditions") or (), found, generation, now),
    }


def ready(browser: Browser | InvalidSpec, refusal: ClusterError | None = None) -> Condition:
    """Return the condition Ready: whether a UserStorage of the class can be served at all."""
    if isinstance(browser, InvalidSpec):
        return Condition(READY, False, browser.reason, browser.message)
    if refusal is not None:
        message = f"a dry run of a user's NetworkPolicy and pod in the operator's namespace was refused: {refusal.message}"
        return Condition(READY, False, "DryRunRefused", message)
    return Condition(READY, True, "Valid", "UserStorages of this class can be served")


def default(raw: Unstructured, defaults: Sequence[Unstructured]) -> Condition:
    """Return the condition Default: whether UserStorages without a className get this class."""
    names = [other["metadata"]["name"] for other in defaults]
    name = raw["metadata"]["name"]
    if name not in names:
        return Condition(DEFAULT, False, "NotDefault", "")
    if name != names[0]:
        return Condition(
            DEFAULT,
            False,
            "OlderDefaultWins",
            f"class {names[0]!r} is also marked as default; it is older and takes precedence",
        )
    if len(names) > 1:
        younger = ", ".join(repr(other) for other in names[1:])
        message = f"this class takes precedence over younger classes that are also marked as default: {younger}"
        return Condition(DEFAULT, True, "SeveralDefaults", message)
    return Condition(DEFAULT, True, "Default", "UserStorages without a className get this class")


def directory_image(raw: Unstructured) -> str:
    """Return the image of the init container that a user of the raw class may have, by `spec.storage.subPath`."""
    return (raw["spec"].get("storage") or {}).get("directoryImage") or DIRECTORY_IMAGE


def image_pinned(image: str, directory: str) -> Condition:
    """Return the condition ImagePinned: whether the images of the browser and of the directory container have a digest."""
    messages = [
        f"{field}: image {name!r} has no digest, so its content may change; pin it as name@sha256:…"
        for field, name in (("browser.image", image), ("storage.directoryImage", directory))
        if "@sha256:" not in name
    ]
    if messages:
        return Condition(IMAGE_PINNED, False, "NoDigest", "; ".join(messages))
    return Condition(IMAGE_PINNED, True, "Digest", "the images are named by their digests")


def end_of_life(browser: Browser) -> Condition:
    """Return the condition EndOfLife: whether the program gets no security fixes any more (abnormal-true). It changes nothing else."""
    if browser.end_of_life is not None:
        return Condition(END_OF_LIFE, True, "NoSecurityFixes", browser.end_of_life)
    return Condition(END_OF_LIFE, False, "NoneKnown", "")


def reconciling(raw: Unstructured, counts: Mapping[str, int]) -> Condition:
    """Return the condition Reconciling of kstatus: True while pods of members may be outdated, except deferred members.

    It is False while the rollout is paused: nothing happens until a person continues it.
    """
    waiting = counts["pending"] - counts["deferred"]
    if (raw["spec"].get("rollout") or {}).get("paused") is True:
        message = f"rollout.paused is true; {waiting} of {counts['users']} UserStorages wait for this version of the class"
        return Condition(RECONCILING, False, "RolloutPaused", message)
    if waiting > 0:
        message = f"{waiting} of {counts['users']} UserStorages wait for their turn; {counts['unavailable']} are not ready"
        return Condition(RECONCILING, True, "RollingOut", message)
    return Condition(RECONCILING, False, "Done", "")
