"""What a watch or a list does not show, shows late, twice or from the past, changes nothing in the end."""

import asyncio

import pytest

from support.crashes import Operator
from support.faultproxy import Effect, Fault, FaultProxy
from support.inprocess import assert_silent
from support.live import Live
from support.oracles import History
from support.oracles.invariants import children_of_the_deleted, claim_deletions
from userstorage_operator.api.resources import USER_STORAGES, Kind

pytestmark = [pytest.mark.kwok]

CUTS = 15
NEW_POD = {"spec": {"lifecycle": {"terminationGracePeriodSeconds": 7}}}
CHILDREN = "pods|services|networkpolicies|persistentvolumeclaims"


async def test_watches_that_are_cut_every_moment_miss_nothing_and_list_nothing(
    live: Live, operator: Operator, proxy: FaultProxy
) -> None:
    await live.create()
    await live.until_ready()
    before = len(proxy.requests)
    for number in range(CUTS):
        proxy.hang_up()
        await live.change({"spec": {"lifecycle": {"startTimeout": f"{300 + number}s"}}})
        await asyncio.sleep(0.3)
    await live.change(NEW_POD)
    await live.until_ready()
    lists = [request for request in proxy.requests[before:] if request.verb == "list" and "limit=100" in request.path]
    # Each watch resumes from its version. Other lists are of the pods that mount a claim.
    assert [request.path for request in lists if "managed-by%3D" in request.path] == []
    assert sum(request.resource == USER_STORAGES.plural for request in lists) <= CUTS


@pytest.mark.parametrize(
    ("resource", "event"),
    [("pods", "MODIFIED|DELETED"), ("userstorages", ".*"), (CHILDREN, ".*")],
    ids=["pods", "own", "children"],
)
async def test_sweep_shows_what_a_watch_does_not(
    live: Live, sweeping: Operator, proxy: FaultProxy, resource: str, event: str
) -> None:
    proxy.fail(Fault(verb="watch", resource=resource, event=event, effect=Effect.SUPPRESS))
    await live.create()
    await live.until_ready()
    pod = (await live.pod())["metadata"]["uid"]
    await live.delete(Kind.POD.resource, "user-storage-alice")

    async def is_replaced() -> bool:
        found = await live.child(Kind.POD)
        return found is not None and found["metadata"]["uid"] != pod

    await live.until(is_replaced)
    await live.until_ready()
    await live.change(NEW_POD)
    await live.until_ready()
    assert (await live.pod())["spec"]["terminationGracePeriodSeconds"] == 7
    await assert_silent(sweeping.metrics, live)
    await live.delete_with("Background")
    await live.until_gone()
    assert await live.child(Kind.POD) is None


async def replay_the_past(live: Live, proxy: FaultProxy) -> None:
    """Let every watch expire, answer the lists that follow from the past, and let no watch show the present."""
    before = len(proxy.requests)
    proxy.fail(
        Fault(verb="list", effect=Effect.REPLAY),
        Fault(verb="watch", status=410, effect=Effect.ERROR_EVENT, times=12),
        Fault(verb="watch", effect=Effect.HANG, nth=13),
    )
    proxy.hang_up()

    async def are_replayed() -> bool:
        listed = {request.resource for request in proxy.requests[before:] if request.verb == "list" and request.code == 200}
        return listed >= {"userstorages", *CHILDREN.split("|")}

    await live.until(are_replayed)
    await asyncio.sleep(2)  # a write because of what they show would be made in this time


async def test_list_from_before_the_creation_deletes_nothing(live: Live, proxy: FaultProxy, judged: History) -> None:
    proxy.keep_lists()
    async with Operator(proxy, (live.namespace,), sweep_period=1).running() as operator:
        await live.until(lambda: _has_listed(proxy))
        proxy.freeze_lists()
        await live.create()
        await live.until_ready()
        pod, before = await live.pod(), len(proxy.requests)
        await replay_the_past(live, proxy)
        assert [request.what for request in proxy.writes(before) if request.verb == "delete"] == []
        proxy.fail()
        proxy.hang_up()
        await live.change({"spec": {"lifecycle": {"startTimeout": "9m"}}})
        await live.until_ready()
        await assert_silent(operator.metrics, live)
    assert (await live.pod())["metadata"]["uid"] == pod["metadata"]["uid"]


async def test_list_from_before_the_deletion_creates_nothing(live: Live, proxy: FaultProxy, judged: History) -> None:
    await live.create()
    proxy.keep_lists()
    async with Operator(proxy, (live.namespace,), sweep_period=1).running() as operator:
        await live.until_ready()
        await live.until(lambda: _has_listed(proxy))
        proxy.freeze_lists()
        await live.delete_with("Background")
        await live.until_gone()
        await replay_the_past(live, proxy)
        proxy.fail()
        proxy.hang_up()
        await live.create("bob")
        await live.until_ready("bob")
        await assert_silent(operator.metrics, live)
    assert await live.child(Kind.POD) is None
    assert children_of_the_deleted(judged) == []
    assert claim_deletions(proxy.requests) == []


async def _has_listed(proxy: FaultProxy) -> bool:
    """Whether every list has been answered twice: by the first lists, and by a sweep."""
    listed = [request.resource for request in proxy.requests if request.verb == "list" and "limit=100" in request.path]
    return all(listed.count(resource) > 2 for resource in (USER_STORAGES.plural, *CHILDREN.split("|")))
