"""The read API over HTTP, with tokens of the real API server."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from localcluster.addresses import free_port
from support import identities
from support.apiproxy import ApiProxy
from support.backend import ApiResponse, Backend, account
from support.faultproxy import Fault, FaultProxy
from support.inprocess import RecordedMetrics, serving
from support.kubectl import PATIENCE, Kubectl
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
    """Return a backend that may read all UserStorages."""
    async with aiohttp.ClientSession() as session:
        yield Backend(session, port, account(api, namespace, everywhere=True))
    api.delete("clusterrolebinding", f"{namespace}-backend")


async def responded(backend: Backend, path: str, status: int = 200) -> ApiResponse:
    """Wait for a response with that status and return it. The port may still be closed."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            response = await backend.get(path)
        except aiohttp.ClientConnectionError:
            response = None
        if response is not None and response.status == status:
            return response
        assert time.monotonic() < deadline, response
        await asyncio.sleep(0.02)


async def test_item_and_list_contain_summaries_of_the_cluster(
    live: Live, backend: Backend, serving_all: RecordedMetrics
) -> None:
    await live.create("alice", user_id="Alice+1@example.org")
    await live.create("bob", replicas=0)
    await live.until_ready("alice")
    await live.until_condition("Ready", "False", "Suspended", "bob")

    async def current() -> ApiResponse | None:
        """Return the item once it is that of the cluster: one more status write may follow the one that says Ready."""
        one = await responded(backend, f"/namespaces/{live.namespace}/userstorages/alice")
        raw: Any = await live.get("alice")
        return one if one.body == {"metadata": {"ageSeconds": 0, "stale": False}, "item": summary(raw)} else None

    one = await live.until(current)
    raw: Any = await live.get("alice")
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


async def test_users_of_any_provider_are_found(
    live: Live, api_proxy: ApiProxy, backend: Backend, serving_all: RecordedMetrics
) -> None:
    path = f"/apis/userstorage.dev/v1/namespaces/{live.namespace}/userstorages"
    for number, user_id in enumerate(identities.ALL):
        await live.create(f"user-{number}", user_id=user_id, replicas=0)
    for number, user_id in enumerate(identities.ALL):
        await live.until_condition("Ready", "False", "Suspended", f"user-{number}")
        name, encoded = f"{live.namespace}/user-{number}", quote(user_id, safe="").replace(".", "%2E")
        listed = await responded(backend, f"/users/{encoded}")  # in all namespaces
        assert name in listed.names
        assert {item["userID"] for item in listed.body["items"]} == {user_id}
        query = f"/userstorages?namespace={live.namespace}&user={encoded}"
        assert (await responded(backend, query)).names == [name], user_id
        escaped = user_id.replace("\\", r"\\").replace(",", r"\,").replace("=", r"\=")  # the syntax of field selectors
        selector = quote(f"spec.userID={escaped}")
        selected = await asyncio.to_thread(api_proxy.request, "GET", f"{path}?fieldSelector={selector}")
        assert [raw["metadata"]["name"] for raw in selected["items"]] == [f"user-{number}"], user_id


async def test_openapi_document_is_served(backend: Backend, serving_all: RecordedMetrics) -> None:
    document = await responded(backend.as_(None), "/openapi.json")
    assert set(document.body["paths"]) == {
        "/v1/userstorages",
        "/v1/namespaces/{namespace}/userstorages/{name}",
        "/v1/users/{userID}",
    }


async def test_malformed_requests_and_missing_objects_are_refused(
    live: Live, backend: Backend, serving_all: RecordedMetrics
) -> None:
    await responded(backend, "/userstorages")
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
        "/users/%20alice": "userID",
        "/users/a%0Ab": "userID",
    }.items():
        refused = await backend.get(path)
        assert (refused.status, refused.body.get("parameter")) == (400, parameter), path
    for path in (f"{here}/missing", "/users/missing@example.org", "/nothing", "/namespaces", "/users/", f"{here}/"):
        assert (await backend.get(path)).status == 404, path
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        refused = await backend.get("/userstorages", method)
        assert (refused.status, refused.headers["Allow"]) == (405, "GET,HEAD")


async def test_missing_or_invalid_tokens_are_refused(
    api: Kubectl, live: Live, backend: Backend, serving_all: RecordedMetrics
) -> None:
    await responded(backend, "/userstorages")
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
    api.delete("serviceaccount", "leaver", namespace=live.namespace)
    await responded(leaver, f"/userstorages?namespace={live.namespace}", 401)


@pytest.mark.kwok
async def test_an_expired_token_is_refused(api: Kubectl, live: Live, backend: Backend, serving_all: RecordedMetrics) -> None:
    # Signed with the API server's own key: a copy of a valid token with other times.
    await responded(backend, "/userstorages")
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


async def test_permissions_are_those_of_rbac(api: Kubectl, live: Live, backend: Backend, serving_all: RecordedMetrics) -> None:
    await live.create()
    await responded(backend, f"/namespaces/{live.namespace}/userstorages/alice")
    tenant = backend.as_(account(api, live.namespace, "tenant", here=True))
    assert (await tenant.get(f"/userstorages?namespace={live.namespace}")).names == [f"{live.namespace}/alice"]
    assert (await tenant.get(f"/namespaces/{live.namespace}/userstorages/alice")).status == 200
    for path in ("/userstorages", "/userstorages?namespace=default", "/users/alice", "/namespaces/default/userstorages/a"):
        assert (await tenant.get(path)).status == 403, path

    unauthorized = backend.as_(account(api, live.namespace, "unauthorized"))
    there, missing = [
        await unauthorized.get(f"/namespaces/{live.namespace}/userstorages/{name}") for name in ("alice", "missing")
    ]
    assert (there.status, there.body) == (403, missing.body)
    assert (await unauthorized.get("/users/alice")).body == (await unauthorized.get("/users/missing")).body

    rule = ["--verb=get", "--resource=userstorages.userstorage.dev", "--resource-name=alice"]
    api.run("create", "role", "one", "-n", live.namespace, *rule)
    api.run(
        "create", "rolebinding", "one", "-n", live.namespace, "--role=one", f"--serviceaccount={live.namespace}:unauthorized"
    )
    await responded(unauthorized, f"/namespaces/{live.namespace}/userstorages/alice")
    assert (await unauthorized.get(f"/namespaces/{live.namespace}/userstorages/missing")).status == 403


async def test_token_of_another_audience_is_refused(api: Kubectl, live: Live, backend: Backend, port: int) -> None:
    audience = ["create", "token", "backend", "-n", live.namespace, "--audience"]
    with serving(Config(http_port=port, sweep_period=3600, api_audiences=("userstorage", "other"))):
        accepted = backend.as_(api.run(*audience, "userstorage").stdout.strip())
        await responded(accepted, "/userstorages")
        assert (await backend.get("/userstorages")).status == 401
        assert (await backend.as_(api.run(*audience, "third").stdout.strip()).get("/userstorages")).status == 401


async def test_unchanged_response_is_304(live: Live, backend: Backend, serving_all: RecordedMetrics) -> None:
    await live.create(replicas=0)
    await live.until_condition("Ready", "False", "Suspended")
    path = f"/namespaces/{live.namespace}/userstorages/alice"
    first = await responded(backend, path)
    same = await backend.get(path, If_None_Match=first.headers["ETag"])
    assert (same.status, same.body, same.headers["ETag"]) == (304, None, first.headers["ETag"])
    await live.change({"metadata": {"labels": {"a": "b"}}})

    async def changed() -> bool:
        return (await backend.get(path, If_None_Match=first.headers["ETag"])).status == 200

    await live.until(changed)


async def test_pages_together_equal_the_list_of_the_cluster(
    api: Kubectl, live: Live, backend: Backend, serving_all: RecordedMetrics
) -> None:
    for first in range(0, 120, 20):  # more at once would time out on a busy machine
        await asyncio.gather(*(live.create(f"user-{first + number}", className="none") for number in range(20)))

    async def observed() -> bool:
        raws = api.list_all("userstorages", live.namespace)
        return all(raw.get("status", {}).get("observedGeneration") for raw in raws)

    await live.until(observed)
    expected = sorted(
        (summary(raw) for raw in api.list_all("userstorages", live.namespace)), key=lambda item: str(item["name"])
    )
    assert len(expected) == 120

    async def pages(query: str) -> tuple[list[Any], list[int]]:
        """Return the items of this test's namespace, and the sizes of all pages."""
        items, sizes, more = [], [], ""
        while True:
            page = await backend.get(f"/userstorages?{query}{more}")
            items += [item for item in page.body["items"] if item["namespace"] == live.namespace]
            sizes.append(len(page.body["items"]))
            if "continue" not in page.body["metadata"]:
                return items, sizes
            more = f"&continue={page.body['metadata']['continue']}"

    async def current() -> bool:
        return (await pages("limit=500"))[0] == expected

    await live.until(current)
    assert (await pages("limit=7"))[0] == expected
    assert await pages(f"namespace={live.namespace}") == (expected, [100, 20])
    assert (await pages("user=user-17&limit=1"))[0] == [item for item in expected if item["userID"] == "user-17"]


async def test_changes_are_served_without_a_new_list(live: Live, backend: Backend, serving_all: RecordedMetrics) -> None:
    # The next relist comes after an hour, so each change that is served came by the watch.
    # `make bench-read-api` measures how fast.
    await responded(backend, "/userstorages")
    path = f"/namespaces/{live.namespace}/userstorages/alice"
    user = f"alice-{live.namespace}"  # of this test alone: the namespaces of other tests may still be terminating
    await live.create(replicas=0, user_id=user)
    await responded(backend, path)
    await live.until_condition("Ready", "False", "Suspended")

    def lists() -> int:
        return serving_all.requests["list", "userstorages"]

    async def first_lists_are_over() -> bool:
        seen = lists()
        await asyncio.sleep(2)  # the list for kopf's watch may follow the first reconcile
        return lists() == seen

    await live.until(first_lists_are_over)
    seen = lists()
    changed = await live.change({"spec": {"className": "other"}})

    async def served() -> bool:
        answer = await backend.get(path)
        assert answer.body["metadata"]["stale"] is False  # its age depends on how busy the machine is
        return bool(answer.body["item"]["generation"] == changed["metadata"]["generation"])

    async def gone() -> bool:
        return await live.get() is None

    await live.until(served)
    assert (await backend.get(f"/users/{user}")).status == 200
    await live.delete(USER_STORAGES, "alice")
    await live.until(gone)
    await responded(backend, path, 404)
    assert (await backend.get(f"/users/{user}")).status == 404
    assert lists() == seen


async def test_operator_restricted_to_one_namespace_serves_no_other(live: Live, backend: Backend, port: int) -> None:
    await live.create(replicas=0)
    with serving(Config(namespaces=(live.namespace,), http_port=port, sweep_period=3600)):
        assert f"{live.namespace}/alice" in (await responded(backend, "/userstorages")).names
        for path in ("/userstorages?namespace=default", "/namespaces/default/userstorages/alice"):
            refused = await backend.get(path)
            assert refused.status == 404
            assert refused.body["detail"] == "namespace 'default' is not served by this operator"


async def test_last_known_state_is_served_as_stale_if_the_api_server_fails(
    api: Kubectl, live: Live, backend: Backend, port: int, proxy: FaultProxy
) -> None:
    await live.create(replicas=0)
    path = f"/namespaces/{live.namespace}/userstorages/alice"
    with serving(Config(namespaces=(live.namespace,), http_port=port, sweep_period=3600)):
        await live.until_condition("Ready", "False", "Suspended")
        assert (await responded(backend, path)).body["metadata"] == {"ageSeconds": 0, "stale": False}
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


async def test_api_server_is_read_until_the_caches_are_synced(
    live: Live, backend: Backend, port: int, proxy: FaultProxy
) -> None:
    # An incomplete cache is never served: until then the leader reads like a replica that does not watch.
    await live.create(replicas=0)
    proxy.fail(Fault("GET", "/pods", 503))
    with serving(Config(namespaces=(live.namespace,), http_port=port, sweep_period=3600)):
        assert (await responded(backend, "/userstorages")).names == [f"{live.namespace}/alice"]
        assert "caches" in (await backend.readiness())["failing"]
        proxy.fail(Fault("GET", "/(pods|userstorages)", 503))
        early = await responded(backend, f"/namespaces/{live.namespace}/userstorages/bob", 503)
        assert "Retry-After" in early.headers
        proxy.fail()
        await responded(backend, f"/namespaces/{live.namespace}/userstorages/bob", 404)


async def test_many_requests_cause_only_a_few_reviews(live: Live, backend: Backend, serving_all: RecordedMetrics) -> None:
    await live.create(replicas=0)
    await responded(backend, f"/namespaces/{live.namespace}/userstorages/alice")
    before = [serving_all.requests["create", review] for review in REVIEWS]

    async def ask() -> None:
        for name in ("alice", "missing", "absent"):
            await backend.get(f"/namespaces/{live.namespace}/userstorages/{name}")

    await asyncio.gather(*(ask() for _ in range(200)))
    assert sum(serving_all.requests["create", review] for review in REVIEWS) - sum(before) <= 4


async def test_metric_labels_contain_routes_but_no_users(live: Live, backend: Backend, serving_all: RecordedMetrics) -> None:
    await responded(backend, "/userstorages")
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
