"""Foreign objects forged to look like the operator's are never changed by many reconciles, and conflicts with them back off.

Runs for ten seconds by default; `--forged-seconds=300` runs for the five minutes that the product promises.
"""

import asyncio
import time

import pytest

from support.arena import FOREIGN_SPECS
from support.inprocess import RecordedMetrics
from support.live import Live
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured

pytestmark = [pytest.mark.kwok]

TRIES_IN_THE_FIRST_MINUTE = 5
WRITES_PER_TRY = 2
"""The refused creation, and the status if it has changed."""
BLOCKED = {"bob": "NameConflict", "carol": "NameConflict", "dave": "NameConflict", "erin": "StorageNotReady"}


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> int:
    chosen: int = request.config.getoption("--forged-seconds")
    return chosen


def labels(user: str, uid: str) -> dict[str, str]:
    return {
        "app": "filebrowser",
        "userId": user,
        "app.kubernetes.io/managed-by": "userstorage-operator",
        "userstorage.dev/managed-by": "userstorage-operator",
        "userstorage.dev/uid": uid,
    }


async def create_users_and_foreign_objects(live: Live) -> list[tuple[Kind, str]]:
    """Create a ready user, four users that conflict with foreign objects, and these objects; return the foreign objects."""
    uid = (await live.create("alice"))["metadata"]["uid"]
    await live.until_ready("alice")
    other = {"userstorage.dev/user-id": "mallory"}
    await live.create_object(Kind.POD, "forged", FOREIGN_SPECS[Kind.POD], labels=labels("alice", uid))
    await live.create_object(Kind.SERVICE, "user-storage-bob", FOREIGN_SPECS[Kind.SERVICE])
    await live.create_object(
        Kind.PVC, "user-storage-carol", FOREIGN_SPECS[Kind.PVC], labels=labels("mallory", uid), annotations=other
    )
    await live.create_object(Kind.POD, "user-storage-dave", FOREIGN_SPECS[Kind.POD], labels=labels("dave", uid))
    await live.create_object(Kind.PVC, "of-frank", FOREIGN_SPECS[Kind.PVC], labels=labels("erin", uid))
    foreign = [
        (Kind.POD, "forged"),
        (Kind.SERVICE, "user-storage-bob"),
        (Kind.PVC, "user-storage-carol"),
        (Kind.POD, "user-storage-dave"),
        (Kind.PVC, "of-frank"),
    ]

    async def is_settled() -> bool:
        current = [await get_object(live, kind, name) for kind, name in foreign]
        return all(raw.get("status", {}).get("phase") in ("Running", "Bound", None) for raw in current)

    await live.until(is_settled)
    for user in ("bob", "carol", "dave"):
        await live.create(user)
    await live.create("erin", storage={"claimName": "of-frank"})
    for user, reason in BLOCKED.items():
        await live.until_condition("Ready", "False", reason, user)
    return foreign


async def get_object(live: Live, kind: Kind, name: str) -> Unstructured:
    """Return an object with its resourceVersion, which changes with any write."""
    return await live.client.get(kind.resource, live.namespace, name)


@pytest.mark.timeout(600)
async def test_foreign_objects_are_unchanged_after_many_reconciles(live: Live, sweeping: RecordedMetrics, seconds: int) -> None:
    foreign = await create_users_and_foreign_objects(live)
    before = [await get_object(live, kind, name) for kind, name in foreign]
    reconciles, until, touch = sweeping.reconciles(), time.monotonic() + seconds, 0
    while time.monotonic() < until or sweeping.reconciles() - reconciles < 100:  # takes longer on a slow machine
        touch += 1
        for user in ("alice", *BLOCKED):
            await live.change({"spec": {"lifecycle": {"startTimeout": f"{300 + touch % 2}s"}}}, user)
        await asyncio.sleep(0.2)
    assert [await get_object(live, kind, name) for kind, name in foreign] == before
    assert await live.condition("Ready") == ("True", "PodReady")
    for user, reason in BLOCKED.items():
        assert await live.condition("Ready", user) == ("False", reason)
    print(f"{sweeping.reconciles() - reconciles} reconciles, {sweeping.requests}")  # noqa: T201  # shown with -s


@pytest.mark.timeout(600)
async def test_name_conflicts_are_retried_with_backoff(live: Live, operator: RecordedMetrics, seconds: int) -> None:
    foreign = await create_users_and_foreign_objects(live)
    before = [await get_object(live, kind, name) for kind, name in foreign]
    writes = operator.writes()
    await asyncio.sleep(seconds)
    tries = TRIES_IN_THE_FIRST_MINUTE + seconds / 60
    assert operator.writes() - writes <= tries * WRITES_PER_TRY * len(BLOCKED)
    assert [await get_object(live, kind, name) for kind, name in foreign] == before
    print(f"{operator.writes() - writes} writes in {seconds} s, {operator.requests}")  # noqa: T201  # shown with -s
