"""Requests that Schemathesis generates, valid and invalid ones: to the read API from its own OpenAPI document, and to the gate.

Every response is one that the document describes, and none is an error of the server.
"""

import base64
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    positive_data_acceptance,
    response_schema_conformance,
    status_code_conformance,
)

from localcluster.addresses import free_port
from support import loopback
from support.builders import class_object, storage_object
from support.caches import put_list
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.gate.dialects import DIALECTS
from userstorage_operator.gate.door import Door
from userstorage_operator.gate.table import Table, slim
from userstorage_operator.informers.caches import Caches
from userstorage_operator.informers.reader import CacheReader
from userstorage_operator.informers.watch_liveness import WatchLiveness
from userstorage_operator.readapi.openapi import document
from userstorage_operator.readapi.routes import ReadApi
from userstorage_operator.readmodel.caller import Access, Caller, PathAccess
from userstorage_operator.runtime.connections import Limits
from userstorage_operator.runtime.http import HandlerServer

REQUESTS = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
TOKEN = "token-of-a-backend"  # noqa: S105  # of a fake review
KEY = "k" * 32
HOSTS = {"alice": "alice.example.org", "bob": "bob.example.org"}


class FakeReviews:
    async def caller(self, token: str) -> Caller | None:
        return Caller("backend") if token == TOKEN else None

    async def allows(self, caller: Caller, access: Access | PathAccess) -> bool:
        return True


@pytest.fixture(scope="module")
def read_api() -> Iterator[str]:
    """The base URL of a read API with two users in each of two namespaces."""

    @contextlib.asynccontextmanager
    async def serve() -> AsyncIterator[int]:
        caches = Caches(lambda _: None, lambda _: None)
        known = [
            storage_object(
                user, meta={"name": user, "namespace": namespace, "uid": f"{namespace}-{user}", "resourceVersion": "1"}
            )
            for namespace, user in itertools.product(("other", "users"), HOSTS)
        ]
        put_list(caches.cache(USER_STORAGES), known, "2")
        reader = CacheReader(caches, WatchLiveness(["/"], lambda: 0.0))
        app = web.Application()
        app.add_subapp("/v1", ReadApi(reader, FakeReviews(), (), "test").application())
        async with loopback.running(web.AppRunner(app, access_log=None)) as port:
            yield port

    with loopback.serving(serve) as url:
        yield url


@(schemathesis.openapi.from_dict(document("test")).parametrize())
@REQUESTS
def test_read_api_answers_as_its_document_says(case: Any, read_api: str) -> None:
    # No schema describes which continue tokens are valid.
    excluded = [positive_data_acceptance] if "continue" in (case.query or {}) else []
    case.call_and_validate(base_url=read_api, headers={"Authorization": f"Bearer {TOKEN}"}, excluded_checks=excluded)


def basic(user: str, key: str = KEY) -> str:
    return f"Basic {base64.b64encode(f'{user}:{key}'.encode()).decode()}"


def gate_document() -> Unstructured:
    """Return an OpenAPI document of the gate's door, as docs/gate.md describes it. Its headers are both right and arbitrary."""
    identities = [basic("alice"), basic("bob"), basic("alice", "another-key"), "Basic !", "Bearer x", ""]
    texts: dict[str, Unstructured] = {
        "Authorization": {"type": "string", "enum": identities},
        "Accept": {"type": "string", "enum": ["text/html", "*/*"]},
        "Sec-Fetch-Site": {"type": "string", "enum": ["same-origin", "cross-site", "none"]},
        "Sec-Fetch-Mode": {"type": "string", "enum": ["navigate", "cors"]},
    }
    for dialect in DIALECTS.values():
        texts[dialect.host] = {"anyOf": [{"type": "string", "enum": list(HOSTS.values())}, {"type": "string"}]}
        texts |= {name: {"type": "string"} for name in (dialect.uri, dialect.method) if name is not None}
    headers = [{"name": name, "in": "header", "schema": schema} for name, schema in texts.items()]
    place = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in ("namespace", "slug")]
    how = {"name": "dialect", "in": "path", "required": True, "schema": {"type": "string", "enum": list(DIALECTS)}}
    problem = {"type": "object", "required": ["type", "title", "status", "detail", "reason"]}
    refusal = {"application/problem+json": {"schema": problem}, "text/html": {"schema": {"type": "string"}}}
    responses: Unstructured = {"200": {"description": "admitted"}}
    responses |= {code: {"description": "refused", "content": refusal} for code in ("401", "403", "404", "429", "503")}
    operation = {"parameters": headers, "responses": responses}
    methods = dict.fromkeys(("get", "post", "put", "delete"), operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "gate", "version": "test"},
        "paths": {
            "/v1/authorize/{dialect}": {"parameters": [how], **methods},
            "/v1/of/{namespace}/{slug}/authorize/{dialect}": {"parameters": [*place, how], **methods},
            "/v1/door/auth-request": methods,
        },
    }


class Unobserved:
    def decided(self, dialect: str, outcome: str, reason: str, seconds: float) -> None:
        pass

    def http_connection_closed(self, reason: str) -> None:
        pass


@pytest.fixture(scope="module")
def gate() -> Iterator[str]:
    """The base URL of a gate that knows alice and bob, who are ready."""

    @contextlib.asynccontextmanager
    async def serve() -> AsyncIterator[int]:
        table, cls = Table(), class_object("own", network={"expose": "Ingress", "hostTemplate": "${slug}.example.org"})
        for user in HOSTS:
            ready = {"type": "Ready", "status": "True", "reason": "PodReady", "message": "", "observedGeneration": 3}
            synced = ready | {"type": "NetworkReady", "reason": "Synced"}
            raw = storage_object(user, meta={"name": user, "uid": user}, className="own")
            table.update(
                Key("users", user), slim(raw | {"status": {"phase": "Ready", "conditions": [ready, synced]}}), [cls], 0.0
            )
        door = Door(table, lambda: [KEY.encode()], lambda: False, Unobserved())
        server, port = HandlerServer(door.handle, Limits(), Unobserved()), free_port()
        await server.start(port)
        yield port
        await server.stop(0)

    with loopback.serving(serve) as url:
        yield url


@(schemathesis.openapi.from_dict(gate_document()).parametrize())
@REQUESTS
def test_gate_admits_no_request_that_proves_nothing(case: Any, gate: str) -> None:
    response: Any = case.call_and_validate(
        base_url=gate, checks=[status_code_conformance, content_type_conformance, response_schema_conformance]
    )
    sent = response.request.headers
    if response.status_code == 200:
        [user] = response.headers["x-forwarded-user"]
        assert sent["Authorization"] == basic(user)
    else:
        assert "x-forwarded-user" not in response.headers
    assert response.headers["cache-control"] == ["no-store"]
