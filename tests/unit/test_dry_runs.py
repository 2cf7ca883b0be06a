"""When the children of a class are tried again, and which refusals say nothing about the class."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from support.builders import NOW, class_object, desired_of, storage_object
from userstorage_operator.api.errors import Refused
from userstorage_operator.api.resources import Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.reconcile.dry_runs import DryRuns

CLASS = class_object()


class Server:
    """An API server that refuses as a test says, and counts the dry runs of pods."""

    def __init__(self) -> None:
        self.refusal: Refused | None = None
        self.tries = 0

    async def dry_run(self, resource: Resource, namespace: str, body: Unstructured) -> None:
        self.tries += resource.kind == "Pod"
        if self.refusal is not None and resource.kind == "Pod":
            raise self.refusal


class Class:
    """The dry runs of one class, with a clock that a test sets."""

    def __init__(self) -> None:
        self.server, self.now = Server(), NOW
        self.runs = DryRuns(self.server, "userstorage-system", lambda: self.now)

    def refusal(self) -> Any:
        return asyncio.run(self.runs.refusal(CLASS, desired_of(storage_object())))

    def after(self, length: timedelta) -> Any:
        self.now += length
        return self.refusal()


def test_accepted_class_is_tried_again_after_an_hour() -> None:
    tried = Class()
    assert tried.refusal() is None
    assert tried.runs.retry_after(CLASS["metadata"]["name"]) == 3600
    tried.server.refusal = Refused(403, "a policy that came later")
    assert tried.after(timedelta(minutes=59)) is None
    assert tried.server.tries == 1
    assert tried.after(timedelta(minutes=1)) is tried.server.refusal


def test_refused_class_is_tried_again_after_a_minute() -> None:
    tried = Class()
    tried.server.refusal = Refused(403, "no")
    assert tried.refusal() is not None
    assert tried.runs.retry_after(CLASS["metadata"]["name"]) == 60
    tried.server.refusal = None
    assert tried.after(timedelta(seconds=59)) is not None
    assert tried.after(timedelta(seconds=1)) is None


@pytest.mark.parametrize("refusal", [Refused(400, "no dry run"), Refused(403, "exceeded quota: pods", "QuotaExceeded")])
def test_refusal_that_says_nothing_about_the_class_is_ignored(refusal: Refused) -> None:
    tried = Class()
    tried.server.refusal = refusal
    assert tried.refusal() is None


def test_class_that_was_never_tried_has_no_time() -> None:
    assert Class().runs.retry_after("other") is None
