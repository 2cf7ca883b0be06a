"""Requests of the benchmarks to the API server.

On aiohttp alone: a change of the operator's client must not change the load or its cost.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson

from localcluster import Cluster
from localcluster.layout import Layout

Object = dict[str, Any]
USER_STORAGES = "/apis/userstorage.dev/v1"
_PAGE = "500"
_TOO_MANY_REQUESTS = 429


class RequestFailedError(Exception):
    """The API server has answered with a status of 400 or more."""


class ApiServer:
    """The API server of a local cluster, with the administrator's certificate."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self._session = session
        self._server = server

    async def request(
        self, method: str, path: str, body: Any = None, query: Mapping[str, str] | None = None, kind: str = "application/json"
    ) -> Object:
        """Return the response to one request. Raises RequestFailedError."""
        url = f"{self._server}{path}" + (f"?{urlencode(query)}" if query else "")
        data = orjson.dumps(body) if body is not None else None
        async with self._session.request(method, url, data=data, headers={"Content-Type": kind}) as response:
            payload = await response.read()
            if response.status >= 400:
                raise RequestFailedError(f"{method} {path}: {response.status} {payload[:300].decode(errors='replace')}")
            answer: Object = orjson.loads(payload)
            return answer

    async def text(self, path: str) -> str:
        """Return the response to a GET of a URL that has no objects, such as /metrics."""
        async with self._session.get(self._server + path) as response:
            response.raise_for_status()
            return await response.text()

    async def list(self, path: str, selector: str = "") -> tuple[list[Object], str]:
        """Return all objects of a collection, and the resourceVersion of the list."""
        query = {"limit": _PAGE, "labelSelector": selector}
        items: list[Object] = []
        while True:
            page = await self.request("GET", path, query=query)
            items += page["items"]
            query["continue"] = page["metadata"].get("continue", "")
            if not query["continue"]:
                return items, page["metadata"]["resourceVersion"]

    async def watch(self, path: str, version: str) -> AsyncIterator[Object]:
        """Yield the events of a collection after `version`, until the API server ends the watch."""
        url = f"{self._server}{path}?watch=1&allowWatchBookmarks=true&resourceVersion={version}"
        while (response := await self._session.get(url)).status == _TOO_MANY_REQUESTS:  # right after the CRD was created
            response.close()
            await asyncio.sleep(1)
        async with response:
            response.raise_for_status()
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield orjson.loads(line)


@asynccontextmanager
async def connect(cluster: Cluster) -> AsyncIterator[ApiServer]:
    """Yield the API server of the cluster; its connections are closed at the end of the `with` block."""
    keys = Layout(cluster.directory).keys
    context = ssl.create_default_context(cafile=str(keys / "ca.crt"))
    context.load_cert_chain(keys / "admin.crt", keys / "admin.key")
    server = orjson.loads(cluster.kubeconfig.read_bytes())["clusters"][0]["cluster"]["server"]
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        yield ApiServer(session, server)
