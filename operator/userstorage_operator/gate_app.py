"""The composition root of the gate: its watch, its table, and its two ports."""

import asyncio
import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import structlog

from userstorage_operator.api import names
from userstorage_operator.api.errors import NotFound, OperatorError
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.background import background, stop_on_signals
from userstorage_operator.gate.check import SETTLING, Reason
from userstorage_operator.gate.credentials import BadKeys, parse_keys
from userstorage_operator.gate.dialects import DIALECTS
from userstorage_operator.gate.door import Door
from userstorage_operator.gate.table import Table, slim
from userstorage_operator.informers.cached_object import ObjectKey
from userstorage_operator.informers.informer import Informer
from userstorage_operator.informers.object_cache import ObjectCache
from userstorage_operator.kube.client import WATCH_SILENCE, KubeClient
from userstorage_operator.kube.login import login
from userstorage_operator.runtime.connections import Limits
from userstorage_operator.runtime.event_loop_monitor import EventLoopMonitor
from userstorage_operator.runtime.garbage_collection import collect_periodically
from userstorage_operator.runtime.gate_metrics import GateMetrics
from userstorage_operator.runtime.http import HandlerServer, HttpServer
from userstorage_operator.runtime.metrics import CONTENT_TYPE

log = structlog.get_logger(__name__)

_KEY_PERIOD = 60.0
"""Seconds after which the key file is read again."""
_CHUNK = 10
"""Number of rows that are built in a row after a change of a class."""
_LOOP_LAG = 60.0
"""Seconds for which the event loop may have been late before a restart of the process is the better choice."""
_DRAIN = 10.0
"""Seconds for which a gate that stops waits for the next question on each connection, before it closes it."""
_LIMITS = Limits(
    connections=1024,
    per_address=512,  # all questions come from a few login proxies
    request_bytes=32 * 1024,  # nginx passes on up to 32 KiB of headers, and cookies of logins are large
    request_seconds=5.0,
    idle_seconds=120.0,  # longer than a Go client keeps an idle connection: closing under a POST would fail it
)


@dataclass(frozen=True, slots=True)
class GateConfig:
    """Settings of `userstorage-operator gate`."""

    key_file: Path
    """File with the keys that prove a question."""
    namespaces: tuple[str, ...] = ()
    """Namespaces whose UserStorages the gate knows; empty for all."""
    port: int = 8444
    """Port of the door."""
    http_port: int = 8080
    """Port of /health, /ready and /metrics."""
    max_age: float = 900.0
    """Seconds without a word of the API server after which the gate refuses every request."""


class KeyFile:
    """The keys in a file, which is read again from time to time: a Secret that is rotated changes in place."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises OperatorError if it has no usable key."""
        self._path = path
        try:
            self.keys = self._read()
        except (OSError, BadKeys) as error:
            raise OperatorError(f"--key-file {path}: {error}", "InvalidOption") from error

    def _read(self) -> tuple[bytes, ...]:
        try:
            return parse_keys(self._path.read_text(encoding="ascii"))
        except UnicodeDecodeError:
            raise BadKeys("not a text of ASCII characters") from None

    async def run(self) -> None:
        """Read the file every minute until cancelled. If it is unusable, the keys stay as they are."""
        while True:
            await asyncio.sleep(_KEY_PERIOD)
            try:
                keys = self._read()
            except (OSError, BadKeys) as error:
                log.warning("gate_keys_unreadable", error_kind=type(error).__name__, error=str(error))
                continue
            if keys != self.keys:
                log.info("gate_keys_changed")
                self.keys = keys


class GateClient(KubeClient):
    """A client of the API server that needs no right but to list and to watch."""

    async def current(self, resource: Resource, namespace: str | None, name: str) -> Unstructured:
        """Return the object as etcd has it now. Raises NotFound if it does not exist."""
        found, _ = await self.list_all(resource, namespace, fields=f"metadata.name={name}")
        if not found:
            raise NotFound(404, f"{resource.plural} {name!r} does not exist")
        return found[0]


class GateWatch:
    """Keeps the table up to date by list-watches of UserStorages and UserStorageClasses."""

    def __init__(self, client: GateClient, scopes: tuple[str | None, ...]) -> None:
        self.table = Table()
        self._scopes = scopes
        self._classes = ObjectCache(lambda _: None)
        self._storages = ObjectCache(lambda _: None, keep=slim)
        self._clock = asyncio.get_running_loop().time
        self._class_changed = asyncio.Event()
        self._user_facing: dict[str, object] = {}
        self._classes.add_event_handler(self._on_class)
        self._storages.add_event_handler(self._on_storage)
        self.informers = [
            Informer(client, USER_STORAGE_CLASSES, None, "", self._classes),
            *(Informer(client, USER_STORAGES, scope, "", self._storages) for scope in scopes),
        ]

    def not_synced(self) -> Iterator[str]:
        """Yield a text such as `userstorages in team-b` for each list that is not complete yet."""
        for resource, cache, scopes in (
            (USER_STORAGE_CLASSES, self._classes, (None,)),
            (USER_STORAGES, self._storages, self._scopes),
        ):
            yield from map(resource.within, cache.namespaces_not_synced(scopes))

    def age(self) -> float:
        """Return for how many seconds the watch that is silent for longest has been so."""
        return max(informer.silent_for() for informer in self.informers)

    async def run_classes(self) -> None:
        """Build all rows again whenever a class has changed, until cancelled."""
        while True:
            await self._class_changed.wait()
            await self.rebuild()

    async def rebuild(self) -> None:
        """Build all rows again. The event loop gets its turn every few rows."""
        self._class_changed.clear()
        self.table.classes_changed()
        keys = [(raw["metadata"]["namespace"], raw["metadata"]["name"]) for raw in self._storages.values()]
        for number, key in enumerate(keys):
            self._on_storage(key, self._storages.get(*key))
            if number % _CHUNK == 0:
                await asyncio.sleep(0)

    def _on_storage(self, key: ObjectKey, raw: Unstructured | None) -> None:
        self.table.update(Key(*key), raw, self._classes.values(), self._clock())

    def _on_class(self, key: ObjectKey, raw: Unstructured | None) -> None:
        """Have all rows built again, unless only the status of a class has changed, as it often does."""
        _, name = key
        facing = None
        if raw is not None:
            meta = raw["metadata"]
            facing = meta["uid"], meta["generation"], (meta.get("annotations") or {}).get(names.ANNOTATION_DEFAULT_CLASS)
        if self._user_facing.get(name) != facing:
            self._user_facing[name] = facing
            self._class_changed.set()


class Gate:
    """The parts of one gate process, connected but not yet running."""

    def __init__(self, config: GateConfig, keys: KeyFile, client: GateClient, metrics: GateMetrics) -> None:
        self._config = config
        self._keys = keys
        self._metrics = metrics
        self._watch = GateWatch(client, config.namespaces or (None,))
        self._loop_monitor = EventLoopMonitor()
        self._is_open = False
        door = Door(
            self._watch.table,
            lambda: keys.keys,
            lambda: self._watch.age() > config.max_age,
            metrics,
            asyncio.get_running_loop().time,
        )
        self._door = HandlerServer(door.handle, _LIMITS, metrics)
        self._http = HttpServer(
            {"loop": self._loop_lagging},
            {"door": self._closed, "watches": self._watches_failing},
            {},
            lambda: {"role": "gate"},
            self._render_metrics,
            CONTENT_TYPE,
            metrics,
        )

    async def run(self, stack: contextlib.AsyncExitStack, stop: asyncio.Event) -> None:
        """Fill the table, then open the door, until `stop` is set. Raises OSError if a port is in use."""
        if self._config.http_port:
            stack.push_async_callback(self._http.stop)
            await self._http.start(self._config.http_port)
        async with background(stop) as tasks:
            tasks.start(self._loop_monitor.run(), "event-loop-monitor")
            tasks.start(collect_periodically(), "garbage-collection")
            tasks.start(self._keys.run(), "keys")
            for informer in self._watch.informers:
                tasks.start(informer.run(), f"informer-{informer.resource.plural}")
            while any(self._watch.not_synced()) and not stop.is_set():  # noqa: ASYNC110  # the lists arrive in any order
                await asyncio.sleep(0.05)
            await self._watch.rebuild()
            tasks.start(self._watch.run_classes(), "classes")
            await _until(stop, SETTLING)  # who is Ready now may be admitted from the first question on
            if stop.is_set():
                return
            gc.freeze()  # the table has no cycles, and traversing it would block the event loop
            try:
                await self._door.start(self._config.port)
                self._is_open = True
                log.info("started", objects=len(self._watch.table), namespaces=list(self._config.namespaces) or "all")
                await stop.wait()
            finally:  # while the watches and the keys go on: the last answers are as right as the first
                self._is_open = False
                await self._door.stop(_DRAIN)

    def _render_metrics(self) -> bytes:
        self._metrics.rows.set(len(self._watch.table))
        self._metrics.table_age.set(self._watch.age())
        self._metrics.loop_lag.set(self._loop_monitor.lag())
        return self._metrics.render()

    async def _loop_lagging(self) -> str | None:
        late = self._loop_monitor.late_for()
        return f"the event loop has been late for {late:.0f} s" if late > _LOOP_LAG else None

    async def _closed(self) -> str | None:
        if self._is_open:
            return None
        missing = sorted(self._watch.not_synced())
        return f"not synced: {', '.join(missing[:5])}" if missing else "the door is not open"

    async def _watches_failing(self) -> str | None:
        failing = {informer.resource.plural for informer in self._watch.informers if informer.failing}
        age = self._watch.age()
        return f"watches fail for {age:.0f} s: {', '.join(sorted(failing))}" if failing and age > WATCH_SILENCE else None


async def _until(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


async def run(config: GateConfig, stop: asyncio.Event) -> None:
    """Run one gate until SIGTERM, SIGINT or `stop`.

    Raises OperatorError if the key file is unusable, the login fails or a background task ended by itself, OSError if a port is
    in use.
    """
    stop_on_signals(stop)
    keys = KeyFile(config.key_file)
    metrics = GateMetrics(version("userstorage-operator"), DIALECTS, [(reason.outcome, reason) for reason in Reason])
    async with contextlib.AsyncExitStack() as stack:
        client = GateClient(await login(), metrics)
        stack.push_async_callback(client.close)
        await Gate(config, keys, client, metrics).run(stack, stop)
    log.info("stopped")
