"""`--metrics-auth`, asked over HTTP with tokens of the real API server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import yaml

from support.backend import account, free_port
from support.inprocess import serving
from support.kubectl import Kubectl, eventually
from support.live import Live
from userstorage_operator.config import Config

READER = Path(__file__).parents[2] / "deploy/metrics-auth/reader.yaml"
NAME = "userstorage-metrics-reader"


@pytest.fixture
async def base(live: Live) -> AsyncIterator[str]:
    """An operator whose metrics are not for everybody."""
    port = free_port()
    with serving(Config(namespaces=(live.namespace,), http_port=port, sweep_period=3600, metrics_auth=True)):
        yield f"http://127.0.0.1:{port}"


async def answer(base: str, path: str, authorization: str | None = None) -> tuple[int, str, str]:
    """Status code, challenge and body."""
    headers = {"Authorization": authorization} if authorization is not None else {}
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(base + path, headers=headers) as response:
                    return response.status, response.headers.get("WWW-Authenticate", ""), await response.text()
            except aiohttp.ClientConnectionError:  # it has only just been started
                await asyncio.sleep(0.05)


async def test_metrics_are_for_those_who_may_get_the_path(api: Kubectl, live: Live, base: str) -> None:
    nobody, stranger = await answer(base, "/metrics"), await answer(base, "/metrics", "Bearer invented")
    assert nobody[:2] == (401, "Bearer")
    assert stranger[:2] == (401, 'Bearer error="invalid_token"')
    # May read every UserStorage, which is no right to the metrics.
    other = await asyncio.to_thread(account, api, live.namespace, here=True)
    code, _, body = await answer(base, "/metrics", f"Bearer {other}")
    assert code == 403
    assert f"user 'system:serviceaccount:{live.namespace}:backend' is not allowed to get /metrics" in body
    assert not any("userstorage_" in text for text in (nobody[2], stranger[2], body))

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

    def look() -> str:
        return api.run(*secret).stdout.strip()

    token = await asyncio.to_thread(eventually, look)
    for _ in range(300):  # the API server takes a moment to see the binding, and a no holds for three seconds
        code, _, body = await answer(base, "/metrics", f"Bearer {token}")
        if code == 200:
            break
        await asyncio.sleep(0.2)
    assert code == 200
    assert "userstorage_build_info" in body


def test_the_pod_monitor_brings_the_token_that_is_made(api: Kubectl) -> None:
    made = list(yaml.safe_load_all(api.run("kustomize", str(READER.parent)).stdout))
    [monitor] = [one for one in made if one["kind"] == "PodMonitor"]
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["authorization"] == {"credentials": {"name": NAME, "key": "token"}}
    [secret] = [one for one in made if one["kind"] == "Secret"]
    assert (secret["metadata"]["name"], secret["metadata"]["namespace"]) == (NAME, monitor["metadata"]["namespace"])


async def test_health_is_told_to_everybody(base: str) -> None:
    assert (await answer(base, "/health"))[0] == 200
    assert (await answer(base, "/ready"))[0] in (200, 503)
