"""Run kopf: it logs in, discovers our own two kinds, list-watches them, and reconnects.

The handlers decide nothing: they hand each event to the cache, and the cache requests a reconcile if the event is new to it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import kopf
from kopf._core.reactor.inventory import (  # a parameter of kopf.operator() that kopf does not export
    ResourceMemories,
    ResourceMemory,
)

from userstorage_operator.api import names
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES, Resource
from userstorage_operator.informers.object_cache import ObjectCache
from userstorage_operator.runtime.credentials import Credentials


async def run(
    login: Callable[[], Awaitable[Credentials]],
    caches: dict[Resource, ObjectCache],
    namespaces: Iterable[str],
    middlewares: Sequence[aiohttp.ClientMiddlewareType],
    stop: asyncio.Event,
    on_stop: Callable[[], Awaitable[None]],
) -> None:
    """Watch our two kinds until SIGTERM, SIGINT or `stop`; all namespaces if `namespaces` is empty. kopf then calls `on_stop`.

    `middlewares` see each request of kopf, the first of them first.

    When kopf shuts down, it waits five seconds for the tasks that were created after it, and then cancels them: `on_stop` should end
    them.
    """
    registry = kopf.OperatorRegistry()
    register(registry, login, caches, middlewares)

    @kopf.on.cleanup(registry=registry, id="cleanup")
    async def clean_up(**_: Any) -> None:
        stop.set()  # kopf has a task that waits for this event; after a signal it would wait five seconds for that task
        # At once: our HTTP server waits for open connections as long, and no other replica should have to wait for that.
        await on_stop()

    watched = list(namespaces)
    await kopf.operator(
        registry=registry,
        settings=settings(),
        memories=_NoMemories(),
        standalone=True,
        # For kopf's own election, which is off. By default kopf looks up the name of the process's user; in a container it has none.
        identity="userstorage-operator",  # type: ignore[arg-type]  # a NewType of str that kopf does not export
        clusterwide=not watched,
        namespaces=watched,
        stop_flag=stop,
    )


def register(
    registry: kopf.OperatorRegistry,
    login: Callable[[], Awaitable[Credentials]],
    caches: dict[Resource, ObjectCache],
    middlewares: Sequence[aiohttp.ClientMiddlewareType],
) -> None:
    """Register the handlers for login and events, with ids: kopf would derive these from function names, which change."""

    @kopf.on.login(registry=registry, id="login")
    async def log_in(**_: Any) -> kopf.AiohttpSession:
        credentials = await login()
        info = kopf.ConnectionInfo(
            server=credentials.server,
            ca_path=credentials.ca_path,
            certificate_path=credentials.certificate_path,
            private_key_path=credentials.private_key_path,
            token=credentials.token,
            insecure=credentials.insecure,
        )
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
            headers=info.as_http_headers(),
            middlewares=middlewares,
        )
        return _Session(server=credentials.server, aiohttp_session=session, login=info)

    for resource in (USER_STORAGES, USER_STORAGE_CLASSES):

        @kopf.on.event(resource.group, resource.version, resource.plural, registry=registry, id=resource.plural)
        async def apply(event: Any, cache: ObjectCache = caches[resource], **_: Any) -> None:
            cache.event(event["type"], event["object"])


def settings() -> kopf.OperatorSettings:
    """Return the settings of kopf. A comment says why each differs from kopf's default."""
    chosen = kopf.OperatorSettings()
    chosen.peering.standalone = True  # operators with equal priorities pause each other; we elect with a Lease
    chosen.posting.enabled = False  # its Events repeat log lines; ours report conditions
    chosen.scanning.disabled = True  # otherwise kopf lists all CRDs and namespaces of the cluster
    chosen.persistence.diffbase_storage = _NoDiffBase()  # the default copies the object on each event
    chosen.persistence.progress_storage = _NoProgress()  # event handlers have no progress to store on the object
    chosen.persistence.finalizer = f"{names.GROUP}/kopf"  # never set; must differ from the finalizer that we set
    chosen.networking.request_timeout = 15  # the default of five minutes exceeds the limit of every probe
    chosen.networking.error_backoffs = _EndlessBackoffs()  # the default gives up, and the process exits
    chosen.queueing.idle_timeout = 0.5  # a task per object lives this long after its last event
    chosen.queueing.exit_timeout = 0.5  # events that are left in its queues are not lost: the next start lists everything
    chosen.process.ultimate_exiting_timeout = 25  # below the grace period of the operator's pod
    return chosen


@dataclass(frozen=True, kw_only=True)
class _Session(kopf.AiohttpSession):
    """Equal to every other session with the same login, so that kopf recognises a login that the API server has rejected."""

    aiohttp_session: aiohttp.ClientSession = field(compare=False)
    login: kopf.ConnectionInfo


class _EndlessBackoffs:
    """Seconds between retries: an endless sequence that grows to 20, with jitter."""

    def __iter__(self) -> Iterator[float]:
        limit = 1.0
        while True:
            yield random.uniform(0.5, 1) * limit  # noqa: S311  # jitter
            limit = min(20.0, limit * 2)


class _NoMemories(ResourceMemories):
    """Remembers nothing of an object between its events: kopf would keep 1.3 KiB, for handlers that we do not have."""

    async def recall(self, raw_body: Any, *, ephemeral: bool = True, **options: Any) -> ResourceMemory:  # noqa: ARG002  # kopf's signature
        return await super().recall(raw_body, ephemeral=True, **options)


class _NoDiffBase(kopf.DiffBaseStorage):
    """A kopf diffbase storage that stores nothing: `on.event` handlers get no diff."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:  # noqa: ARG002  # kopf's signature
        return {}

    def fetch(self, *, body: Any) -> Any:  # noqa: ARG002  # kopf's signature
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        pass


class _NoProgress(kopf.ProgressStorage):
    """A kopf progress storage that stores nothing: our handlers only fill a cache, so none is ever resumed."""

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
