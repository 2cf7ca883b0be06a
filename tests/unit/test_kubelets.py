"""Requests to a kubelet, answered by a server with every fault; tests/e2e has a real kubelet."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web

from localcluster.addresses import free_port
from localcluster.certificates import Authority
from userstorage_operator.api.errors import Refused, Unavailable
from userstorage_operator.kube import kubelets
from userstorage_operator.kube.kubelets import ACCOUNT, Kubelets

ADDRESS = "127.0.0.1"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """Issues tokens, each only once."""

    def __init__(self, ca_file: Path) -> None:
        self.ca_file = str(ca_file)
        self.issued: list[str] = []

    async def request_token(self, namespace: str, account: str, seconds: int) -> str:
        assert (namespace, account, seconds) == ("system", ACCOUNT, 600)
        self.issued.append(f"token-{len(self.issued)}")
        return self.issued[-1]


class Node:
    """An HTTPS server in place of a kubelet."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.answer: Answer = self.healthy

    async def healthy(self, _: web.Request) -> web.Response:
        return web.json_response({"pods": []})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.tokens.append(request.headers["Authorization"])
        assert request.path == "/stats/summary"
        return await self.answer(request)


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


@pytest.fixture
async def node(ours: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    """Serve with a certificate of `ours`."""
    ours.server("node", [], [ADDRESS])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "ours/node.crt", tmp_path / "ours/node.key")
    node, app = Node(), web.Application()
    app.router.add_get("/{path:.*}", node.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, ADDRESS, port, ssl_context=context).start()
    monkeypatch.setattr(kubelets, "_PORT", port)
    yield node
    await runner.cleanup()


def client_of(authority: Authority, *, verify: bool = True) -> tuple[Kubelets, Api]:
    api = Api(authority.directory / "ca.crt")
    return Kubelets(cast("Any", api), "system", verify=verify), api


async def test_token_is_reused(node: Node, ours: Authority) -> None:
    client, api = client_of(ours)
    assert [await client.summary(ADDRESS) for _ in range(3)] == [{"pods": []}] * 3
    assert node.tokens == ["Bearer token-0"] * 3
    assert api.issued == ["token-0"]


async def test_server_with_an_unknown_certificate_gets_no_token(node: Node, tmp_path: Path) -> None:
    client, _ = client_of(Authority(tmp_path / "another"))
    with pytest.raises(Unavailable, match="certificate verify failed"):
        await client.summary(ADDRESS)
    assert node.tokens == []


async def test_any_certificate_is_accepted_if_verification_is_disabled(node: Node, tmp_path: Path) -> None:
    client, _ = client_of(Authority(tmp_path / "another"), verify=False)
    assert await client.summary(ADDRESS) == {"pods": []}


async def test_expired_token_is_replaced(node: Node, ours: Authority) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=401, text="Unauthorized")

    client, api = client_of(ours)
    node.answer = refuse
    with pytest.raises(Unavailable, match="Unauthorized"):
        await client.summary(ADDRESS)
    node.answer = node.healthy
    await client.summary(ADDRESS)
    assert (node.tokens, api.issued) == (["Bearer token-0", "Bearer token-1"], ["token-0", "token-1"])


async def test_refusal_has_the_message_of_the_kubelet(node: Node, ours: Authority) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=403, text="Forbidden (resource=nodes, subresource=stats)")

    node.answer = refuse
    with pytest.raises(Refused, match="subresource=stats"):
        await client_of(ours)[0].summary(ADDRESS)


async def test_endless_answer_is_cut_off(node: Node, ours: Authority) -> None:
    async def pour(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while request.transport is not None and not request.transport.is_closing():
            await response.write(bytes(1 << 20))
            await asyncio.sleep(0)  # a write to a buffer that is not full does not yield to the reader in this process
        return response

    node.answer = pour
    with pytest.raises(Unavailable, match="more than"):
        await client_of(ours)[0].summary(ADDRESS)


@pytest.mark.parametrize("body", ["", "<html>", "[1, 2"])
async def test_invalid_json_is_unavailable(node: Node, ours: Authority, body: str) -> None:
    async def answer_text(_: web.Request) -> web.Response:
        return web.Response(text=body)

    node.answer = answer_text
    with pytest.raises(Unavailable, match="JSON"):
        await client_of(ours)[0].summary(ADDRESS)


async def test_redirect_is_not_followed(node: Node, ours: Authority) -> None:
    async def redirect(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "https://127.0.0.1:1/stats/summary"}, text="moved")

    node.answer = redirect
    with pytest.raises(Refused, match="moved"):
        await client_of(ours)[0].summary(ADDRESS)


@pytest.mark.parametrize("address", ["", "evil.example.org/x", "127.0.0.1@evil.example.org"])
async def test_invalid_address_is_not_contacted(node: Node, ours: Authority, address: str) -> None:
    with pytest.raises(Unavailable, match="does not appear to be an IPv4 or IPv6 address"):
        await client_of(ours)[0].summary(address)
    assert node.tokens == []
