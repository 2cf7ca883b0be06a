import re

from support.builders import NOW, class_object
from userstorage_operator import browsers
from userstorage_operator.api.errors import InvalidSpec, Refused
from userstorage_operator.api.reasons import CLASS_REASONS, IMAGE_PINNED
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorageclass import BUILT_IN, default_classes
from userstorage_operator.browsers.browser import Browser
from userstorage_operator.reconcile.class_reconciler import _ANY_USER, image_flaws
from userstorage_operator.status.class_status import class_report

BROWSER = browsers.render(_ANY_USER, BUILT_IN)
COUNTS = {"users": 5, "running": 4, "unavailable": 1, "updated": 3, "pending": 2, "deferred": 1, "failed": 1}


def marked(name: str, created: str) -> Unstructured:
    meta = {"creationTimestamp": created, "annotations": {"userstorage.dev/is-default-class": "true"}}
    return class_object(name, meta=meta)


def conditions_with(
    raw: Unstructured, browser: Browser | InvalidSpec = BROWSER, classes: tuple[Unstructured, ...] = ()
) -> dict[str, tuple[str, str]]:
    status = class_report(raw, browser, default_classes(classes), COUNTS, NOW)
    conditions = {entry["type"]: (entry["status"], entry["reason"]) for entry in status["conditions"]}
    assert all(reason in CLASS_REASONS[kind] for kind, (_, reason) in conditions.items())
    return conditions


def test_user_counts_are_reported_in_class_status() -> None:
    status = class_report(class_object(), BROWSER, [], COUNTS, NOW)
    assert {key: value for key, value in status.items() if key != "conditions"} == {
        "observedGeneration": 1, "users": 5, "updated": 3, "pending": 2, "failed": 1,
    }  # fmt: skip


def test_rollout_is_done_if_all_pending_users_are_deferred() -> None:
    assert conditions_with(class_object())["Reconciling"] == ("True", "RollingOut")
    status = class_report(class_object(), BROWSER, [], COUNTS | {"deferred": 2}, NOW)
    assert [entry["reason"] for entry in status["conditions"] if entry["type"] == "Reconciling"] == ["Done"]


def test_paused_rollout_says_how_many_wait() -> None:
    raw = class_object(rollout={"paused": True})
    assert conditions_with(raw)["Reconciling"] == ("False", "RolloutPaused")
    status = class_report(raw, BROWSER, [], COUNTS, NOW)
    [message] = [entry["message"] for entry in status["conditions"] if entry["type"] == "Reconciling"]
    assert message == "rollout.paused is true; 1 of 5 UserStorages wait for this version of the class"


def test_both_of_two_default_classes_report_the_conflict() -> None:
    older, newer = marked("older", "2026-01-01T00:00:00Z"), marked("newer", "2026-01-02T00:00:00Z")
    both = (newer, older)
    assert conditions_with(older, classes=both)["Default"] == ("True", "SeveralDefaults")
    assert conditions_with(newer, classes=both)["Default"] == ("False", "OlderDefaultWins")
    assert conditions_with(newer, classes=(newer,))["Default"] == ("True", "Default")
    assert conditions_with(class_object(), classes=both)["Default"] == ("False", "NotDefault")


def test_image_without_digest_is_reported() -> None:
    digest = f"@sha256:{'0' * 64}"
    assert pinned(class_object()) == ("False", ["browser.image", "storage.directoryImage"])
    browser = {"image": f"{BROWSER.image}{digest}"}
    assert pinned(class_object(browser=browser)) == ("False", ["storage.directoryImage"])
    assert pinned(class_object(browser=browser, storage={"directoryImage": "busybox:1"})) == (
        "False",
        ["storage.directoryImage"],
    )
    own = {"directoryImage": f"busybox{digest}"}
    assert pinned(class_object(storage=own)) == ("False", ["browser.image"])
    assert pinned(class_object(browser=browser, storage=own)) == ("True", [])


def pinned(raw: Unstructured) -> tuple[str, list[str]]:
    """Return the status of the condition ImagePinned of a class, and the fields that its message names."""
    status = class_report(raw, browsers.render(_ANY_USER, BUILT_IN.parse(raw)), [], COUNTS, NOW)
    [found] = [entry for entry in status["conditions"] if entry["type"] == "ImagePinned"]
    assert (IMAGE_PINNED in image_flaws(raw)) == (found["status"] == "False")
    return found["status"], re.findall(r"([a-zA-Z.]+): image", found["message"])


def test_end_of_life_of_the_program_is_reported() -> None:
    archived = class_object(browser={"flavor": "FileBrowser"})
    browser = browsers.render(_ANY_USER, BUILT_IN.parse(archived))
    assert conditions_with(archived, browser)["EndOfLife"] == ("True", "NoSecurityFixes")
    maintained = class_object(browser={"flavor": "Quantum"})
    browser = browsers.render(_ANY_USER, BUILT_IN.parse(maintained))
    assert conditions_with(maintained, browser)["EndOfLife"] == ("False", "NoneKnown")
    assert conditions_with(maintained, browser)["Ready"][0] == "True"


def test_class_with_invalid_spec_is_reported_as_not_ready() -> None:
    assert conditions_with(class_object(), InvalidSpec("class spec.browser.flavor: …"))["Ready"] == ("False", "InvalidSpec")


def test_refused_dry_run_is_reported() -> None:
    status = class_report(class_object(), BROWSER, [], COUNTS, NOW, Refused(422, "spec.ingress[0].from: Invalid value"))
    [ready] = [entry for entry in status["conditions"] if entry["type"] == "Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "DryRunRefused")
    assert "spec.ingress[0].from: Invalid value" in ready["message"]
