"""What a watch of our own kinds missed is seen right after it resumes; no refused list or watch ends the operator."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from support.faultproxy import Effect, Fault, FaultProxy
from support.inprocess import RecordedMetrics, serving
from support.live import LIFE, Live
from userstorage_operator.config import Config
from userstorage_operator.informers import informer
from userstorage_operator.kube import transport

pytestmark = [pytest.mark.kwok]

WATCHES = r"/userstorages\?.*watch="


@pytest.fixture
def proxied_operator(proxy: FaultProxy, live: Live) -> Iterator[RecordedMetrics]:
    with serving(Config(namespaces=(live.namespace,), http_port=0, sweep_period=3600)) as metrics:
        yield metrics


async def until_requested(live: Live, proxy: FaultProxy, part: str, status: int) -> None:
    """Wait until a request for a path with `part` is answered with the status from now on."""
    before = len(proxy.requests)

    async def is_requested() -> bool:
        return any(part in request.path and request.code == status for request in proxy.requests[before:])

    await live.until(is_requested)


@pytest.mark.parametrize("code", [410, 500])
async def test_user_that_vanished_in_a_gap_makes_room_for_its_successor(
    live: Live, proxied_operator: RecordedMetrics, proxy: FaultProxy, code: int
) -> None:
    await live.create("alice", user_id="alice")
    await live.until_ready()
    proxy.fail(Fault("GET", WATCHES, 503))
    proxy.hang_up()
    await live.delete_with("Background")
    await live.change({"metadata": {"finalizers": None}})

    await live.until_gone()
    await live.create("alice-again", user_id="alice")
    proxy.fail(Fault("GET", WATCHES, code, effect=Effect.ERROR_EVENT, times=1))
    await live.until_ready("alice-again")


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_refused_list_or_watch_does_not_end_the_operator(
    live: Live, proxied_operator: RecordedMetrics, proxy: FaultProxy, status: int
) -> None:
    await live.create()
    await live.until_ready()
    proxy.fail(Fault("GET", r"/userstorages\?", status))
    proxy.hang_up()
    await until_requested(live, proxy, "/userstorages?", status)
    await live.create("bob")
    await asyncio.sleep(1)
    proxy.fail()
    await live.until_ready("bob")
    assert proxied_operator.is_alive()


async def test_long_list_that_expires_is_started_again_with_larger_pages(
    live: Live, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(informer, "_PAGE_SIZES", (1, 10))
    for name in ("alice", "bob", "carol"):
        await live.create(name)
    proxy.fail(Fault("GET", r"limit=1&.*continue=", 410))
    with serving(Config(namespaces=(live.namespace,), http_port=0, sweep_period=3600)):
        for name in ("alice", "bob", "carol"):
            await live.until_ready(name)


async def test_clock_that_is_ahead_times_nothing_out(
    live: Live, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    local = transport._local_time
    monkeypatch.setattr(transport, "_local_time", lambda: local() + timedelta(minutes=10))
    request.getfixturevalue("operator")
    await live.create(podMetadata={"annotations": {LIFE: "never-ready"}})
    await live.until_condition("Ready", "False", "PodNotReady")
    assert (await live.condition("Stalled"))[0] == "False"
    await live.create("bob", podMetadata={"annotations": {LIFE: "slow-termination"}})
    await live.until_ready("bob")
    await live.delete_with("Background", "bob")
    await live.until_condition("Reconciling", "True", "Terminating", "bob")
    assert (await live.condition("Stalled", "bob"))[0] == "False"
