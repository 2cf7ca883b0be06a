"""Errors, conflicts, refusals, hanging requests: what was asked for is done in the end, and no other user is affected."""

import itertools
from typing import Any

import pytest

from support.crashes import Operator
from support.faultproxy import Effect, Fault, FaultProxy, Request
from support.live import Live
from support.oracles import History
from support.oracles.invariants import tries_per_minute
from userstorage_operator.api.resources import USER_STORAGES

pytestmark = [pytest.mark.kwok]

OF_ALICE = "(user-storage-)?alice"
STATUS: dict[str, Any] = {"resource": "userstorages", "subresource": "status"}


def refused(proxy: FaultProxy, code: int) -> list[Request]:
    return [request for request in proxy.requests if request.code == code and request.method != "GET"]


async def until_refused(live: Live, proxy: FaultProxy, code: int, times: int) -> None:
    async def is_refused() -> bool:
        return len(refused(proxy, code)) >= times

    await live.until(is_refused)


@pytest.mark.parametrize("status", [500, 503])
async def test_user_that_is_created_in_an_outage_is_served_after_it(
    live: Live, operator: Operator, proxy: FaultProxy, status: int
) -> None:
    await live.create("bob")
    await live.until_ready("bob")
    proxy.fail(Fault(status=status))
    proxy.hang_up()  # watches and lists fail as well
    await live.create()
    await live.change({"spec": {"lifecycle": {"terminationGracePeriodSeconds": 7}}}, "bob")

    async def watches_fail() -> bool:
        return sum(request.code == status and request.verb == "watch" for request in proxy.requests) > 10

    await live.until(watches_fail)
    proxy.fail()
    await live.until_ready()
    await live.until_ready("bob")
    assert (await live.pod("bob"))["spec"]["terminationGracePeriodSeconds"] == 7


@pytest.mark.parametrize("times", [1, 3])
async def test_conflict_of_the_status_is_retried(live: Live, operator: Operator, proxy: FaultProxy, times: int) -> None:
    proxy.fail(Fault(verb="patch", status=409, times=times, **STATUS))
    await live.create()
    await live.until_ready()
    assert len(refused(proxy, 409)) == times


async def test_status_that_is_always_refused_costs_few_writes_and_no_other_user(
    live: Live, operator: Operator, proxy: FaultProxy
) -> None:
    proxy.fail(Fault(verb="patch", status=422, name="alice", **STATUS))
    await live.create()
    await live.create("bob")
    await live.until_ready("bob")
    await until_refused(live, proxy, 422, 4)  # after 0, 1, 4 and 13 s
    assert tries_per_minute(refused(proxy, 422)) <= 6
    assert (await live.pod())["status"]["phase"] == "Running"  # the user has the files all the same
    proxy.fail()
    await live.until_ready()


@pytest.mark.parametrize("seconds", [1, 5])
async def test_retry_after_is_respected_and_other_users_are_served(
    live: Live, operator: Operator, proxy: FaultProxy, seconds: int, judged: History
) -> None:
    proxy.fail(Fault("POST|PATCH", status=429, name=OF_ALICE, retry_after=seconds))
    await live.create()
    await live.until(lambda: _is_tried(proxy))
    for number in range(8):
        await live.create(f"bob-{number}")
    for number in range(8):
        await live.until_ready(f"bob-{number}")
    await until_refused(live, proxy, 429, 6)
    finalizers = [request.at for request in refused(proxy, 429) if request.what == "patch userstorages"]
    pauses = [later - earlier for earlier, later in itertools.pairwise(finalizers)]
    assert len(pauses) >= 2
    assert min(pauses) >= seconds * 0.99
    proxy.fail()
    await live.until_ready()


async def _is_tried(proxy: FaultProxy) -> bool:
    return bool(refused(proxy, 429))


@pytest.mark.parametrize("after", [False, True], ids=["request", "answer"])
async def test_request_that_hangs_ends_and_is_made_again(
    live: Live, operator: Operator, proxy: FaultProxy, after: bool
) -> None:
    proxy.fail(Fault(verb="create", resource="pods", name=OF_ALICE, effect=Effect.HANG, after=after, times=1))
    await live.create()
    await live.create("bob")
    await live.until_ready("bob")
    await live.until_ready()  # the request has ended after ten seconds
    created = [request for request in proxy.requests if request.what == "create pods" and request.name == "user-storage-alice"]
    assert sum(request.accepted for request in created) == 1


@pytest.mark.parametrize("write", ["create pods", "create services", "create persistentvolumeclaims", "patch userstorages"])
async def test_write_with_a_lost_answer_is_executed_once(live: Live, operator: Operator, proxy: FaultProxy, write: str) -> None:
    verb, _, resource = write.partition(" ")
    proxy.fail(Fault(verb=verb, resource=resource, subresource="", effect=Effect.DROP, after=True, times=1))
    await live.create()
    await live.until_ready()
    accepted = [request for request in proxy.writes() if request.what == write and request.accepted]
    assert len(accepted) == 1
    await live.delete(USER_STORAGES, "alice")
    await live.until_gone()
