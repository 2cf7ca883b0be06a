"""A rendering is kept for the next reconciles of the same UserStorage, and never differs from a new one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from cachetools import TTLCache

from support.builders import EXPOSE, NOW, UID, class_object, settled_snapshot, snapshot_of, storage_object
from userstorage_operator import browsers
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.names import ANNOTATION_PAUSED, ANNOTATION_RESTARTED_AT
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import BUILT_IN, Ids, UserStorageClass
from userstorage_operator.plan import rendering
from userstorage_operator.plan.builders import build
from userstorage_operator.plan.planner import plan
from userstorage_operator.plan.rendering import render

STORAGE = UserStorage.parse(storage_object())
CLASS = UserStorageClass.parse(class_object(network=EXPOSE["ingress"]))


def storage(meta: dict[str, Any] | None = None, **spec: Any) -> UserStorage:
    return UserStorage.parse(storage_object(meta=meta, **spec))


@pytest.mark.parametrize(
    "changed",
    [
        {"storage": storage(userID="bob")},
        {"storage": storage(storage={"size": "11Gi"})},
        {"storage": storage(storage={"claimName": "x", "subPath": "a"})},
        {"storage": storage(lifecycle={"terminationGracePeriodSeconds": 7})},
        {"storage": storage(scheduling={"tolerations": [{"key": "a", "operator": "Exists"}]})},
        {"storage": storage(podMetadata={"labels": {"team": "a"}})},
        {"storage": storage({"annotations": {ANNOTATION_RESTARTED_AT: "2026-01-01T00:00:00Z"}})},
        {"storage": storage({"uid": UID[:-1] + "2"})},
        {"storage": storage({"namespace": "others"})},
        {"cls": replace(CLASS, ids=Ids(2000, 2000, 2000))},
        {"cls": UserStorageClass.parse(class_object(network=EXPOSE["http_route"]))},
        {"cls": BUILT_IN},
        {"exposed": False},
    ],
)
def test_another_input_is_rendered_again(changed: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"storage": STORAGE, "cls": CLASS, "exposed": True}
    for arguments in (asked, asked | changed, asked):
        of, cls, exposed = (arguments[name] for name in ("storage", "cls", "exposed"))
        try:
            expected: object = build(of, cls, browsers.render(of, cls), exposed=exposed)
        except InvalidSpec as error:
            expected = str(error)
        try:
            found: object = render(of, cls, exposed=exposed, granted=None)
        except InvalidSpec as error:
            found = str(error)
        assert found == expected


def test_size_that_was_granted_counts() -> None:
    cls = UserStorageClass.parse(class_object(storage={"maxSize": "5Gi"}))
    large = storage(storage={"size": "9Gi"})
    assert render(large, cls, exposed=True, granted="9Gi").pvc is not None
    with pytest.raises(InvalidSpec):
        render(large, cls, exposed=True, granted=None)


def test_renderings_of_users_that_are_not_reconciled_are_not_kept_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    kept = TTLCache[str, Any](100, rendering.KEPT_SECONDS, timer=lambda: now)
    monkeypatch.setattr(rendering, "_KEPT", kept)
    for number in range(10):
        render(storage({"uid": f"uid-{number}"}), BUILT_IN, exposed=True, granted=None)
    assert len(kept) == 10
    now = rendering.KEPT_SECONDS + 1
    render(STORAGE, BUILT_IN, exposed=True, granted=None)
    assert list(kept) == [STORAGE.meta.uid]


@pytest.mark.parametrize(
    "meta",
    [
        {"resourceVersion": "101"},
        {"generation": 4},
        {"finalizers": []},
        {"annotations": {ANNOTATION_PAUSED: "true"}},
        {"deletionTimestamp": "2026-01-01T00:00:00Z"},
    ],
)
def test_what_changes_in_a_start_is_not_rendered_again(meta: dict[str, Any]) -> None:
    first = render(STORAGE, BUILT_IN, exposed=True, granted=None)
    assert render(storage(meta), BUILT_IN, exposed=True, granted=None) is first


def test_claim_that_appears_is_not_rendered_again_without_a_limit() -> None:
    first = render(STORAGE, BUILT_IN, exposed=True, granted=None)
    assert render(STORAGE, BUILT_IN, exposed=True, granted="10Gi") is first


def test_no_plan_changes_what_is_kept() -> None:
    kept = render(STORAGE, BUILT_IN, exposed=True, granted=None)
    before = orjson.dumps([kept.pod, kept.service, kept.pvc, kept.network_policy])
    snapshots: list[Callable[[], object]] = [
        lambda: plan(settled_snapshot(storage_object()), NOW),
        lambda: plan(snapshot_of(storage_object()), NOW),
        lambda: plan(replace(settled_snapshot(storage_object()), may_replace=False), NOW),
    ]
    for act in snapshots:
        act()
    assert orjson.dumps([kept.pod, kept.service, kept.pvc, kept.network_policy]) == before
