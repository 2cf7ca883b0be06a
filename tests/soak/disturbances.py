"""Faults that come and go in a soak: of the API server as the operator sees it, and of Redis."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from support.faultproxy import Effect, Fault, FaultProxy
from testservers.redis import RedisServer

_PAUSE, _DURATION = (10.0, 30.0), (1.0, 8.0)
"""Seconds."""
_CHILDREN = "pods|services|networkpolicies|persistentvolumeclaims"
_WATCHES = 12
"""At least as many as the operator has."""


class Disturbances:
    """One fault at a time, chosen at random."""

    def __init__(self, proxy: FaultProxy, redis: RedisServer, chance: random.Random) -> None:
        self._proxy = proxy
        self._redis = redis
        self._chance = chance
        self.counts: Counter[str] = Counter()
        self._faults: dict[str, Callable[[float], Awaitable[None]]] = {
            "watches cut": self._cut_watches,
            "watches expired": lambda seconds: self._rules(
                seconds, Fault(verb="watch", status=410, effect=Effect.ERROR_EVENT, times=_WATCHES), hang_up=True
            ),
            "watches stalled": lambda seconds: self._rules(seconds, Fault(verb="watch", effect=Effect.STALL)),
            "events lost": lambda seconds: self._rules(
                seconds, Fault(verb="watch", resource=_CHILDREN, effect=Effect.SUPPRESS)
            ),
            "events repeated": lambda seconds: self._rules(seconds, Fault(verb="watch", effect=Effect.REPEAT)),
            "lists of the past": self._replay,
            "lists refused (500)": lambda seconds: self._rules(seconds, Fault(verb="list", status=500), hang_up=True),
            "writes refused (503)": lambda seconds: self._rules(seconds, Fault(writes_only=True)),
            "writes throttled (429)": lambda seconds: self._rules(seconds, Fault(writes_only=True, status=429, retry_after=1)),
            "writes in conflict (409)": lambda seconds: self._rules(seconds, Fault(verb="patch|update", status=409)),
            "answers to writes lost": lambda seconds: self._rules(
                seconds, Fault(writes_only=True, effect=Effect.DROP, after=True)
            ),
            "requests slow": lambda seconds: self._rules(seconds, Fault(effect=Effect.DELAY, seconds=1)),
            "no answer": self._cut_off,
            "Redis stopped": self._stop_redis,
            "Redis suspended": self._suspend_redis,
            "Redis emptied": self._empty_redis,
        }

    async def run(self) -> None:
        """Let faults come and go until the task is cancelled."""
        self._proxy.keep_lists()
        try:
            while True:
                await asyncio.sleep(self._chance.uniform(*_PAUSE))
                name = self._chance.choice(sorted(self._faults))
                await self._faults[name](self._chance.uniform(*_DURATION))
                self.counts[name] += 1
        finally:
            self._proxy.fail()
            self._proxy.hang_up()
            self._proxy.freeze_lists()

    async def _rules(self, seconds: float, *faults: Fault, hang_up: bool = False) -> None:
        self._proxy.fail(*faults)
        if hang_up:
            self._proxy.hang_up()
        await asyncio.sleep(seconds)
        self._proxy.fail()

    async def _cut_watches(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self._proxy.hang_up()
            await asyncio.sleep(1)

    async def _cut_off(self, seconds: float) -> None:
        await self._rules(seconds, Fault(verb="watch", effect=Effect.STALL), Fault(effect=Effect.HANG))
        self._proxy.hang_up()

    async def _replay(self, seconds: float) -> None:
        expired = Fault(verb="watch", status=410, effect=Effect.ERROR_EVENT, times=_WATCHES)
        self._proxy.freeze_lists()
        await self._rules(seconds, Fault(verb="list", effect=Effect.REPLAY), expired, hang_up=True)
        self._proxy.keep_lists()

    async def _stop_redis(self, seconds: float) -> None:
        await asyncio.to_thread(self._redis.stop)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._redis.start()

    async def _suspend_redis(self, seconds: float) -> None:
        self._redis.pause()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._redis.resume()

    async def _empty_redis(self, _: float) -> None:
        await asyncio.to_thread(self._redis.cli, "flushall")
