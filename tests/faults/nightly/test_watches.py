"""Watches that stall, events that come twice and late, and objects that change faster than they are reconciled."""

from typing import Any

import pytest

from support.crashes import Operator
from support.faultproxy import Effect, Fault, FaultProxy
from support.inprocess import assert_silent
from support.live import Live
from support.oracles import History, write_counts
from userstorage_operator.api.resources import Kind
from userstorage_operator.informers import kopf_watch
from userstorage_operator.kube import client

pytestmark = [pytest.mark.kwok]

FLIPS = 100
SILENCE = 4.0
"""In place of 70 s: the time after which a watch without a byte counts as dead."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the time without a byte after which a watch is opened again."""
    original = kopf_watch.settings

    def settings() -> Any:
        chosen = original()

        chosen.watching.inactivity_timeout = SILENCE
        return chosen

    monkeypatch.setattr(kopf_watch, "settings", settings)
    monkeypatch.setattr(client, "WATCH_SILENCE", SILENCE)


@pytest.mark.parametrize("resource", ["pods", "userstorages"])
async def test_silent_watch_is_opened_again_and_shows_what_happened(
    live: Live, impatient: None, operator: Operator, proxy: FaultProxy, resource: str
) -> None:
    await live.create()
    await live.until_ready()
    pod = (await live.pod())["metadata"]["uid"]
    proxy.fail(Fault(verb="watch", resource=resource, effect=Effect.STALL))
    if resource == "pods":
        await live.delete(Kind.POD.resource, "user-storage-alice")
    else:
        await live.create("bob")

    async def is_stalled() -> bool:
        return proxy.stalled > 0

    await live.until(is_stalled)
    proxy.fail()
    if resource == "pods":

        async def is_replaced() -> bool:
            found = await live.child(Kind.POD)
            return found is not None and found["metadata"]["uid"] != pod

        await live.until(is_replaced)
        await live.until_ready()
    else:
        await live.until_ready("bob")


async def run_through(live: Live, user: str) -> None:
    await live.create(user)
    await live.until_ready(user)
    await live.change({"spec": {"lifecycle": {"terminationGracePeriodSeconds": 7}}}, user)
    await live.until_ready(user)
    await live.delete_with("Background", user)
    await live.until_gone(user)


async def test_repeated_and_late_events_cause_no_further_write(live: Live, operator: Operator, proxy: FaultProxy) -> None:
    await run_through(live, "alice")
    proxy.fail(Fault(verb="watch", effect=Effect.REPEAT))
    await run_through(live, "bobby")
    counts = write_counts(proxy.requests)
    of_alice = {what: count for what, count in counts.items() if "alice" in what and "status" not in what}
    of_bob = {
        what.replace("bobby", "alice"): count for what, count in counts.items() if "bobby" in what and "status" not in what
    }
    assert of_bob == of_alice
    statuses = [counts[f"patch userstorages/status {user}"] for user in ("alice", "bobby")]
    assert abs(statuses[0] - statuses[1]) <= 1  # a transition that is over soon enough is not reported


async def test_hundred_changes_in_a_row_end_with_the_last(
    live: Live, sweeping: Operator, proxy: FaultProxy, judged: History
) -> None:
    await live.create()
    await live.until_ready()
    before = len(proxy.requests)
    for number in range(FLIPS):
        seconds = (7, 8)[number % 2]
        await live.change({"spec": {"lifecycle": {"terminationGracePeriodSeconds": seconds}}})
    await live.change({"spec": {"lifecycle": {"terminationGracePeriodSeconds": 30}}})
    await live.until_ready()
    assert (await live.pod())["spec"]["terminationGracePeriodSeconds"] == 30
    assert len(proxy.writes(before)) < FLIPS  # changes that came while one was worked on are one
    await assert_silent(sweeping.metrics, live)
