"""`--metrics-auth` over HTTP, with tokens of the real API server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import yaml

from localcluster.addresses import free_port
from support.backend import account
from support.inprocess import serving
from support.kubectl import Kubectl, eventually
from support.live import Live
from userstorage_operator.config import Config

READER = Path(__file__).parents[2] / "deploy/metrics-auth/reader.yaml"
NAME = "userstorage-metrics-reader"


@pytest.fixture
async def base(live: Live) -> AsyncIterator[str]:
    """Run an operator whose metrics require a token."""
    port = free_port()
    with serving(Config(namespaces=(live.namespace,), http_port=port, sweep_period=3600, metrics_auth=True)):
        yield f"http://127.0.0.1:{port}"


async def answer(base: str, path: str, authorization: str | None = None) -> tuple[int, str, str]:
    """Return status code, challenge and body."""
    headers = {"Authorization": authorization} if authorization is not None else {}
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(base + path, headers=headers) as response:
                    return response.status, response.headers.get("WWW-Authenticate", ""), await response.text()
            except aiohttp.ClientConnectionError:  # the operator is still starting
                await asyncio.sleep(0.05)


async def test_metrics_require_the_right_to_get_their_path(api: Kubectl, live: Live, base: str) -> None:
    anonymous, invalid = await answer(base, "/metrics"), await answer(base, "/metrics", "Bearer invented")
    assert anonymous[:2] == (401, "Bearer")
    assert invalid[:2] == (401, 'Bearer error="invalid_token"')
    # This account may read every UserStorage, but not the metrics.
    other = await asyncio.to_thread(account, api, live.namespace, here=True)
    code, _, body = await answer(base, "/metrics", f"Bearer {other}")
    assert code == 403
    assert f"user 'system:serviceaccount:{live.namespace}:backend' is not allowed to get /metrics" in body
    assert not any("userstorage_" in text for text in (anonymous[2], invalid[2], body))

    await asyncio.to_thread(api.run, "apply", "-f", str(READER))
    secret = [
        "get",
        "secret",
        NAME,
        "-n",
        "userstorage-system",
        "-o",
        "go-template={{with .data.token}}{{.|base64decode}}{{end}}",
    ]

    def read_token() -> str:
        return api.run(*secret).stdout.strip()

    token = await asyncio.to_thread(eventually, read_token)
    for _ in range(300):  # the API server takes a moment to see the binding, and a denial is cached for three seconds
        code, _, body = await answer(base, "/metrics", f"Bearer {token}")
        if code == 200:
            break
        await asyncio.sleep(0.2)
    assert code == 200
    assert "userstorage_build_info" in body


def test_pod_monitor_uses_the_token_of_the_reader(api: Kubectl) -> None:
    objects = list(yaml.safe_load_all(api.run("kustomize", str(READER.parent)).stdout))
    [monitor] = [obj for obj in objects if obj["kind"] == "PodMonitor" and obj["metadata"]["name"] == "userstorage-operator"]
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["authorization"] == {"credentials": {"name": NAME, "key": "token"}}
    [secret] = [obj for obj in objects if obj["kind"] == "Secret"]
    assert (secret["metadata"]["name"], secret["metadata"]["namespace"]) == (NAME, monitor["metadata"]["namespace"])


async def test_health_and_readiness_need_no_token(base: str) -> None:
    assert (await answer(base, "/health"))[0] == 200
    assert (await answer(base, "/ready"))[0] in (200, 503)
