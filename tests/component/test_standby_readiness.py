"""A standby is ready while it can answer the read API: from Redis without the API server, or from the API server without Redis."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from localcluster.addresses import free_port
from support.backend import Backend, account
from support.faultproxy import FaultProxy
from support.inprocess import serving
from support.kubectl import PATIENCE, Kubectl
from support.live import Live
from support.operator_process import OperatorProcess
from testservers.redis import RedisServer
from userstorage_operator.api.resources import LEASES
from userstorage_operator.config import Config
from userstorage_operator.redis_cache.settings import RedisSettings

pytestmark = [pytest.mark.kwok]

LEASE = "userstorage-operator"


class Standby:
    """A replica of its own process that waits for a lease which another holder keeps."""

    def __init__(self, session: aiohttp.ClientSession, port: int, token: str) -> None:
        self._session = session
        self._url = f"http://127.0.0.1:{port}/ready"
        self.backend = Backend(session, port, token)

    async def until(self, code: int, degraded: str | None = None) -> Any:
        """Return the first response of /ready with that status code and, if given, that degraded check."""
        deadline = time.monotonic() + PATIENCE
        answer: Any = None
        while True:
            try:
                async with self._session.get(self._url) as response:
                    answer = await response.json()
                    if response.status == code and (degraded is None or degraded in answer["degraded"]):
                        return answer
            except aiohttp.ClientConnectionError:
                pass
            assert time.monotonic() < deadline, answer
            await asyncio.sleep(0.1)


@pytest.fixture
async def standby(
    api: Kubectl, live: Live, redis_server: RedisServer, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Standby]:
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))  # of the leader, which does not use the proxy
    lease = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": {"name": LEASE}}
    await live.client.create(LEASES, live.namespace, lease | {"spec": {"holderIdentity": "another"}})
    renewing = asyncio.create_task(renew(live))
    port = free_port()
    process = OperatorProcess(
        proxy.kubeconfig,
        tmp_path / "standby.log",
        f"--http-port={port}",
        f"--namespace={live.namespace}",
        "--leader-elect",
        f"--lease-namespace={live.namespace}",
        f"--redis-url={redis_server.url}",
    )
    config = Config(namespaces=(live.namespace,), http_port=0, sweep_period=3600, redis=RedisSettings(redis_server.url))
    token = await asyncio.to_thread(account, api, live.namespace, here=True)
    with serving(config):
        process.launch()
        async with aiohttp.ClientSession() as session:
            yield Standby(session, port, token)
        process.kill()
    renewing.cancel()


async def renew(live: Live) -> None:
    for number in range(10_000):
        await live.client.merge_patch(LEASES, live.namespace, LEASE, {"metadata": {"annotations": {"renewed": str(number)}}})
        await asyncio.sleep(2)


async def test_standby_is_ready_while_redis_or_the_api_server_answers(
    standby: Standby, live: Live, proxy: FaultProxy, redis_server: RedisServer
) -> None:
    await live.create(replicas=0)
    await live.until_condition("Ready", "False", "Suspended")
    answer = await standby.until(200)
    path = f"/namespaces/{live.namespace}/userstorages/alice"
    assert answer["role"] == "standby"

    async def serves() -> bool:
        return (await standby.backend.get(path)).status == 200

    await live.until(serves)

    proxy.cut_off = True
    answer = await standby.until(200, degraded="apiServer")
    assert answer["status"] == "degraded"
    assert answer["degraded"]["apiServer"].endswith("; the read API answers from Redis")
    found = await standby.backend.get(path)
    assert (found.status, found.body["item"]["name"], found.body["metadata"]["stale"]) == (200, "alice", False)

    redis_server.stop()
    answer = await standby.until(503)
    assert set(answer["failing"]) == {"apiServer"}

    proxy.cut_off = False
    answer = await standby.until(200)
    assert set(answer["degraded"]) <= {"redis"}
    await live.until(serves)
