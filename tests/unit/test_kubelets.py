"""How a kubelet is asked, by a server that behaves as no kubelet should; the real one is asked in tests/e2e."""

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
    """Gives tokens, each only once."""

    def __init__(self, authority: Path) -> None:
        self.ca_file = str(authority)
        self.given: list[str] = []

    async def request_token(self, namespace: str, account: str, seconds: int) -> str:
        assert (namespace, account, seconds) == ("system", ACCOUNT, 600)
        self.given.append(f"token-{len(self.given)}")
        return self.given[-1]


class Node:
    """An HTTPS server where a kubelet would be."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.answer: Answer = self.well

    async def well(self, _: web.Request) -> web.Response:
        return web.json_response({"pods": []})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request.headers["Authorization"])
        assert request.path == "/stats/summary"
        return await self.answer(request)


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


@pytest.fixture
async def node(ours: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    """Known by the authority."""
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


def asking(authority: Authority, *, verify: bool = True) -> tuple[Kubelets, Api]:
    api = Api(authority.directory / "ca.crt")
    return Kubelets(cast("Any", api), "system", verify=verify), api


async def test_one_token_is_good_for_many_looks(node: Node, ours: Authority) -> None:
    asker, api = asking(ours)
    assert [await asker.summary(ADDRESS) for _ in range(3)] == [{"pods": []}] * 3
    assert node.seen == ["Bearer token-0"] * 3
    assert api.given == ["token-0"]


async def test_a_stranger_gets_no_token(node: Node, tmp_path: Path) -> None:
    asker, _ = asking(Authority(tmp_path / "another"))
    with pytest.raises(Unavailable, match="certificate verify failed"):
        await asker.summary(ADDRESS)
    assert node.seen == []


async def test_unverified_takes_any_certificate(node: Node, tmp_path: Path) -> None:
    asker, _ = asking(Authority(tmp_path / "another"), verify=False)
    assert await asker.summary(ADDRESS) == {"pods": []}


async def test_a_token_that_is_no_longer_good_is_replaced(node: Node, ours: Authority) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=401, text="Unauthorized")

    asker, api = asking(ours)
    node.answer = refuse
    with pytest.raises(Unavailable, match="Unauthorized"):
        await asker.summary(ADDRESS)
    node.answer = node.well
    await asker.summary(ADDRESS)
    assert (node.seen, api.given) == (["Bearer token-0", "Bearer token-1"], ["token-0", "token-1"])


async def test_a_right_that_is_missing_is_told_in_the_kubelet_s_words(node: Node, ours: Authority) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=403, text="Forbidden (resource=nodes, subresource=stats)")

    node.answer = refuse
    with pytest.raises(Refused, match="subresource=stats"):
        await asking(ours)[0].summary(ADDRESS)


async def test_an_answer_without_an_end_is_not_waited_for(node: Node, ours: Authority) -> None:
    async def pour(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(1 << 20))

    node.answer = pour
    with pytest.raises(Unavailable, match="more than"):
        await asking(ours)[0].summary(ADDRESS)


@pytest.mark.parametrize("body", ["", "<html>", "[1, 2"])
async def test_what_is_no_json_is_no_answer(node: Node, ours: Authority, body: str) -> None:
    async def babble(_: web.Request) -> web.Response:
        return web.Response(text=body)

    node.answer = babble
    with pytest.raises(Unavailable, match="JSON"):
        await asking(ours)[0].summary(ADDRESS)


async def test_nobody_is_led_elsewhere(node: Node, ours: Authority) -> None:
    async def lead_astray(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "https://127.0.0.1:1/stats/summary"}, text="moved")

    node.answer = lead_astray
    with pytest.raises(Refused, match="moved"):
        await asking(ours)[0].summary(ADDRESS)


@pytest.mark.parametrize("address", ["", "evil.example.org/x", "127.0.0.1@evil.example.org"])
async def test_an_address_that_is_none_is_not_asked(node: Node, ours: Authority, address: str) -> None:
    with pytest.raises(Unavailable, match="does not appear to be an IPv4 or IPv6 address"):
        await asking(ours)[0].summary(address)
    assert node.seen == []
