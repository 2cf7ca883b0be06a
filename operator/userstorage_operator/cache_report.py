"""`userstorage-operator cache`: shows the contents of Redis, compared with the cluster."""

import asyncio
import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import Any

import click

from userstorage_operator.api.errors import OperatorError
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.kube.client import KubeClient, NoopObserver
from userstorage_operator.kube.login import login
from userstorage_operator.readmodel.mirror_diff import MirrorDiff, compare
from userstorage_operator.redis_cache.codec import Codec
from userstorage_operator.redis_cache.connection import Connection, RedisUnavailable
from userstorage_operator.redis_cache.inspection import Inspected, inspect
from userstorage_operator.redis_cache.keys import Keys
from userstorage_operator.redis_cache.settings import RedisSettings

_TIMEOUT = 5.0
"""Timeout of Redis in seconds. A person can wait longer than the operator, and may have a slow connection to Redis."""
_ATTEMPTS = 3
_ATTEMPT_PERIOD = 1.0
"""Seconds between two attempts. An object may change after Redis and before the cluster is read, so only a difference in every
attempt is drift.
"""

_OPTION_HINTS = {
    "auth": "--redis-username, --redis-password-file: Redis refuses this user or password",
    "permission": "--redis-username: Redis does not permit this user to read the cache",
}
"""Kind of RedisUnavailable -> the option to check. All other kinds are about the connection: --redis-url."""


def show(output: str, redis: RedisSettings) -> None:
    """Print the report as `text` or `json`.

    Raises click's Exit with code 1 if Redis and cluster differ, or there is no mirror; ClickException if either does not answer.
    """
    try:
        found, drift = asyncio.run(_inspect(redis))
    except RedisUnavailable as error:
        raise click.ClickException(
            f"{_OPTION_HINTS.get(error.kind, '--redis-url: Redis does not answer')} ({error})"
        ) from error
    except OperatorError as error:
        raise click.ClickException(error.message) from error
    report = as_json(found, drift)
    click.echo(json.dumps(report, indent=2) if output == "json" else "\n".join(describe(report)))
    if drift or found.head is None:
        raise click.exceptions.Exit(1)


def as_json(found: Inspected, drift: MirrorDiff) -> dict[str, Any]:
    """Return the object that `-o json` prints. Ages are in seconds, UserStorages are written as namespace/name."""
    head = found.head
    hits, misses = found.lookups or (0, 0)
    return {
        "mirror": None
        if head is None
        else {
            "term": head.term,
            "complete": head.complete,
            "ageSeconds": round(found.head_age, 3),
            "namespaces": [scope for scope in head.scopes if scope is not None],
        },
        "keys": dict(sorted(found.keys.items())),
        "hitRatio": round(hits / (hits + misses), 4) if hits + misses else None,
        "summaries": {
            "count": len(found.summary_ages),
            "youngestSeconds": round(min(found.summary_ages, default=0.0), 3),
            "oldestSeconds": round(max(found.summary_ages, default=0.0), 3),
        },
        "rejected": dict(sorted(found.rejected.items())),
        "drift": {kind: [f"{key}" for key in getattr(drift, kind)] for kind in ("missing", "extra", "differing")},
    }


def describe(report: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the text output. `report` is the result of `as_json`."""
    if (mirror := report["mirror"]) is None:
        yield "mirror: none, or not valid; replicas read from the API server instead"
    else:
        state = "complete" if mirror["complete"] else "being filled"
        scope = ", ".join(mirror["namespaces"]) or "all namespaces"
        yield f"mirror of {scope}: {state}, written {mirror['ageSeconds']:.1f} s ago by the leader of term {mirror['term']}"
    yield f"keys: {sum(report['keys'].values())} ({_listed(report['keys'])})"
    ratio = report["hitRatio"]
    yield f"hit ratio of the whole Redis server: {'unknown' if ratio is None else f'{ratio:.1%}'}"
    summaries = report["summaries"]
    ages = f"{summaries['youngestSeconds']:.1f} to {summaries['oldestSeconds']:.1f}"
    yield f"summaries: {summaries['count']}, written {ages} s ago"
    if report["rejected"]:
        yield f"rejected values: {_listed(report['rejected'])}"
    drift = report["drift"]
    if not any(drift.values()):
        yield "drift: none, Redis agrees with the cluster"
    for kind, names in drift.items():
        for name in names:
            yield f"drift: {kind} {name}"


async def _inspect(settings: RedisSettings) -> tuple[Inspected, MirrorDiff]:
    """Read Redis, then the cluster. Return the contents of Redis, and the differences between Redis and the cluster."""
    connection = Connection(dataclasses.replace(settings, timeout=_TIMEOUT), _NoopObserver())
    client = KubeClient(await login(), NoopObserver())
    try:
        for attempt in range(_ATTEMPTS):
            await asyncio.sleep(_ATTEMPT_PERIOD if attempt else 0)
            found = await inspect(connection, Keys(settings.cluster_name), Codec(settings.signing_key()))
            scopes = found.head.scopes if found.head is not None else (None,)
            drift = compare(
                [raw for scope in scopes for raw in (await client.list_all(USER_STORAGES, scope))[0]], found.summaries
            )
            if not drift:
                break
        return found, drift
    finally:
        await client.close()
        await connection.close()


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


class _NoopObserver:
    """A RedisObserver that records nothing: a command that runs once has no metrics."""

    def redis_labels(self, kinds: Iterable[str], states: Iterable[str]) -> None:
        """Ignore the label values: a command that runs once has no metrics."""

    def redis_answered(self, seconds: float) -> None:
        """Ignore the duration of a call to Redis: a command that runs once has no metrics."""

    def redis_failed(self, kind: str) -> None:
        """Ignore the kind of a failure: a command that runs once has no metrics."""

    def redis_breaker(self, state: str) -> None:
        """Ignore the state of the circuit breaker: a command that runs once has no metrics."""
