"""Three candidates, one lease, and any fault between them: at no time may two of them write.

The simulation has its own clock and steps the candidates: each of their requests and pauses is one of its events.
"""

import heapq
import itertools
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from userstorage_operator.election.elector import LEASE_DURATION, Elector, Fence, LeaseRecord, LeaseUnavailable


class Call:
    """A request or pause of a candidate: awaiting it passes it to the simulation."""

    def __init__(self, ask: Callable[[], LeaseRecord | None] | None, seconds: float) -> None:
        self.ask = ask  # None for a pause
        self.seconds = seconds  # duration of the pause, or timeout of the request

    def __await__(self) -> Generator["Call", Any, Any]:
        answer = yield self
        if isinstance(answer, LeaseUnavailable):
            raise answer
        return answer


class LeaseServer:
    """The lease as the API server keeps it."""

    def __init__(self) -> None:
        self.record: LeaseRecord | None = None
        self._versions = itertools.count(1)

    def put(self, record: LeaseRecord) -> LeaseRecord:
        self.record = replace(record, resource_version=str(next(self._versions)))
        return self.record

    def restore(self, record: LeaseRecord) -> None:
        """Go back to the moment at which `record` was the newest: etcd was restored."""
        self.record = record
        self._versions = itertools.count(int(record.resource_version) + 1)

    def create(self, record: LeaseRecord) -> LeaseRecord | None:
        return self.put(record) if self.record is None else None

    def update(self, record: LeaseRecord) -> LeaseRecord | None:
        return self.put(record) if self.record is not None and self.record.resource_version == record.resource_version else None


class Store:
    """The connection of one candidate to the server."""

    def __init__(self, server: LeaseServer) -> None:
        self._server = server

    async def get(self, timeout: float) -> LeaseRecord | None:
        found: LeaseRecord | None = await Call(lambda: self._server.record, timeout)
        return found

    async def create(self, record: LeaseRecord, timeout: float) -> LeaseRecord | None:
        stored: LeaseRecord | None = await Call(lambda: self._server.create(record), timeout)
        return stored

    async def update(self, record: LeaseRecord, timeout: float) -> LeaseRecord | None:
        stored: LeaseRecord | None = await Call(lambda: self._server.update(record), timeout)
        return stored


@dataclass(frozen=True)
class Fate:
    """The network's treatment of one request."""

    there: float = 0.01  # seconds until the request reaches the server
    back: float = 0.01  # seconds until the answer reaches the candidate
    lost: bool = False  # the request never reaches the server


class Candidate:
    """One process: waits for the lease, leads, ends."""

    def __init__(self, simulation: "Simulation", name: str, clock_offset: float) -> None:
        self.name = name
        self.ended = False
        self.stopped_until = 0.0
        self.stopping = False
        self.clock = lambda: simulation.time + clock_offset
        self.fence = Fence(self.clock)
        self.elector = Elector(Store(simulation.server), name, self.fence, _pause, self.clock)
        self.life: Coroutine[Any, Any, None] = self._live()

    async def _live(self) -> None:
        await self.elector.acquire()
        await self.elector.renew()

    def may_write(self) -> bool:
        return not self.ended and self.fence.remaining() > 0


async def _pause(seconds: float) -> None:
    await Call(None, seconds)


class Simulation:
    """The clock, the server and the candidates."""

    def __init__(self, offsets: list[float], fates: list[Fate]) -> None:
        self.time = 0.0
        self.server = LeaseServer()
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._fates = iter(fates)
        self.leaders: list[tuple[float, str, int]] = []
        self.candidates = [Candidate(self, f"candidate-{n}", offset) for n, offset in enumerate(offsets)]
        for candidate in self.candidates:
            self.at(0.0, partial(self._resume, candidate, candidate.life, None))

    def at(self, when: float, event: Callable[[], object]) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), event))

    def run(self, until: float) -> None:
        """Process all events up to `until`; after each, at most one candidate may write."""
        while self._agenda and self._agenda[0][0] <= until:
            self.time, _, event = heapq.heappop(self._agenda)
            event()
            self.check()
        self.time = until
        self.check()

    def check(self) -> None:
        writers = [candidate for candidate in self.candidates if candidate.may_write()]
        assert len(writers) <= 1, f"at {self.time}: {[writer.name for writer in writers]}"
        if writers and (not self.leaders or self.leaders[-1][1] != writers[0].name):
            self.leaders.append((self.time, writers[0].name, writers[0].fence.term))

    def kill(self, candidate: Candidate) -> None:
        candidate.ended = True
        candidate.life.close()  # a release may not have started yet

    def pause(self, candidate: Candidate, seconds: float) -> None:
        candidate.stopped_until = max(candidate.stopped_until, self.time + seconds)

    def terminate(self, candidate: Candidate) -> None:
        """Handle SIGTERM: no write is in flight any more, and the candidate releases the lease."""
        if not candidate.ended:
            candidate.life.close()
            candidate.life = candidate.elector.release()
            candidate.stopping = True
            self._resume(candidate, candidate.life, None)

    def _resume(self, candidate: Candidate, life: Any, answer: Any) -> None:
        if candidate.ended or life is not candidate.life:
            return
        if candidate.stopped_until > self.time:
            self.at(candidate.stopped_until, lambda: self._resume(candidate, life, answer))
            return
        try:
            call = life.send(answer)
        except StopIteration:
            candidate.ended = True
            return
        if call.ask is None:
            self.at(self.time + call.seconds, lambda: self._resume(candidate, life, None))
            return
        self._request(candidate, life, call)

    def _request(self, candidate: Candidate, life: Any, call: Call) -> None:
        """Deliver a request. The server may process it long after the candidate's timeout."""
        fate = next(self._fates, Fate())
        times_out = self.time + call.seconds

        def arrive() -> None:
            assert call.ask is not None
            answer = call.ask()
            if self.time + fate.back < times_out:
                self.at(self.time + fate.back, lambda: self._resume(candidate, life, answer))

        if not fate.lost:
            self.at(self.time + fate.there, arrive)
        if fate.lost or fate.there + fate.back >= call.seconds:
            self.at(times_out, lambda: self._resume(candidate, life, LeaseUnavailable("no answer")))


SECONDS = st.one_of(st.just(0.01), st.floats(0, 0.2), st.floats(0, 30))
FATES = st.lists(st.builds(Fate, there=SECONDS, back=SECONDS, lost=st.booleans()), max_size=60)
EDITS: dict[str, Callable[[LeaseServer], object]] = {
    "delete": lambda server: setattr(server, "record", None),
    "empty": lambda server: server.record and server.put(replace(server.record, holder_identity="")),
    "garbage": lambda server: server.record and server.put(LeaseRecord("\x00garbage", -7)),
    "touch": lambda server: server.record and server.put(server.record),
    "swap": lambda server: server.record and server.put(replace(server.record, holder_identity="candidate-1")),
}
FAULTS = st.tuples(
    st.floats(0, 90), st.sampled_from(["pause", "kill", "terminate", *EDITS]), st.integers(0, 2), st.floats(0.1, 40)
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), FATES, st.lists(FAULTS, max_size=8))
@example([0, 0, 0], [], [(20.0, "pause", 0, 20.0), (20.0, "pause", 1, 20.0), (20.0, "pause", 2, 16.0)])
@example([0, 0, 0], [], [(20.0, "pause", 0, 20.0), (21.0, "terminate", 0, 1.0), (22.0, "kill", 0, 1.0)])
@example([0, 0, 0], [], [(20.0, "delete", 0, 1.0), (20.5, "delete", 0, 1.0), (21.0, "empty", 0, 1.0)])
def test_at_most_one_replica_may_write_at_any_time(
    offsets: list[float], fates: list[Fate], faults: list[tuple[float, str, int, float]]
) -> None:
    simulation = Simulation(offsets, fates)
    for when, fault, number, seconds in faults:
        candidate = simulation.candidates[number]
        match fault:
            case "pause":
                simulation.at(when, partial(simulation.pause, candidate, seconds))
            case "kill":
                simulation.at(when, partial(simulation.kill, candidate))
            case "terminate":
                simulation.at(when, partial(simulation.terminate, candidate))
            case _:
                simulation.at(when, partial(EDITS[fault], simulation.server))
    simulation.run(until=150)
    if any(not candidate.ended for candidate in simulation.candidates):
        # One of the remaining candidates leads in the end: there is no state of the record without a way out.
        simulation.run(until=simulation.time + 200)
        assert sum(candidate.may_write() for candidate in simulation.candidates) == 1 or all(
            candidate.ended for candidate in simulation.candidates
        )


def led(simulation: Simulation) -> Candidate:
    [leader] = [candidate for candidate in simulation.candidates if candidate.may_write()]
    return leader


def started() -> tuple[Simulation, Candidate]:
    """Return a simulation of three candidates, and the one that leads."""
    simulation = Simulation([0, 600, -600], [])
    simulation.run(until=20)
    return simulation, led(simulation)


def test_first_leader_keeps_leading() -> None:
    simulation, leader = started()
    simulation.run(until=600)
    assert led(simulation) is leader
    assert [name for _, name, _ in simulation.leaders] == [leader.name]


def test_released_lease_is_taken_over_within_two_seconds_with_the_next_term() -> None:
    simulation, leader = started()
    simulation.terminate(leader)
    simulation.run(until=22)
    assert led(simulation) is not leader
    assert led(simulation).fence.term == leader.fence.term + 1


def test_lease_that_was_released_before_etcd_was_restored_is_not_taken_from_its_later_holder() -> None:
    simulation, former = started()
    simulation.terminate(former)
    released, moment = simulation.server.record, 20.0
    while released is None or not released.released:
        moment += 0.001
        simulation.run(until=moment)
        released = simulation.server.record
        assert moment < 30
    simulation.run(until=30)
    later = led(simulation)
    simulation.server.restore(released)
    simulation.run(until=60)  # checks after each event that only one may write
    assert led(simulation) is not later


def test_leader_goes_on_if_etcd_is_restored_to_an_earlier_renewal() -> None:
    simulation, leader = started()
    earlier = simulation.server.record
    assert earlier is not None
    simulation.run(until=60)
    simulation.server.restore(earlier)
    simulation.run(until=120)
    assert led(simulation) is leader


def test_killed_leader_is_replaced_only_after_the_lease_expired_and_within_17_seconds() -> None:
    simulation, leader = started()
    simulation.kill(leader)
    simulation.run(until=20 + LEASE_DURATION - 2.5)
    assert not any(candidate.may_write() for candidate in simulation.candidates)
    simulation.run(until=37)
    assert led(simulation).fence.term == leader.fence.term + 1


def test_suspended_leader_may_not_write_after_it_resumes() -> None:
    simulation, leader = started()
    simulation.pause(leader, 20)
    simulation.run(until=39.999)
    assert not leader.may_write()
    simulation.run(until=41)
    assert leader.ended
    assert led(simulation) is not leader


def test_leader_without_network_stops_before_the_lease_expires() -> None:
    simulation, leader = started()
    simulation._fates = itertools.repeat(Fate(lost=True))
    simulation.run(until=20 + LEASE_DURATION - 4)
    assert not leader.may_write()
    assert leader.ended


def test_late_answer_to_a_renewal_counts_from_when_the_request_was_sent() -> None:
    simulation, leader = started()
    simulation._fates = itertools.chain([Fate(back=3) for _ in range(6)], itertools.repeat(Fate()))
    for step in range(6):  # the last request is answered while the process is suspended
        simulation.at(23.5 + step / 100, lambda: simulation.pause(leader, 20))
    simulation.run(until=60)
    assert leader.ended
    assert led(simulation) is not leader


def test_leader_stays_if_one_answer_to_its_renewal_is_lost() -> None:
    simulation, leader = started()
    simulation._fates = itertools.chain([Fate(back=60) for _ in range(1)], itertools.repeat(Fate()))
    simulation.run(until=120)
    assert led(simulation) is leader


def test_leader_recovers_a_lease_that_was_deleted_or_emptied_by_hand() -> None:
    simulation, leader = started()
    for edit in ("delete", "empty", "touch"):
        EDITS[edit](simulation.server)
        simulation.run(until=simulation.time + 30)
        assert led(simulation) is leader
        assert simulation.server.record is not None
        assert simulation.server.record.holder_identity == leader.name


def test_invalid_lease_holder_ends_the_leadership_and_expires() -> None:
    simulation, leader = started()
    EDITS["garbage"](simulation.server)
    simulation.run(until=24)
    assert leader.ended
    simulation.run(until=24 + LEASE_DURATION + 3)
    assert led(simulation).fence.term == leader.fence.term + 1


def test_term_starts_over_after_the_largest_number() -> None:
    simulation, _ = started()
    simulation.server.put(LeaseRecord("another", 2**31 - 1))
    simulation.run(until=60)
    assert led(simulation).fence.term == 1
