"""kopf, kept for what it is good at: login, discovery and list-watch-reconnect of our own two kinds.

Its handlers decide nothing: an event goes into the cache, the cache asks for a pass where that is news.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import kopf

from userstorage_operator.api import names
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES, Resource
from userstorage_operator.informers.object_cache import ObjectCache
from userstorage_operator.informers.watch_liveness import WatchLiveness
from userstorage_operator.runtime.credentials import Credentials


async def run(
    login: Callable[[], Awaitable[Credentials]],
    caches: dict[Resource, ObjectCache],
    namespaces: Iterable[str],
    liveness: Iterable[WatchLiveness],
    stop: asyncio.Event,
    ending: Callable[[], Awaitable[None]],
) -> None:
    """Watch until SIGTERM, SIGINT or `stop`. `namespaces` empty means all. `ending` is called when watching is over.

    Start everything else first: kopf ends every task that was created after it when it ends itself.
    """
    registry = kopf.OperatorRegistry()
    register(registry, login, caches, liveness)

    @kopf.on.cleanup(registry=registry, id="cleanup")
    async def end(**_: Any) -> None:
        stop.set()  # after a signal kopf waits five seconds for its own task that waits for this event
        await ending()  # and as long for every connection to our HTTP server: nobody else should wait for that

    chosen = list(namespaces)
    await kopf.operator(
        registry=registry,
        settings=settings(),
        standalone=True,
        # For its own election, which is off. Else it asks for the name of our user, and in a container that has none.
        identity="userstorage-operator",  # type: ignore[arg-type]  # a NewType of str that kopf does not export
        clusterwide=not chosen,
        namespaces=chosen,
        stop_flag=stop,
    )


def register(
    registry: kopf.OperatorRegistry,
    login: Callable[[], Awaitable[Credentials]],
    caches: dict[Resource, ObjectCache],
    liveness: Iterable[WatchLiveness],
) -> None:
    """Handlers with ids of their own: kopf would make them from function names, which change."""

    @kopf.on.login(registry=registry, id="login")
    async def log_in(**_: Any) -> kopf.AiohttpSession:
        found = await login()
        info = kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_path,
            certificate_path=found.certificate_path,
            private_key_path=found.private_key_path,
            token=found.token,
            insecure=found.insecure,
        )
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
            headers=info.as_http_headers(),
            middlewares=tuple(watch.look_on for watch in liveness),
        )
        return _Session(server=found.server, aiohttp_session=session, login=info)

    for resource in (USER_STORAGES, USER_STORAGE_CLASSES):

        @kopf.on.event(resource.group, resource.version, resource.plural, registry=registry, id=resource.plural)
        async def take_in(event: Any, cache: ObjectCache = caches[resource], **_: Any) -> None:
            # kopf marks what it listed with type None; to a level-triggered reader it is there, and that is all.
            cache.event(event["type"] or "ADDED", event["object"])


def settings() -> kopf.OperatorSettings:
    """Kopf's settings, each with the reason why it is not the default."""
    chosen = kopf.OperatorSettings()
    chosen.peering.standalone = True  # equal priorities freeze each other; election is ours
    chosen.posting.enabled = False  # its events repeat log lines; ours tell of conditions
    chosen.scanning.disabled = True  # else it wants to list every CRD and namespace of the cluster
    chosen.persistence.diffbase_storage = _NoDiffBase()  # the default copies every object of every event
    chosen.persistence.progress_storage = _NoProgress()  # nothing is kept on the object: events need no progress
    chosen.persistence.finalizer = f"{names.GROUP}/kopf"  # never set; must not be the finalizer that we set
    chosen.watching.chunk_size = 100  # the default takes all objects at once, of whatever size tenants made them
    chosen.networking.request_timeout = 15  # the default of five minutes outlives every probe
    chosen.networking.error_backoffs = _EndlessBackoffs()  # the default gives up, and the process with it
    chosen.queueing.idle_timeout = 0.5  # a task per object lives this long after its last event
    chosen.queueing.exit_timeout = 0.5  # nothing waits in its queues that the next start does not see again
    chosen.process.ultimate_exiting_timeout = 25  # below the grace period of the operator's own pod
    return chosen


@dataclass(frozen=True, kw_only=True)
class _Session(kopf.AiohttpSession):
    """A session that equals every other of the same login: so kopf knows one that the API server has refused."""

    aiohttp_session: aiohttp.ClientSession = field(compare=False)
    login: kopf.ConnectionInfo


class _EndlessBackoffs:
    """Seconds between tries: growing to 20, with jitter, for ever."""

    def __iter__(self) -> Iterator[float]:
        longest = 1.0
        while True:
            yield random.uniform(0.5, 1) * longest  # noqa: S311  # jitter, not a secret
            longest = min(20.0, longest * 2)


class _NoDiffBase(kopf.DiffBaseStorage):
    """Remembers nothing: `on.event` handlers are shown no differences."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:  # noqa: ARG002  # kopf's signature
        return {}

    def fetch(self, *, body: Any) -> Any:  # noqa: ARG002  # kopf's signature
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        pass


class _NoProgress(kopf.ProgressStorage):
    """Remembers nothing: there are no handlers that could be half done."""

    def fetch(self, *, key: Any, body: Any) -> Any:  # noqa: ARG002  # kopf's signature
        return None

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        pass

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        pass

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:
        pass

    def clear(self, *, essence: Any) -> Any:
        return essence
