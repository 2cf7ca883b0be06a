"""etcd and the API server are killed and stopped; the operator goes on when they are back."""

import asyncio
import contextlib

import pytest

from support.control_plane import ControlPlane
from support.crashes import Operator
from support.live import Live
from support.oracles import History
from userstorage_operator.api.errors import ClusterError
from userstorage_operator.api.resources import Kind

pytestmark = [pytest.mark.kwok]

NEW_POD = {"spec": {"lifecycle": {"terminationGracePeriodSeconds": 7}}}


@pytest.fixture
def live(own_live: Live) -> Live:
    return own_live


async def answers(live: Live) -> bool:
    """Whether the API server reads from etcd again."""
    with contextlib.suppress(ClusterError):
        await live.all()
        return True
    return False


@pytest.mark.parametrize("programs", [("etcd",), ("kube-apiserver",), ("etcd", "kube-apiserver")], ids="-".join)
async def test_users_are_served_after_a_program_was_killed(
    live: Live, control_plane: ControlPlane, operator: Operator, judged: History, programs: tuple[str, ...]
) -> None:
    await live.create("bob")
    await live.until_ready("bob")
    await live.create()
    await asyncio.to_thread(control_plane.kill, *programs)  # in the middle of a creation
    await asyncio.to_thread(control_plane.resume)
    await live.until(lambda: answers(live))
    await live.until_ready()
    await live.change(NEW_POD, "bob")
    await live.until_ready("bob")
    await live.delete_with("Background")
    await live.until_gone()
    assert await live.child(Kind.POD) is None


async def test_users_are_served_after_etcd_stood_still(
    live: Live, control_plane: ControlPlane, operator: Operator, judged: History
) -> None:
    await live.create("bob")
    await live.until_ready("bob")
    pod = await live.pod("bob")
    await live.create()
    with control_plane.stopped("etcd"):
        await asyncio.sleep(30)
    await live.until(lambda: answers(live))
    await live.until_ready()
    await live.until_ready("bob")
    assert (await live.pod("bob"))["metadata"]["uid"] == pod["metadata"]["uid"]
