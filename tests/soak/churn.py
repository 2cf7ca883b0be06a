"""What tenants, administrators and other clients do in a soak, chosen at random."""

import contextlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from support.live import HEALED, LIFE, Live
from userstorage_operator.api import names
from userstorage_operator.api.errors import AlreadyExists, Conflict, NotFound
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured

CLASSES = ("plain", "exposing")
_NETWORKS: tuple[Unstructured, ...] = ({}, {"expose": "Ingress", "hostTemplate": "${slug}.${namespace}.example.org"})
_PORTS = (8080, 8081, 8082)
_ROLLOUTS = 0.1
"""Share of the chosen rollouts that are carried out: each replaces the pods of many users."""
_CALM = {"spec": {"replicas": 1} | HEALED["spec"], "metadata": {"annotations": {names.ANNOTATION_PAUSED: None}}}


def keeps_files(user: str) -> bool:
    """Whether the user's claim has to survive every deletion: that of every second user."""
    return int(user.rpartition("-")[2]) % 2 == 0


async def create_classes(live: Live) -> None:
    """Create the classes that the users have."""
    for name, network in zip(CLASSES, _NETWORKS, strict=True):
        await live.create_class(name, network=network, rollout={"maxUnavailable": "20%"})


class Churn:
    """Changes of users `user-0` to `user-N` of one namespace, and of their classes."""

    def __init__(self, live: Live, users: int, chance: random.Random) -> None:
        self._live = live
        self._users = [f"user-{number}" for number in range(users)]
        self._chance = chance
        self.counts: Counter[str] = Counter()
        self._acts: dict[str, Callable[[str], Awaitable[object]]] = {
            "suspended": lambda user: self._patch(user, {"spec": {"replicas": 0}}),
            "resumed": lambda user: self._patch(user, {"spec": {"replicas": 1}}),
            "paused": lambda user: self._annotate(user, names.ANNOTATION_PAUSED, "true"),
            "unpaused": lambda user: self._annotate(user, names.ANNOTATION_PAUSED, None),
            "restarted": lambda user: self._annotate(user, names.ANNOTATION_RESTARTED_AT, str(int(time.time()))),
            "class changed": lambda user: self._patch(user, {"spec": {"className": chance.choice(CLASSES)}}),
            "pod changed": lambda user: self._patch(
                user, {"spec": {"lifecycle": {"terminationGracePeriodSeconds": chance.randint(1, 9)}}}
            ),
            "label of pod changed": lambda user: self._patch(
                user, {"spec": {"podMetadata": {"labels": {"team": chance.choice("ab")}}}}
            ),
            "broken": lambda user: self._break(user, chance.choice(("crash-loop", "never-ready", "image-pull-backoff"))),
            "repaired": lambda user: self._patch(user, HEALED),
            "deleted": lambda user: live.delete_with(chance.choice(("Background", "Foreground", "Orphan")), user),
            "class rolled out": self._roll_out,
            "pod deleted by another": lambda user: live.delete(Kind.POD.resource, f"user-storage-{user}"),
            "policy deleted by another": lambda user: live.delete(Kind.NETWORK_POLICY.resource, f"user-storage-{user}"),
            "service edited by another": lambda user: live.change_child(
                Kind.SERVICE, {"spec": {"selector": {"app": "other"}}}, user
            ),
            "label removed by another": lambda user: live.change_child(
                chance.choice((Kind.POD, Kind.SERVICE, Kind.NETWORK_POLICY)),
                {"metadata": {"labels": {names.LABEL_MANAGED_BY: None}}},
                user,
            ),
        }

    async def act(self) -> None:
        """Change one thing; a UserStorage that does not exist is created."""
        user = self._chance.choice(self._users)
        name = self._chance.choice(sorted(self._acts))
        act = self._acts[name]
        if await self._live.get(user) is None:
            name, act = "created", self._create
        # The object is gone or has changed meanwhile, as it may for any client.
        with contextlib.suppress(NotFound, AlreadyExists, Conflict):
            await act(user)
            self.counts[name] += 1

    async def calm(self) -> None:
        """Take back everything for which a UserStorage is rightly not Ready."""
        for raw in await self._live.all():
            if "deletionTimestamp" not in raw["metadata"]:
                await self._live.change(_CALM, raw["metadata"]["name"])

    async def _create(self, user: str) -> object:
        storage = {"size": "1Gi", "reclaimPolicy": "Retain" if keeps_files(user) else "Delete"}
        return await self._live.create(user, className=self._chance.choice(CLASSES), storage=storage)

    async def _patch(self, user: str, patch: Unstructured) -> None:
        await self._live.client.merge_patch(USER_STORAGES, self._live.namespace, user, patch)

    async def _annotate(self, user: str, annotation: str, value: str | None) -> None:
        await self._patch(user, {"metadata": {"annotations": {annotation: value}}})

    async def _break(self, user: str, life: str) -> None:
        seconds = self._chance.randint(10, 19)  # so that there is a new pod
        spec: Any = {"podMetadata": {"annotations": {LIFE: life}}, "lifecycle": {"terminationGracePeriodSeconds": seconds}}
        await self._patch(user, {"spec": spec})

    async def _roll_out(self, _: str) -> None:
        if self._chance.random() < _ROLLOUTS:
            await self._live.change_class(
                self._chance.choice(CLASSES), {"spec": {"browser": {"port": self._chance.choice(_PORTS)}}}
            )
