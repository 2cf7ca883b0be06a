"""The read API, asked over HTTP with tokens of the real API server."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from support.backend import ApiResponse, Backend, account, free_port
from support.faultproxy import Fault, FaultProxy
from support.inprocess import RecordedMetrics, serving
from support.kubectl import Kubectl
from support.live import Live
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.config import Config
from userstorage_operator.readmodel.summary import summary

REVIEWS = ("tokenreviews", "subjectaccessreviews")


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def serving_all(live: Live, port: int) -> Iterator[RecordedMetrics]:
    with serving(Config(http_port=port, sweep_period=3600)) as observed:
        yield observed


@pytest.fixture
async def backend(api: Kubectl, namespace: str, port: int) -> AsyncIterator[Backend]:
    """A backend that may read everything."""
    async with aiohttp.ClientSession() as session:
        yield Backend(session, port, account(api, namespace, everywhere=True))
    api.run("delete", "clusterrolebinding", f"{namespace}-backend", "--ignore-not-found")


async def answered(backend: Backend, path: str, status: int = 200, within: float = 20) -> ApiResponse:
    """The first answer of that status; before, only that nobody listens yet or that the operator is starting."""
    deadline = time.monotonic() + within
    while True:
        try:
            answer = await backend.get(path)
        except aiohttp.ClientConnectionError:
            answer = None
        if answer is not None and answer.status == status:
            return answer
        assert time.monotonic() < deadline, answer
        await asyncio.sleep(0.02)


async def test_one_of_a_user_and_a_list(live: Live, backend: Backend, serving_all: RecordedMetrics) -> None:
    await live.create("alice", user_id="Alice+1@example.org")
    await live.create("bob", replicas=0)
    await live.until_ready("alice")
    await live.until_condition("Ready", "False", "Suspended", "bob")
    raw: Any = await live.get("alice")
    one = await answered(backend, f"/namespaces/{live.namespace}/userstorages/alice")
    assert one.body == {"metadata": {"ageSeconds": 0, "stale": False}, "item": summary(raw)}
    assert one.body["item"]["ready"] is True

    for written in ("Alice+1@example.org", "Alice%2B1%40example%2Eorg"):
        assert (await backend.get(f"/users/{written}")).body["items"] == [summary(raw)]
    both = await backend.get(f"/userstorages?namespace={live.namespace}")
    assert both.names == [f"{live.namespace}/alice", f"{live.namespace}/bob"]
    assert "continue" not in both.body["metadata"]
    for chosen, names in {
        "ready=true": ["alice"],
        "ready=false": ["bob"],
        "phase=Suspended": ["bob"],
        "phase=Failed": [],
        "user=bob": ["bob"],
        "user=bob&ready=true": [],
        "user=Alice%2B1@example.org": ["alice"],
    }.items():
        listed = await backend.get(f"/userstorages?namespace={live.namespace}&{chosen}")
        assert listed.names == [f"{live.namespace}/{name}" for name in names], chosen

    head = await backend.get(f"/namespaces/{live.namespace}/userstorages/alice", "HEAD")
    assert (head.status, head.body, head.headers["ETag"]) == (200, None, one.headers["ETag"])


async def test_the_document_describes_what_is_served(backend: Backend, serving_all: RecordedMetrics) -> None:
    told = await answered(backend.as_(None), "/openapi.json")
    assert set(told.body["paths"]) == {
        "/v1/userstorages",
        "/v1/namespaces/{namespace}/userstorages/{name}",
        "/v1/users/{userID}",
    }


async def test_what_is_not_understood_or_not_there(live: Live, backend: Backend, serving_all: RecordedMetrics) -> None:
    await answered(backend, "/userstorages")
    here = f"/namespaces/{live.namespace}/userstorages"
    for path, parameter in {
        "/userstorages?limit=0": "limit",
        "/userstorages?limit=501": "limit",
        "/userstorages?limit=ten": "limit",
        "/userstorages?limit=1&limit=2": "limit",
        "/userstorages?continue=x": "continue",
        "/userstorages?ready=yes": "ready",
        "/userstorages?phase=Gone": "phase",
        "/userstorages?namespace=": "namespace",
        "/userstorages?namespace=..%2Fkube-system": "namespace",
        "/userstorages?user=a%00b": "user",
        "/userstorages?watch=true": "watch",
        f"{here}/alice?limit=1": "limit",
        f"{here}/Alice": "name",
        f"{here}/a%2Fb": "name",
        "/namespaces/A/userstorages/a": "namespace",
        "/users/alice?user=bob": "user",
        "/users/-alice": "userID",
        "/users/a%0Ab": "userID",
    }.items():
        refused = await backend.get(path)
        assert (refused.status, refused.body.get("parameter")) == (400, parameter), path
    for path in (f"{here}/nobody", "/users/nobody@example.org", "/nothing", "/namespaces", "/users/", f"{here}/"):
        assert (await backend.get(path)).status == 404, path
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        refused = await backend.get("/userstorages", method)
        assert (refused.status, refused.headers["Allow"]) == (405, "GET,HEAD")


async def test_only_who_is_known_is_answered(api: Kubectl, live: Live, backend: Backend, serving_all: RecordedMetrics) -> None:
    await answered(backend, "/userstorages")
    missing = await backend.as_(None).get("/userstorages")
    assert (missing.status, missing.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert (await backend.as_(None).get("/userstorages", Authorization="Basic YTpi")).status == 401
    for token in ("garbage", "a.b.c", (backend.token or "")[:-2], "ü"):
        refused = await backend.as_(token).get("/userstorages?limit=none")
        assert refused.status == 401
        assert "invalid_token" in refused.headers["WWW-Authenticate"]
    token = account(api, live.namespace, "leaver", here=True)
    leaver = backend.as_(token)
    assert (await leaver.get(f"/userstorages?namespace={live.namespace}")).status == 200
    api.run("delete", "serviceaccount", "leaver", "-n", live.namespace)
    await answered(leaver, f"/userstorages?namespace={live.namespace}", 401, within=13)


@pytest.mark.kwok
async def test_an_expired_token_is_refused(api: Kubectl, live: Live, backend: Backend, serving_all: RecordedMetrics) -> None:
    """Signed by the API server's own key, a copy of a valid one but for its times."""
    await answered(backend, "/userstorages")
    assert backend.token is not None
    header, claims, _ = (_decoded(part) for part in backend.token.split("."))
    key = serialization.load_pem_private_key((api.kubeconfig.parent / "run/keys/service-accounts.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = int(time.time())
    for times, status in ({"iat": now - 60, "exp": now + 600}, 200), ({"iat": now - 600, "exp": now - 60}, 401):
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in (json.loads(header), json.loads(claims) | times))
        pair = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        signature = _encoded(b"".join(number.to_bytes(32) for number in pair))
        assert (await backend.as_(f"{signed}.{signature}").get("/userstorages")).status == status


async def test_rights_are_those_of_the_cluster(
    api: Kubectl, live: Live, backend: Backend, serving_all: RecordedMetrics
) -> None:
    await live.create()
    await answered(backend, f"/namespaces/{live.namespace}/userstorages/alice")
    tenant = backend.as_(account(api, live.namespace, "tenant", here=True))
    assert (await tenant.get(f"/userstorages?namespace={live.namespace}")).names == [f"{live.namespace}/alice"]
    assert (await tenant.get(f"/namespaces/{live.namespace}/userstorages/alice")).status == 200
    for path in ("/userstorages", "/userstorages?namespace=default", "/users/alice", "/namespaces/default/userstorages/a"):
        assert (await tenant.get(path)).status == 403, path

    stranger = backend.as_(account(api, live.namespace, "stranger"))
    there, missing = [await stranger.get(f"/namespaces/{live.namespace}/userstorages/{name}") for name in ("alice", "nobody")]
    assert (there.status, there.body) == (403, missing.body)
    assert (await stranger.get("/users/alice")).body == (await stranger.get("/users/nobody")).body

    rule = ["--verb=get", "--resource=userstorages.userstorage.dev", "--resource-name=alice"]
    api.run("create", "role", "one", "-n", live.namespace, *rule)
    api.run("create", "rolebinding", "one", "-n", live.namespace, "--role=one", f"--serviceaccount={live.namespace}:stranger")
    await answered(stranger, f"/namespaces/{live.namespace}/userstorages/alice", within=5)
    assert (await stranger.get(f"/namespaces/{live.namespace}/userstorages/nobody")).status == 403


async def test_a_token_has_to_be_meant_for_us(api: Kubectl, live: Live, backend: Backend, port: int) -> None:
    audience = ["create", "token", "backend", "-n", live.namespace, "--audience"]
    with serving(Config(http_port=port, sweep_period=3600, api_audiences=("userstorage", "other"))):
        ours = backend.as_(api.run(*audience, "userstorage").stdout.strip())
        await answered(ours, "/userstorages")
        assert (await backend.get("/userstorages")).status == 401
        assert (await backend.as_(api.run(*audience, "third").stdout.strip()).get("/userstorages")).status == 401


async def test_who_has_the_answer_is_told_so(live: Live, backend: Backend, serving_all: RecordedMetrics) -> None:
    await live.create(replicas=0)
    await live.until_condition("Ready", "False", "Suspended")
    path = f"/namespaces/{live.namespace}/userstorages/alice"
    first = await answered(backend, path)
    same = await backend.get(path, If_None_Match=first.headers["ETag"])
    assert (same.status, same.body, same.headers["ETag"]) == (304, None, first.headers["ETag"])
    await live.change({"metadata": {"labels": {"a": "b"}}})

    async def changed() -> bool:
        return (await backend.get(path, If_None_Match=first.headers["ETag"])).status == 200

    await live.until(changed, within=1)


async def test_pages_are_the_clusters_list(api: Kubectl, live: Live, backend: Backend, serving_all: RecordedMetrics) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(250):
            group.create_task(live.create(f"user-{number}", className="none"))

    async def told() -> bool:
        raws = api.list_all("userstorages", live.namespace)
        return all(raw.get("status", {}).get("observedGeneration") for raw in raws)

    await live.until(told)
    expected = sorted(
        (summary(raw) for raw in api.list_all("userstorages", live.namespace)), key=lambda item: str(item["name"])
    )
    assert len(expected) == 250

    async def pages(query: str) -> tuple[list[Any], list[int]]:
        """What is told of this test's namespace, and the sizes of all pages."""
        items, sizes, more = [], [], ""
        while True:
            page = await backend.get(f"/userstorages?{query}{more}")
            items += [item for item in page.body["items"] if item["namespace"] == live.namespace]
            sizes.append(len(page.body["items"]))
            if "continue" not in page.body["metadata"]:
                return items, sizes
            more = f"&continue={page.body['metadata']['continue']}"

    async def seen() -> bool:
        return (await pages("limit=500"))[0] == expected

    await live.until(seen, within=1)
    assert (await pages("limit=7"))[0] == expected
    assert await pages(f"namespace={live.namespace}") == (
        expected,
        [100, 100, 50],
    )
    assert (await pages("user=user-17&limit=1"))[0] == [item for item in expected if item["userID"] == "user-17"]


async def test_changes_are_told_within_a_second(live: Live, backend: Backend, serving_all: RecordedMetrics) -> None:
    await answered(backend, "/userstorages")
    path = f"/namespaces/{live.namespace}/userstorages/alice"
    user = f"alice-{live.namespace}"  # of this test alone: the namespaces of others may still be ending
    await live.create(replicas=0, user_id=user)
    await answered(backend, path, within=1)
    changed = await live.change({"spec": {"className": "other"}})

    async def told() -> bool:
        answer = await backend.get(path)
        return bool(answer.body["item"]["generation"] == changed["metadata"]["generation"])

    async def gone() -> bool:
        return await live.get() is None

    await live.until(told, within=1)
    assert (await backend.get(f"/users/{user}")).status == 200
    await live.delete(USER_STORAGES, "alice")
    await live.until(gone)
    await answered(backend, path, 404, within=1)
    assert (await backend.get(f"/users/{user}")).status == 404


async def test_an_operator_of_one_namespace_answers_for_no_other(live: Live, backend: Backend, port: int) -> None:
    await live.create(replicas=0)
    with serving(Config(namespaces=(live.namespace,), http_port=port, sweep_period=3600)):
        assert f"{live.namespace}/alice" in (await answered(backend, "/userstorages")).names
        for path in ("/userstorages?namespace=default", "/namespaces/default/userstorages/alice"):
            refused = await backend.get(path)
            assert refused.status == 404
            assert refused.body["detail"] == "namespace 'default' is not served by this operator"


async def test_without_the_api_server_the_last_known_is_told_and_called_stale(
    api: Kubectl, live: Live, backend: Backend, port: int, proxy: FaultProxy
) -> None:
    await live.create(replicas=0)
    path = f"/namespaces/{live.namespace}/userstorages/alice"
    with serving(Config(namespaces=(live.namespace,), http_port=port, sweep_period=3600)):
        await live.until_condition("Ready", "False", "Suspended")
        assert (await answered(backend, path)).body["metadata"] == {"ageSeconds": 0, "stale": False}
        proxy.fail(Fault(".*", ".", 503))
        proxy.hang_up()

        async def aged() -> bool:
            answer = await backend.get(path)
            assert answer.status == 200
            assert answer.body["item"]["name"] == "alice"
            return bool(answer.body["metadata"]["stale"] and answer.body["metadata"]["ageSeconds"] >= 2)

        await live.until(aged)
        unknown = await backend.as_(account(api, live.namespace, "late", here=True)).get(path)
        assert unknown.status == 503
        assert int(unknown.headers["Retry-After"]) >= 1
        assert "could not check the token" in unknown.body["detail"]
        proxy.fail()

        async def current() -> bool:
            answer = await backend.get(path)
            return bool(answer.body["metadata"] == {"ageSeconds": 0, "stale": False})

        await live.until(current)


async def test_before_the_first_lists_the_api_server_is_asked(
    live: Live, backend: Backend, port: int, proxy: FaultProxy
) -> None:
    """Half a cache is never told: until the lists are complete the leader answers as a replica that does not watch."""
    await live.create(replicas=0)
    proxy.fail(Fault("GET", "/pods", 503))
    with serving(Config(namespaces=(live.namespace,), http_port=port, sweep_period=3600)):
        assert (await answered(backend, "/userstorages")).names == [f"{live.namespace}/alice"]
        assert "caches" in (await backend.readiness())["failing"]
        proxy.fail(Fault("GET", "/(pods|userstorages)", 503))
        early = await answered(backend, f"/namespaces/{live.namespace}/userstorages/bob", 503)
        assert "Retry-After" in early.headers
        proxy.fail()
        await answered(backend, f"/namespaces/{live.namespace}/userstorages/bob", 404)


async def test_many_requests_cost_a_handful_of_reviews(live: Live, backend: Backend, serving_all: RecordedMetrics) -> None:
    await live.create(replicas=0)
    await answered(backend, f"/namespaces/{live.namespace}/userstorages/alice")
    before = [serving_all.requests["create", review] for review in REVIEWS]

    async def ask() -> None:
        for name in ("alice", "nobody", "somebody"):
            await backend.get(f"/namespaces/{live.namespace}/userstorages/{name}")

    await asyncio.gather(*(ask() for _ in range(200)))
    assert sum(serving_all.requests["create", review] for review in REVIEWS) - sum(before) <= 4


async def test_metrics_name_routes_and_never_users(live: Live, backend: Backend, serving_all: RecordedMetrics) -> None:
    await answered(backend, "/userstorages")
    await backend.get("/users/secret-name@example.org")
    await backend.get("/no/such/secret-name")
    text = await backend.metrics()
    assert 'userstorage_http_requests_total{code="4xx",handler="/v1/users/{userID}"} 1.0' in text
    assert 'userstorage_http_requests_total{code="4xx",handler="unknown"} 1.0' in text
    assert "userstorage_http_request_duration_seconds_count" in text
    assert "secret-name" not in text


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()
