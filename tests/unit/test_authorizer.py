"""Which permissions of a caller are reviewed, and in which order."""

import pytest

from userstorage_operator.api.errors import Unavailable
from userstorage_operator.readapi.authorizer import Authorizer
from userstorage_operator.readapi.problems import Problem
from userstorage_operator.readmodel.caller import Access, Caller, PathAccess

BACKEND = Caller("backend")
ALICE = Access("get", "users", "alice")
EVERYWHERE, IN_NAMESPACE = Access("get"), Access("get", "users")


class FakeReviews:
    def __init__(self, *granted: Access) -> None:
        self.granted = granted
        self.available = True
        self.asked: list[Access | PathAccess] = []

    async def caller(self, token: str) -> Caller | None:
        return BACKEND

    async def allows(self, caller: Caller, access: Access | PathAccess) -> bool:
        self.asked.append(access)
        if not self.available:
            raise Unavailable(0, "no answer from the API server")
        return access in self.granted


async def test_cluster_wide_permission_is_reviewed_before_that_in_a_namespace() -> None:
    reviews = FakeReviews(IN_NAMESPACE)
    await Authorizer(reviews).authorize(BACKEND, ALICE)
    assert reviews.asked == [EVERYWHERE, IN_NAMESPACE]


async def test_caller_with_permission_in_one_namespace_is_served_while_the_api_server_is_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("userstorage_operator.readapi.review_cache.NO", 0.0)
    reviews = FakeReviews(IN_NAMESPACE)
    authorizer = Authorizer(reviews)
    await authorizer.authorize(BACKEND, ALICE)
    reviews.available = False
    await authorizer.authorize(BACKEND, ALICE)
    with pytest.raises(Problem) as refused:
        await authorizer.authorize(BACKEND, Access("get", "other", "alice"))
    assert refused.value.status == 503


async def test_caller_without_permission_is_refused() -> None:
    reviews = FakeReviews(Access("get", "other"))
    with pytest.raises(Problem) as refused:
        await Authorizer(reviews).authorize(BACKEND, ALICE)
    assert refused.value.status == 403
    assert reviews.asked == [EVERYWHERE, IN_NAMESPACE, ALICE]
