"""`kubectl userstorage cache`: what Redis holds, and whether it is what the cluster says."""

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
from userstorage_operator.redis_options import redis_options

_TIMEOUT = 5.0
"""Seconds: a person waits longer than the operator does, and may be far away from Redis."""
_LOOKS = 3
_BETWEEN_LOOKS = 1.0
"""Seconds. What changes while it is looked at is no drift: that is what is still there at the last look."""

_OPTION = {
    "auth": "--redis-username, --redis-password-file: Redis does not let this user in",
    "permission": "--redis-username: this user may not do that",
}
"""Kind of trouble -> what to look at. All others are about the way to Redis."""


@click.command()
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print it.")
@redis_options
def cache(output: str, redis: RedisSettings | None) -> None:
    """Say what Redis holds and compare it with the cluster. Exit code 1: it differs, or there is no mirror."""
    if redis is None:
        raise click.UsageError("--redis-url: missing")
    try:
        found, drift = asyncio.run(_inspect(redis))
    except RedisUnavailable as error:
        raise click.ClickException(f"{_OPTION.get(error.kind, '--redis-url: Redis does not answer')} ({error})") from error
    except OperatorError as error:
        raise click.ClickException(error.message) from error
    told = as_json(found, drift)
    click.echo(json.dumps(told, indent=2) if output == "json" else "\n".join(describe(told)))
    if drift or found.head is None:
        raise click.exceptions.Exit(1)


def as_json(found: Inspected, drift: MirrorDiff) -> dict[str, Any]:
    """What `-o json` prints: ages in seconds, names as namespace/name."""
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
        "views": {
            "count": len(found.summary_ages),
            "youngestSeconds": round(min(found.summary_ages, default=0.0), 3),
            "oldestSeconds": round(max(found.summary_ages, default=0.0), 3),
        },
        "rejected": dict(sorted(found.rejected.items())),
        "drift": {kind: [f"{key}" for key in getattr(drift, kind)] for kind in ("missing", "extra", "differing")},
    }


def describe(told: dict[str, Any]) -> Iterator[str]:
    """The same in words."""
    if (mirror := told["mirror"]) is None:
        yield "mirror: there is none, or none that can be believed; replicas ask the API server"
    else:
        state = "complete" if mirror["complete"] else "being filled"
        where = ", ".join(mirror["namespaces"]) or "all namespaces"
        yield f"mirror: {state}, written {mirror['ageSeconds']:.1f} s ago by the leader of term {mirror['term']}, of {where}"
    yield f"keys: {sum(told['keys'].values())} ({_listed(told['keys'])})"
    ratio = told["hitRatio"]
    yield f"lookups that found a key, on the whole server: {'unknown' if ratio is None else f'{ratio:.1%}'}"
    views = told["views"]
    yield f"views: {views['count']}, written {views['youngestSeconds']:.1f} to {views['oldestSeconds']:.1f} s ago"
    if told["rejected"]:
        yield f"rejected: {_listed(told['rejected'])}"
    drift = told["drift"]
    if not any(drift.values()):
        yield "drift: none, the cluster says the same"
    for kind, names in drift.items():
        for name in names:
            yield f"drift: {kind} {name}"


async def _inspect(settings: RedisSettings) -> tuple[Inspected, MirrorDiff]:
    """Redis, and the cluster right after it."""
    connection = Connection(dataclasses.replace(settings, timeout=_TIMEOUT), _NoopObserver())
    client = KubeClient(await login(), NoopObserver())
    try:
        for look in range(_LOOKS):
            await asyncio.sleep(_BETWEEN_LOOKS if look else 0)
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
    """Satisfies StoreObserver: a command that runs once has nobody to count for."""

    def redis_labels(self, kinds: Iterable[str], states: Iterable[str]) -> None:
        """Nothing to do."""

    def redis_answered(self, seconds: float) -> None:
        """Nothing to do."""

    def redis_failed(self, kind: str) -> None:
        """Nothing to do."""

    def redis_breaker(self, state: str) -> None:
        """Nothing to do."""
