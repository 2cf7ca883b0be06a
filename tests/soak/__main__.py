"""`make soak`: hours of changes and faults around one operator process, and what becomes of it.

A control plane with kwok, in a directory of its own. Users are created, changed, suspended, paused, broken, deleted and created
again, classes are rolled out, other clients delete and edit children, while faults of the API server and of Redis come and go. The
process is never restarted. Every version of every object is judged; at the end the faults stop, and all must become as a fresh
creation would be. Memory, descriptors, threads, tasks and the age of the queue are drawn, beside a table in tests/faults/results.
"""

import argparse
import asyncio
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from localcluster.addresses import free_port
from soak.churn import Churn, create_classes, keeps_files
from soak.disturbances import Disturbances
from soak.result import Result
from support import faultproxy
from support.control_plane import ControlPlane
from support.crashes import CANARY, NAMESPACES, create_canaries, is_settled
from support.faultproxy import FaultProxy
from support.live import Live, condition_of, open_live
from support.operator_account import changing_owners, log_in
from support.operator_process import OperatorProcess
from support.oracles import History, differences, end_state, recording, violations
from support.oracles.invariants import claim_deletions, writes_to
from testservers.redis import RedisServer
from userstorage_operator.api import names
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.observed.snapshot import controller_uid

RESULTS = Path(__file__).parents[1] / "faults/results"
CHURNED, FRESH = "churned", "fresh"
"""Namespaces."""
SAMPLE_PERIOD, JUDGE_PERIOD = 10.0, 240.0
LAG_SECONDS = 5.0
"""After which the recording has seen what the API server had before."""
SETTLE_SECONDS, QUIET_SECONDS = 600.0, 60.0


class Soak:
    """An operator, and everything that disturbs and judges it."""

    def __init__(self, live: Live, proxy: FaultProxy, redis: RedisServer, chosen: argparse.Namespace) -> None:
        self._live = live
        self._proxy = proxy
        self._minutes: float = chosen.minutes
        self._pause = 1 / chosen.rate
        self._chance = random.Random(chosen.seed)  # noqa: S311  # so that a run can be repeated
        self._churn = Churn(live, chosen.users, self._chance)
        self._disturbances = Disturbances(proxy, redis, random.Random(chosen.seed + 1))  # noqa: S311  # likewise
        options = f"--minutes {chosen.minutes:g} --users {chosen.users} --rate {chosen.rate:g} --seed {chosen.seed}"
        self.result = Result(datetime.now(UTC), options, min(30.0, chosen.minutes / 3))
        self.result.changes, self.result.faults = self._churn.counts, self._disturbances.counts

    async def run(self, pid: int, port: int) -> None:
        """Change, disturb, sample and judge for the chosen time; then let the world settle, and judge what it has become."""
        await create_canaries(self._live)
        async with recording(self._live) as history:
            meanwhile = [asyncio.create_task(self._disturbances.run()), asyncio.create_task(self._sample(pid, port))]
            started = judged = time.monotonic()
            while (now := time.monotonic()) < started + self._minutes * 60 and not any(task.done() for task in meanwhile):
                if now > judged + JUDGE_PERIOD:
                    await self._judge(history)
                    judged = now
                await self._churn.act()
                await asyncio.sleep(self._chance.uniform(0.5, 1.5) * self._pause)
            for task in meanwhile:
                task.cancel()
            ended = await asyncio.gather(*meanwhile, return_exceptions=True)
            failures = [error for error in ended if not isinstance(error, asyncio.CancelledError)]
            assert not failures, failures
            await self._settle()
            await history.caught_up(self._live)
            await self._judge(history)
        await self._check_silence()
        await self._check_garbage()
        await self._compare_with_fresh()

    async def _sample(self, pid: int, port: int) -> None:
        started = time.monotonic()
        while True:
            await asyncio.to_thread(self.result.samples.take, pid, port, (time.monotonic() - started) / 60)
            await asyncio.sleep(SAMPLE_PERIOD)

    async def _judge(self, history: History) -> None:
        """Judge every version and request up to now, and forget them."""
        revision = await self._live.client.latest_version(USER_STORAGES, self._live.namespace)
        await asyncio.sleep(LAG_SECONDS)
        requests, self._proxy.requests = self._proxy.requests, []
        judged = history.until(revision)
        found = await asyncio.to_thread(violations, judged, requests, deletes_claims=True)
        found += [*claim_deletions(requests), *writes_to(requests, [CANARY]), *_lost_files(judged)]
        history.forget(revision)
        self.result.violations += found
        self.result.writes += sum(request.is_write for request in requests)

    async def _settle(self) -> None:
        """Take back what keeps users from being Ready, and wait until all are. Record those that are not."""
        await self._churn.calm()

        async def unsettled() -> list[str]:
            return [
                f"{raw['metadata']['name']}: {condition_of(raw, 'Ready')}, deleted at {raw['metadata'].get('deletionTimestamp')}"
                for raw in await self._live.all()
                if not is_settled(raw)
            ]

        async def is_over() -> bool:
            return not await unsettled()

        with suppress(AssertionError):
            await self._live.until(is_over, SETTLE_SECONDS)
        self.result.violations += [f"not Ready at the end: {text}" for text in await unsettled()]

    async def _check_silence(self) -> None:
        """Record every write of a minute in which nothing happens."""
        before = len(self._proxy.requests)
        await asyncio.sleep(QUIET_SECONDS)
        writes = self._proxy.writes(before)
        self.result.violations += [f"written in steady state: {request.what} {request.name}" for request in writes]

    async def _compare_with_fresh(self) -> None:
        """Record how the users and their children differ from those of new users with the same spec."""
        client = self._live.client
        await client.create(NAMESPACES, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": FRESH}})
        fresh = Live(client, FRESH)
        await fresh.until_pods_are_admitted()
        users = await self._live.all()
        for raw in users:
            meta = {key: raw["metadata"][key] for key in ("name", "annotations") if key in raw["metadata"]}
            body = {"apiVersion": raw["apiVersion"], "kind": raw["kind"], "metadata": meta, "spec": raw["spec"]}
            await client.create(USER_STORAGES, FRESH, body)

        async def are_settled() -> bool:
            return all(is_settled(raw) for raw in await fresh.all())

        with suppress(AssertionError):
            await fresh.until(are_settled, SETTLE_SECONDS)
        users_left = {raw["metadata"]["name"] for raw in users}
        expected, ended = [
            {name: _comparable(text, live) for name, text in (await end_state(live, generations=False)).items()}
            for live in (fresh, self._live)
        ]
        ended = {name: text for name, text in ended.items() if _user(name) in users_left}
        self.result.violations += [f"differs from a fresh creation: {text}" for text in differences(expected, ended)]

    async def _check_garbage(self) -> None:
        """Record children whose UserStorage is gone; those that a deletion has orphaned may stay, and claims."""
        owners = {raw["metadata"]["uid"] for raw in await self._live.all()}
        for kind in (Kind.NETWORK_POLICY, Kind.SERVICE, Kind.POD, Kind.INGRESS):
            for child in (await self._live.client.list_all(kind.resource, self._live.namespace))[0]:
                if child["metadata"]["name"] != CANARY and controller_uid(child) not in (None, *owners):
                    self.result.violations.append(f"left over: {kind.name} {child['metadata']['name']}")


def _comparable(text: str, live: Live) -> str:
    """Return an object of `end_state` without what differs between namespaces, and without the deletion of a policy that its pod
    holds.
    """
    text = re.sub(rf'("{names.ANNOTATION_EXPOSURE_HASH}": )"[^"]*"', r'\1"masked"', text)
    return text.replace(live.namespace, "NAMESPACE").replace('"deletionGracePeriodSeconds": 0, ', "")


def _user(name: str) -> str:
    """Return the user of a child, of which `name` is kind and name."""
    return name.rpartition("/")[2].removeprefix("user-storage-")


def _lost_files(history: History) -> list[str]:
    """Check I3: no claim is deleted whose user keeps the files."""
    return [
        f"revision {change.revision}: claim {change.name} is deleted"
        for change in history.in_order()
        if change.resource == Kind.PVC.resource.plural
        and change.name != CANARY
        and keeps_files(_user(change.name))
        and (change.type == "DELETED" or "deletionTimestamp" in change.raw["metadata"])
    ]


@contextmanager
def environment(directory: Path) -> Iterator[tuple[FaultProxy, RedisServer, OperatorProcess, int]]:
    """Start everything but the operator, whose metrics will be on the port."""
    control_plane, redis = ControlPlane(directory / "cluster"), RedisServer(directory / "redis").start()
    try:
        kubectl = control_plane.kubectl
        kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CHURNED}})
        os.environ["KUBECONFIG"] = str(kubectl.kubeconfig)
        login, port = log_in(kubectl, directory), free_port()
        with changing_owners(kubectl), faultproxy.running(login.kubeconfig, directory) as proxy:
            options = f"--http-port={port}", "--sweep-period=60", f"--redis-url={redis.url}"
            operator = OperatorProcess(proxy.kubeconfig, directory / "operator.log", *options)
            try:
                yield proxy, redis, operator, port
            finally:
                operator.stop()
    finally:
        redis.stop()
        control_plane.stop()


async def soak(directory: Path, chosen: argparse.Namespace) -> Result:
    """Run a soak, and return its result."""
    with environment(directory) as (proxy, redis, operator, port):
        async with open_live(CHURNED) as live:
            await create_classes(live)
            operator.start()
            soak = Soak(live, proxy, redis, chosen)
            await soak.run(operator.pid, port)
            found = soak.result.violations
            if operator.exit_code() is not None:
                found.append("the operator has exited")
            with operator.log.open() as log:
                found += [f"logged: {line[:500]}" for line in log if "InternalError" in line or "Traceback" in line]
            found += soak.result.samples.since(soak.result.warm_up).growth()
            return soak.result


def main() -> int:
    """Return 0 if all invariants held, else 1."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes", type=float, default=120, help="of changes and faults, at most 200: a login lasts four hours"
    )
    parser.add_argument("--users", type=int, default=40)
    parser.add_argument("--rate", type=float, default=0.5, help="changes a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory of soak.md, soak.json and soak.png")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        result = asyncio.run(soak(Path(directory), chosen))
        sys.stdout.write(result.write(chosen.results))
    return int(bool(result.violations))


if __name__ == "__main__":
    sys.exit(main())
