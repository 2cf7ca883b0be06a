"""A slow API server, children that vanish under a write, and a right that is removed and restored."""

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support import faultproxy
from support.crashes import Operator
from support.faultproxy import Effect, Fault, FaultProxy
from support.kubectl import Kubectl
from support.live import Live
from support.oracles import History
from userstorage_operator.api.resources import Kind

pytestmark = [pytest.mark.kwok]

ROOT = Path(__file__).parents[3]
USERS = 20
WRITES_OF_A_CREATION = 6
ROLE = "userstorage-operator"


async def test_slow_api_server_costs_time_and_no_requests(live: Live, operator: Operator, proxy: FaultProxy) -> None:
    proxy.fail(Fault(effect=Effect.DELAY, seconds=2))
    names = [f"user-{number}" for number in range(USERS)]
    for name in names:
        await live.create(name)
    for name in names:
        await live.until_ready(name)
    by_user = Counter(request.name.removeprefix("user-storage-") for request in proxy.writes())
    # A transition that takes longer than five seconds is reported: one more write of the status, or two.
    assert max(by_user.values()) <= WRITES_OF_A_CREATION + 2
    assert {request.code for request in proxy.requests if request.is_write and request.code} <= {200, 201}


async def test_rejected_credentials_are_renewed_by_a_running_operator(
    live: Live, operator: Operator, proxy: FaultProxy
) -> None:
    await live.create()
    await live.until_ready()
    proxy.fail(Fault(status=401, times=30))
    proxy.hang_up()
    await live.create("bob")
    await live.until_ready("bob")
    assert operator.metrics.is_alive()


@pytest.mark.parametrize("kind", [Kind.SERVICE, Kind.POD], ids=lambda kind: kind.resource.plural)
async def test_child_that_vanishes_under_a_write_is_created_again(
    live: Live, operator: Operator, proxy: FaultProxy, kind: Kind
) -> None:
    await live.create()
    await live.until_ready()
    loop, name = asyncio.get_running_loop(), "user-storage-alice"

    async def remove() -> None:
        await live.client.merge_patch(kind.resource, live.namespace, name, {"metadata": {"finalizers": None}})
        found = await live.client.get(kind.resource, live.namespace, name)
        await live.client.delete(kind.resource, live.namespace, name, found["metadata"]["uid"], 0, "Background")

    def vanish() -> None:
        asyncio.run_coroutine_threadsafe(remove(), loop).result()

    before = (await live.child(kind) or {})["metadata"]["uid"]
    proxy.fail(Fault(verb="patch|delete", resource=kind.resource.plural, times=1, effect=Effect.CALL, hook=vanish))
    if kind is Kind.POD:
        await live.change({"spec": {"lifecycle": {"terminationGracePeriodSeconds": 7}}})
    else:
        await live.change_child(kind, {"metadata": {"labels": {"userId": "mallory"}}})

    async def is_replaced() -> bool:
        found = await live.child(kind)
        return found is not None and found["metadata"]["uid"] != before

    await live.until(is_replaced)
    await live.until_ready()


@pytest.fixture
async def proxy(
    live: Live, as_operator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[FaultProxy]:
    """The proxy with the rights of deploy/rbac alone."""
    with faultproxy.running(as_operator, tmp_path) as proxy:
        monkeypatch.setitem(os.environ, "KUBECONFIG", str(proxy.kubeconfig))
        yield proxy


@pytest.fixture
async def without_pods(api: Kubectl) -> AsyncIterator[None]:
    """Take the right to create pods away until the end of the test, or until it is given back earlier."""
    role = json.loads(api.run("get", "clusterrole", ROLE, "-o", "json").stdout)
    for rule in role["rules"]:
        if "pods" in rule.get("resources", ()) and "create" in rule["verbs"]:
            rule["verbs"].remove("create")
    await asyncio.to_thread(api.apply, role)
    yield
    await asyncio.to_thread(give_back, api)


def give_back(api: Kubectl) -> None:
    api.run("apply", "-k", str(ROOT / "deploy/rbac"))


async def test_right_that_is_missing_is_reported_until_it_is_back(
    live: Live, api: Kubectl, without_pods: None, operator: Operator, judged: History
) -> None:
    await live.create()
    assert "cannot create resource" in await live.until_condition("Ready", "False", "Forbidden")
    assert await live.condition("NetworkReady") == ("True", "Synced")
    await asyncio.to_thread(give_back, api)
    await live.until_ready()
