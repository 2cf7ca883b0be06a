"""Labels and annotations of podMetadata change in place on a running pod."""

import asyncio
import json

import pytest

from support.kubectl import Kubectl
from support.live import Live
from userstorage_operator.api.resources import Kind

pytestmark = [pytest.mark.kwok]

USERS = [f"user-{number}" for number in range(20)]
KEYS = ("cost-center", "example.org/note")


async def until_metadata(live: Live, expected: str | None) -> None:
    """Wait until every pod has the label and the annotation with that value; until they are gone, if it is None."""

    async def is_so() -> bool:
        pods = [(await live.pod(user))["metadata"] for user in USERS]
        found = {(pod["labels"].get(KEYS[0]), pod["annotations"].get(KEYS[1])) for pod in pods}
        return found == {(expected, expected)}

    await live.until(is_so)


async def test_pod_metadata_changes_in_place_and_interrupts_no_user(live: Live, api: Kubectl, operator: None) -> None:
    await asyncio.gather(*(live.create(user, podMetadata={}) for user in USERS))
    before = {user: (await live.until_ready(user))["status"]["podUID"] for user in USERS}
    for user in USERS[:3]:  # by kubectl: the test's client has the operator's field manager
        other = json.dumps({"metadata": {"labels": {"other": "x"}, "annotations": {"other": "y"}}})
        await asyncio.to_thread(
            api.run, "patch", "pod", f"user-storage-{user}", "-n", live.namespace, "--type=merge", "-p", other
        )
    for value in ("42", "43", None):
        metadata = {"labels": {KEYS[0]: value}, "annotations": {KEYS[1]: value}}
        await asyncio.gather(*(live.change({"spec": {"podMetadata": metadata}}, user) for user in USERS))
        await until_metadata(live, value)
    for user in USERS:
        status = (await live.until_ready(user))["status"]
        assert status["podUID"] == before[user]
        pod = (await live.pod(user))["metadata"]
        assert (pod["labels"].get("other"), pod["annotations"].get("other")) == (
            ("x", "y") if user in USERS[:3] else (None, None)
        )
        assert pod["labels"]["userId"] == user


async def test_foreign_value_of_a_key_of_the_user_is_set_back(live: Live, api: Kubectl, operator: None) -> None:
    await live.create(podMetadata={"labels": {"team": "blue"}})
    uid = (await live.until_ready())["status"]["podUID"]
    labels = (await live.pod())["metadata"]["labels"]
    assert (labels["app"], labels["userId"], labels["team"]) == ("filebrowser", "alice", "blue")
    red = json.dumps({"metadata": {"labels": {"team": "red"}}})
    await asyncio.to_thread(api.run, "patch", "pod", "user-storage-alice", "-n", live.namespace, "--type=merge", "-p", red)

    async def is_blue() -> bool:
        return bool((await live.pod())["metadata"]["labels"]["team"] == "blue")

    await live.until(is_blue)
    pod = await live.child(Kind.POD)
    assert pod is not None
    assert pod["metadata"]["uid"] == uid


async def test_deferred_update_changes_metadata_but_keeps_what_the_pod_was_built_from(live: Live, operator: None) -> None:
    await live.create(lifecycle={"updateStrategy": "WhenSuspended"}, podMetadata={})
    before = (await live.until_ready())["status"]
    change = {"lifecycle": {"terminationGracePeriodSeconds": 7}, "podMetadata": {"labels": {"team": "blue"}}}
    await live.change({"spec": change})

    async def is_blue() -> bool:
        return bool((await live.pod())["metadata"]["labels"].get("team") == "blue")

    await live.until(is_blue)
    await live.until_condition("PodUpToDate", "False", "UpdateDeferred")
    after = (await live.until_ready())["status"]
    assert (after["podUID"], after["appliedHash"]) == (before["podUID"], before["appliedHash"])
