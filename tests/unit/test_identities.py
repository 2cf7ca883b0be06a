"""Every place that takes the raw user id, with ids as providers send them and with hostile ones.

Names and labels are in test_names.py, log lines in test_logs.py; children and the selectable field are tried on the API server (tests/component).
"""

import asyncio
import json
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from kubectl_userstorage.explaining import explain
from support.builders import NOW, class_object, desired_of, dufs_class, snapshot_of, storage_object
from support.identities import ALL, VALID
from userstorage_operator.api.conditions import Condition, merge
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.names import ANNOTATION_USER_ID, slug
from userstorage_operator.api.userstorageclass import BUILT_IN, UserStorageClass
from userstorage_operator.plan.exposure import host_path
from userstorage_operator.plan.planner import plan
from userstorage_operator.readapi.routes import ReadApi
from userstorage_operator.readmodel.caller import Access, Caller
from userstorage_operator.readmodel.query import Aged, Page, Query
from userstorage_operator.readmodel.summary import summary
from userstorage_operator.redis_cache.codec import Codec
from userstorage_operator.redis_cache.index import ENTRIES_PER_ROW, Range, Row, hashed, parse
from userstorage_operator.redis_cache.keys import Keys

BASE_PATH = {"basePath": "/of-${slug}-/"}
CLASSES = {
    "FileBrowser": UserStorageClass.parse(class_object(browser={"flavor": "FileBrowser", **BASE_PATH})),
    "Quantum": UserStorageClass.parse(class_object(browser={"flavor": "Quantum", **BASE_PATH})),
    "Copyparty": UserStorageClass.parse(
        class_object(browser={"flavor": "Copyparty", "permissions": {"share": False}, **BASE_PATH})
    ),
    "Dufs": dufs_class(browser={"flavor": "Dufs", **BASE_PATH}),
    "Custom": dufs_class(browser={"flavor": "Custom", "image": "example.org/files:1", **BASE_PATH}),
}
CODEC, KEYS = Codec(b""), Keys("default")
Ids = pytest.mark.parametrize("user_id", ALL)


@pytest.mark.parametrize("flavor", CLASSES)
@given(st.sampled_from(ALL) | VALID)
def test_pod_has_the_raw_id_in_one_place_at_most(flavor: str, user_id: str) -> None:
    """Commands, shells, environments, URL paths and configuration files of a pod have the slug. Programs that pin their owner get
    the raw id, where nothing interprets it.
    """
    specs = {without_slug(without_owner(flavor, user), slug(user)) for user in (user_id, like(flavor, user_id))}
    assert len(specs) == 1


def like(flavor: str, user_id: str) -> str:
    """Return a harmless user whose pod has the same parts."""
    return "alice" if flavor != "Quantum" or pinned_directory(user_id) else "a/b"


def pinned_directory(user_id: str) -> bool:
    mounts = desired_of(storage_object(user_id), CLASSES["Quantum"]).pod["spec"]["containers"][0]["volumeMounts"]
    return f"/owners/{user_id}" in [mount["mountPath"] for mount in mounts]


def without_owner(flavor: str, user_id: str) -> dict[str, Any]:
    """Return the pod spec, with a placeholder in the one place where the flavor expects its owner."""
    spec: dict[str, Any] = desired_of(storage_object(user_id), CLASSES[flavor]).pod["spec"]
    literal = user_id.replace("$", "$$")  # the kubelet expands $(NAME) in commands and arguments
    match flavor:
        case "FileBrowser":
            command = spec["initContainers"][0]["command"]
            assert command[4] == literal, "an argument of the script, which is the same for every user"
            command[4] = "OWNER"
        case "Copyparty":
            args = spec["containers"][0]["args"]
            [place] = [number for number, arg in enumerate(args) if arg.startswith("--idp-hm-usr=")]
            assert args[place] == f"--idp-hm-usr=\nX-Forwarded-User\n{literal}\nowner", "no line break can be in a header"
            args[place] = "OWNER"
        case "Quantum":
            for mount in spec["containers"][0]["volumeMounts"]:
                if mount["mountPath"] == f"/owners/{user_id}":
                    mount["mountPath"] = "OWNER"
        case _:
            pass
    return spec


def without_slug(value: object, user: str) -> str:
    """Return the value as JSON, with a placeholder for the slug where it may be."""
    text = json.dumps(value).replace(f"of-{user}-", "of-SLUG-").replace(f'"user-storage-{user}"', '"user-storage-SLUG"')
    for label in ("userId", "userstorage.dev/slug"):
        text = text.replace(f'"{label}": "{user}"', f'"{label}": "SLUG"')
    return text


@given(st.sampled_from(ALL) | VALID)
def test_children_have_the_raw_id_as_an_annotation_only(user_id: str) -> None:
    for field in ("network_policy", "pvc", "service", "pod"):
        texts = set[str]()
        for each in (user_id, "alice"):
            child = getattr(desired_of(storage_object(each), CLASSES["Dufs"]), field)
            assert child["metadata"]["annotations"].pop(ANNOTATION_USER_ID) == each
            for covers_the_name in ("userstorage.dev/pod-hash", "userstorage.dev/spec-hash", "userstorage.dev/base-path"):
                child["metadata"]["annotations"].pop(covers_the_name, None)
            texts.add(without_slug(child, slug(each)))
        assert len(texts) == 1


class AskedFor:
    """A reader that has no UserStorage and records the queries; reviews that admit every caller."""

    def __init__(self) -> None:
        self.queries: list[Query] = []

    async def page(self, query: Query) -> Aged[Page]:
        self.queries.append(query)
        return Aged(Page((), None), 0.0, stale=False)

    async def caller(self, _: str) -> Caller:
        return Caller("backend")

    async def allows(self, _: Caller, __: Access) -> bool:
        return True


def users_asked_for(paths: list[str]) -> list[str | None]:
    """Return the user of each request, sent as the bytes of the path say."""

    async def ask() -> list[str | None]:
        asked: Any = AskedFor()
        application = web.Application()
        application.add_subapp("/v1", ReadApi(asked, asked, (), "0").application())
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        found: list[str | None] = []
        for path in paths:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n"
            writer.write(head.encode())
            await reader.read()
            writer.close()
            found.append(asked.queries.pop().user if asked.queries else None)
        await runner.cleanup()
        return found

    return asyncio.run(ask())


def test_url_of_the_read_api_leads_to_the_user() -> None:
    encoded = [quote(user_id, safe="").replace(".", "%2e") for user_id in ALL]
    assert users_asked_for([f"/v1/users/{user}" for user in encoded]) == list(ALL)
    assert users_asked_for([f"/v1/userstorages?user={user}" for user in encoded]) == list(ALL)
    assert users_asked_for([f"/v1/userstorages?{urlencode({'user': user_id})}" for user_id in ALL]) == list(ALL)


@given(st.lists(VALID, min_size=20, max_size=20))
def test_url_of_the_read_api_leads_to_any_user(users: list[str]) -> None:
    encoded = ["".join(f"%{byte:02x}" for byte in user_id.encode()) for user_id in users]
    assert users_asked_for([f"/v1/users/{user}" for user in encoded]) == users


@given(st.sampled_from(ALL) | VALID, VALID)
def test_redis_has_a_hash_of_the_id(user_id: str, other: str) -> None:
    found = Row.of(summary(storage_object(user_id)), CODEC)
    assert [parse(member.encode(), CODEC) for member in found.members(CODEC)] == [found] * ENTRIES_PER_ROW
    assert (hashed(user_id, CODEC) == hashed(other, CODEC)) == (user_id == other)
    assert found.user.isalnum()
    assert Range.of(Query(user=user_id), CODEC) is not None


@given(st.sampled_from(ALL) | VALID)
def test_summary_has_the_id_as_it_was_sent(user_id: str) -> None:
    assert json.loads(json.dumps(summary(storage_object(user_id))))["userID"] == user_id


@Ids
def test_message_that_quotes_the_id_is_one_line_for_status_event_and_plugin(user_id: str) -> None:
    exposed = UserStorageClass.parse(class_object(network={"expose": "Ingress", "hostTemplate": f"{'a' * 63}${{slug}}"}))
    raw = storage_object(user_id)
    with pytest.raises(InvalidSpec) as refused:
        host_path(snapshot_of(raw).storage, exposed)
    [condition] = merge((), [Condition("Ready", False, "InvalidSpec", refused.value.message)], 3, NOW)
    assert repr(user_id) in condition["message"]
    shown = list(explain(raw | {"status": {"conditions": [condition], "observedGeneration": 3}}, ""))
    assert f"      {condition['message']}" in shown
    assert all(line.isprintable() for line in shown)


@pytest.mark.parametrize("user_id", ["", " a", "a\n", "a\x00b", "m\u00fcller", "a" * 256])
def test_id_that_an_older_crd_admits_is_refused_by_the_operator(user_id: str) -> None:
    raw = storage_object(user_id)
    found = plan(snapshot_of(raw, BUILT_IN), NOW)
    assert found.steps == ()
    assert found.spec_error is not None
    assert (found.spec_error.reason, "spec.userID: must be" in found.spec_error.message) == ("InvalidSpec", True)


@Ids
def test_header_carries_the_id(user_id: str) -> None:
    """Check what a proxy sends to the browser: no id can add a header or end the request."""

    async def received() -> str:
        application = web.Application()

        async def answer(request: web.Request) -> web.Response:
            return web.json_response(request.headers["X-Forwarded-User"])

        application.router.add_get("/", answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
            async with session.get(url, headers={"X-Forwarded-User": user_id}) as response:
                found: str = await response.json()
        await runner.cleanup()
        return found

    assert asyncio.run(received()) == user_id
