"""The operator is killed before or after a write, and the next process goes on.

The operator runs in this process, behind the fault proxy. At the chosen request the proxy closes every connection and forwards
nothing more: for the cluster that is a SIGKILL, since no clean-up of the operator reaches it. What the operator does until it is
stopped reaches nothing. The next one starts with empty memory.
"""

import asyncio
import contextlib
import itertools
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from support.faultproxy import DROPPED, Effect, Fault, FaultProxy, Request
from support.inprocess import RecordedMetrics, serving
from support.live import Live, condition_of
from support.oracles import differences, end_state, recording, violations
from support.oracles.invariants import writes_to
from userstorage_operator.api import names
from userstorage_operator.api.errors import NotFound
from userstorage_operator.api.resources import USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.config import Config

NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
BURST = 50
NEW_PORT = 9999
CANARY = "user-storage-canary"
_SPEC_HASH = rf'"{names.ANNOTATION_SPEC_HASH}": "[^"]*"(, )?'
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True)
class Workload:
    """A change of a world, and when the operator has finished its part of it."""

    name: str
    act: Callable[["World"], Awaitable[None]]
    is_done: Callable[[Live], Awaitable[bool]]
    prepare: Callable[[Live], Awaitable[None]] | None = None
    """Brings the world into the state before, with a running operator."""
    meanwhile: Fault | None = None
    """A fault beside the crash; its `hook` is replaced by the deletion of alice."""
    not_compared: frozenset[str] = frozenset()
    """Objects, as `kind/name`, that may or may not exist in the end."""
    names_class: bool = False
    """Whether the class has the name of the world, so that the hash over it differs."""


@dataclass
class World:
    """A namespace in which one workload runs."""

    live: Live
    proxy: FaultProxy
    started: int = 0
    """Number of the first request after the workload started."""
    ended: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    """What the workload still does by itself."""

    @property
    def path(self) -> str:
        """A regular expression for the paths of the namespace."""
        return f"/namespaces/{self.live.namespace}/"

    def writes(self) -> list[Request]:
        """Return the writes in this namespace since the workload started."""
        return [request for request in self.proxy.writes(self.started) if request.namespace == self.live.namespace]


class Operator:
    """An operator that can be killed at a request, and started again. By default it serves all namespaces."""

    def __init__(self, proxy: FaultProxy, namespaces: tuple[str, ...] = (), sweep_period: float = 3600) -> None:
        self._proxy = proxy
        self._config = Config(namespaces=namespaces, http_port=0, sweep_period=sweep_period)
        self._stack = contextlib.ExitStack()
        self._metrics: RecordedMetrics | None = None

    @property
    def metrics(self) -> RecordedMetrics:
        """The metrics of the running process."""
        assert self._metrics is not None
        return self._metrics

    async def start(self, *faults: Fault) -> None:
        """Start it, with empty memory, and forward its requests, but for these faults."""
        self._proxy.restore()
        self._proxy.fail(*faults)
        self._metrics = self._stack.enter_context(serving(self._config))

    async def stop(self) -> None:
        """Stop it. If the proxy has severed it, nothing of that reaches the cluster."""
        await asyncio.to_thread(self._stack.close)  # the recording goes on meanwhile

    async def restart(self, *faults: Fault) -> None:
        """Stop it and start the next one, with these faults."""
        await self.stop()
        await self.start(*faults)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Operator"]:
        """Run it while the block runs."""
        await self.start()
        try:
            yield self
        finally:
            await self.stop()


@dataclass
class Crashes:
    """Runs one workload again and again, each time with a crash at another write, each in a namespace of its own."""

    live: Live
    proxy: FaultProxy
    operator: Operator
    workload: Workload
    worlds: list[World] = field(default_factory=list)
    reference: dict[str, str] = field(default_factory=dict)
    writes: list[Request] = field(default_factory=list)
    """The writes of the undisturbed run, in order."""

    async def run_reference(self) -> None:
        """Run the workload without a crash."""
        world = await self._new_world()
        self.reference = await self._run(world)
        self.writes = world.writes()

    @property
    def status_writes(self) -> int:
        """The number of status writes of the reference. How many steps of a transition they report depends on when it is looked at."""
        return sum(write.what == "patch userstorages/status" for write in self.writes)

    @property
    def certain_writes(self) -> int:
        """The number of writes of the reference with one status at most: a second one is written only if a claim is bound late."""
        return len(self.writes) - max(0, self.status_writes - 1)

    async def crash_at(self, nth: int, *, after: bool, twice: bool = False) -> bool:
        """Run the workload with a crash before or after its `nth` write; with `twice`, the next process crashes before its first
        write. Return whether there was such a write.

        Fails if the world does not end like that of the reference, or if an invariant does not hold at any moment.
        """
        world = await self._new_world()
        crash = Fault(path=world.path, writes_only=True, nth=nth, times=1, effect=Effect.SEVER, after=after)
        ended = await self._run(world, crash, again=[replace(crash, nth=1, after=False)] if twice else [])
        found = differences(self.reference, ended)
        assert not found, f"{self.workload.name}, write {nth}, after={after}: {found}"
        return len(world.writes()) >= nth

    async def crash_at_each_of(self, writes: Collection[tuple[str, str]], *, after: bool) -> None:
        """Run the workload once, with a crash before or after each of these writes, given as `Request.what` and name, in the order in
        which they are made. One crash may interrupt several.

        Fails if one of them is not made, if the world does not end like that of the reference, or if an invariant does not hold at
        any moment.
        """
        world = await self._new_world()
        crashes = []
        for what, name in writes:
            verb, _, path = what.partition(" ")
            resource, _, subresource = path.partition("/")
            rule = Fault(verb=verb, resource=resource, subresource=subresource, name=name, path=world.path)
            crashes.append(replace(rule, times=1, effect=Effect.SEVER, after=after))
        ended = await self._run(world, *crashes)
        crashed = {(request.what, request.name) for request in world.writes() if request.code == DROPPED}
        assert set(writes) - crashed == set()
        assert differences(self.reference, ended) == []

    async def crash_at_every_write(self, *, after: bool, twice: bool = False) -> int:
        """Run the workload with a crash at each write in turn, until a run has no such write and neither had the reference. Return
        how many crashes there were.
        """
        crashes = 0
        for nth in itertools.count(1):
            crashed = await self.crash_at(nth, after=after, twice=twice)
            if not crashed and nth > len(self.writes):
                break
            crashes += crashed
        self.check_silence()
        return crashes

    def check_silence(self) -> None:
        """Fail if a process has written in a world after its workload was over: each new process has reconciled all of them."""
        ends = {world.live.namespace: world.ended for world in self.worlds}
        late = [
            f"{request.what} {request.name}"
            for number, request in enumerate(self.proxy.requests)
            if request.is_write and number >= ends.get(request.namespace, number + 1)
        ]
        assert not late, f"written after the end: {late}"

    async def clean_up(self) -> None:
        """Delete all worlds. The operator must have stopped."""
        for world in self.worlds:
            await world.live.release_all()
            found = await self.live.client.get(NAMESPACES, None, world.live.namespace)
            await self.live.client.delete(NAMESPACES, "", world.live.namespace, found["metadata"]["uid"], 0, "Background")
            with contextlib.suppress(NotFound):
                await world.live.delete_class(f"class-{world.live.namespace}")

    async def _new_world(self) -> World:
        name = f"crash-{uuid.uuid4().hex[:8]}"
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        await self.live.client.create(NAMESPACES, "", body)
        live = Live(self.live.client, name)
        await live.until_pods_are_admitted()
        await create_canaries(live)
        world = World(live, self.proxy)
        self.worlds.append(world)
        return world

    async def _run(self, world: World, *crashes: Fault, again: Sequence[Fault] = ()) -> dict[str, str]:
        """Run the workload, and return the end state. The process after the first crash meets the faults `again`."""
        live, workload = world.live, self.workload
        if workload.prepare is not None:
            await workload.prepare(live)
        world.started = len(self.proxy.requests)
        beside = self._beside(world)
        async with recording(live) as history:
            self.proxy.fail(*beside, *crashes)
            await workload.act(world)
            while await self._has_crashed(world):
                left = [fault for fault in self.proxy.unused() if fault in crashes]
                await self.operator.restart(*beside, *left, *again)
                again = ()
            await asyncio.gather(*world.tasks)
            await live.until(lambda: workload.is_done(live))
            await live.until(lambda: _is_collected(live))
            await history.caught_up(live)
        self.proxy.fail()
        if self.proxy.severed:  # by a write after what the workload waits for
            await self.operator.restart()
        world.ended = len(self.proxy.requests)
        assert violations(history, world.writes()) == []
        assert writes_to(world.writes(), [CANARY]) == []
        ended = await end_state(live)
        if workload.names_class:
            ended = {name: re.sub(_SPEC_HASH, "", text) for name, text in ended.items()}
        return {
            name: text.replace(live.namespace, "NAMESPACE") for name, text in ended.items() if name not in workload.not_compared
        }

    def _beside(self, world: World) -> list[Fault]:
        """Return the fault that accompanies the crash. It deletes alice once, also if the request at which it does so is the one
        that the first process does not survive.
        """
        if self.workload.meanwhile is None:
            return []
        loop, deleted = asyncio.get_running_loop(), list[bool]()

        def delete_alice() -> None:
            if not deleted:
                deleted.append(True)
                asyncio.run_coroutine_threadsafe(world.live.delete(USER_STORAGES, "alice"), loop).result()

        return [replace(self.workload.meanwhile, path=world.path, hook=delete_alice)]

    async def _has_crashed(self, world: World) -> bool:
        """Wait until the workload is over or the proxy has severed the operator, and return whether it has."""

        async def is_over() -> bool:
            return self.proxy.severed or (all(task.done() for task in world.tasks) and await self.workload.is_done(world.live))

        await world.live.until(is_over)
        return self.proxy.severed


async def create_canaries(live: Live) -> None:
    """Create objects that look like children of alice and belong to another object."""
    body: Unstructured = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CANARY}}
    uid = (await live.client.create(CONFIG_MAPS, live.namespace, body))["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": CANARY, "uid": uid, "controller": True}
    meta: Unstructured = {
        "labels": {names.LABEL_MANAGED_BY: names.FIELD_MANAGER, names.LABEL_APP: names.APP, names.LABEL_USER: "alice"},
        "annotations": {names.ANNOTATION_USER_ID: "alice"},
        "ownerReferences": [owner],
    }
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    container = {"name": "canary", "image": "example.org/canary", "securityContext": RESTRICTED}
    await live.create_object(Kind.NETWORK_POLICY, CANARY, {"podSelector": {"matchLabels": {"app": CANARY}}}, **meta)
    await live.create_object(Kind.SERVICE, CANARY, {"ports": [{"port": 1}]}, **meta)
    await live.create_object(Kind.PVC, CANARY, claim, **meta)
    await live.create_object(Kind.POD, CANARY, {"containers": [container], "automountServiceAccountToken": False}, **meta)

    async def are_settled() -> bool:
        pod = await live.client.get(Kind.POD.resource, live.namespace, CANARY)
        bound = await live.client.get(Kind.PVC.resource, live.namespace, CANARY)
        return (pod["status"].get("phase"), bound["status"].get("phase")) == ("Running", "Bound")

    await live.until(are_settled)


async def _is_collected(live: Live) -> bool:
    """Whether the garbage collector has removed what belongs to a UserStorage that is gone."""
    return await live.get() is not None or not [
        kind for kind in (Kind.POD, Kind.SERVICE, Kind.NETWORK_POLICY) if await live.child(kind) is not None
    ]


def is_settled(raw: Unstructured) -> bool:
    """Whether a UserStorage is Ready for its generation with the details of its claim, and nothing is under way."""
    status = raw.get("status", {})
    current = status.get("observedGeneration") == raw["metadata"]["generation"]
    bound = status.get("storage", {}).get("claimPhase") == "Bound"  # seen after the pod is ready, it comes a little later
    ready, reconciling = condition_of(raw, "Ready"), condition_of(raw, "Reconciling")
    return (
        current
        and bound
        and "deletionTimestamp" not in raw["metadata"]
        and ready == ("True", "PodReady")
        and reconciling[0] == "False"
    )


async def _is_ready(live: Live) -> bool:
    return is_settled(await live.get() or {"metadata": {"generation": 0}})


async def _is_gone(live: Live) -> bool:
    return await live.get() is None


async def _ready(live: Live) -> None:
    await live.create()
    await live.until_ready()


async def _create(world: World) -> None:
    await world.live.create()


async def _update(world: World) -> None:
    await world.live.change({"spec": {"lifecycle": {"terminationGracePeriodSeconds": 7}}})


async def _delete(world: World) -> None:
    await world.live.delete_with("Background")


async def _recreate(world: World) -> None:
    live = world.live
    await live.delete_with("Background")

    async def create_when_gone() -> None:
        await live.until_gone()
        await live.create()

    world.tasks.append(asyncio.create_task(create_when_gone()))


async def _ready_in_own_class(live: Live) -> None:
    await live.create_class(f"class-{live.namespace}")
    await live.create(className=f"class-{live.namespace}")
    await live.until_ready()


async def _change_class(world: World) -> None:
    await world.live.change_class(f"class-{world.live.namespace}", {"spec": {"browser": {"port": NEW_PORT}}})


async def _follows_class(live: Live) -> bool:
    pod, storage = await live.child(Kind.POD), await live.get()
    if pod is None or storage is None or pod["spec"]["containers"][0]["ports"][0]["containerPort"] != NEW_PORT:
        return False
    # The generation is as before, so only the hash shows that the status is about this pod.
    return is_settled(storage) and storage["status"]["appliedHash"] == pod["metadata"]["annotations"][names.ANNOTATION_POD_HASH]


async def _create_many(world: World) -> None:
    await asyncio.gather(*(world.live.create(f"user-{number}") for number in range(BURST)))


async def _all_are_ready(live: Live) -> bool:
    found = await live.all()
    return len(found) == BURST and all(is_settled(raw) for raw in found)


CREATE = Workload("create", _create, _is_ready)
DELETE = Workload("delete", _delete, _is_gone, _ready)
UPDATE = Workload("update", _update, _is_ready, _ready)
DELETE_DURING_CREATE = Workload(
    "delete during create",
    _create,
    _is_gone,
    meanwhile=Fault(verb="create", resource="services", effect=Effect.CALL, after=True),
    # The claim is the next write. A process that has started since then knows of the deletion, and creates none.
    not_compared=frozenset({"PersistentVolumeClaim/user-storage-alice"}),
)
RECREATE = Workload("re-create", _recreate, _is_ready, _ready)
CHANGE_CLASS = Workload("change of the class", _change_class, _follows_class, _ready_in_own_class, names_class=True)
BURST_OF_CREATIONS = Workload("burst", _create_many, _all_are_ready)
