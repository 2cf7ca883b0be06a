"""`userstorage-operator cache` against a real Redis and a real API server."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.inprocess import serving
from support.kubectl import PATIENCE
from support.live import Live
from support.operator_process import PROGRAM
from support.redis_replicas import until
from testservers.redis import RedisServer
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.config import Config
from userstorage_operator.redis_cache.codec import Codec, Entry
from userstorage_operator.redis_cache.keys import Keys
from userstorage_operator.redis_cache.settings import RedisSettings

KEYS = Keys("default")


@pytest.fixture
def mirrored(live: Live, redis_server: RedisServer) -> Iterator[None]:
    """Run an operator that keeps a mirror of the test's namespace."""
    redis = RedisSettings(redis_server.url, timeout=1.0)
    with serving(Config(namespaces=(live.namespace,), http_port=0, sweep_period=3600, redis=redis)):
        yield


async def ask(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [PROGRAM, "cache", *options]
    environment = {**os.environ, "REDIS_URL": url}
    return await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


async def report_without_drift(url: str) -> Any:
    """Return the JSON report as soon as there is no drift."""

    async def report() -> Any:
        done = await ask(url, "-o", "json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout) if done.returncode == 0 else None

    return await until(report)


async def test_cache_report_has_age_term_key_counts_and_hit_ratio(
    live: Live, mirrored: None, redis_server: RedisServer
) -> None:
    for name in ("alice", "bob"):
        await live.create(name)
        await live.until_ready(name)
    report = await report_without_drift(redis_server.url)
    assert report["mirror"]["complete"] is True
    assert report["mirror"]["namespaces"] == [live.namespace]
    assert 0 <= report["mirror"]["ageSeconds"] < PATIENCE
    assert report["keys"] == {"head": 1, "index": 1, "summary": 2}
    assert report["summaries"]["count"] == 2
    assert 0 < report["hitRatio"] <= 1
    assert report["drift"] == {"missing": [], "extra": [], "differing": []}
    text = await ask(redis_server.url)
    assert text.returncode == 0
    assert f"mirror of {live.namespace}: complete" in text.stdout
    assert "drift: none" in text.stdout


async def test_cache_report_names_the_objects_that_differ_from_the_cluster(live: Live, redis_server: RedisServer) -> None:
    redis = RedisSettings(redis_server.url, timeout=1.0)
    with serving(Config(namespaces=(live.namespace,), http_port=0, sweep_period=3600, redis=redis)):
        for name in ("alice", "bob", "carol"):
            await live.create(name, replicas=0)
            await live.until_condition("Ready", "False", "Suspended", name)
        await report_without_drift(redis_server.url)
    # No operator runs any more, so Redis keeps what changes now.
    for raw in (await live.client.list_all(USER_STORAGES, live.namespace))[0]:
        await live.client.merge_patch(
            USER_STORAGES, live.namespace, raw["metadata"]["name"], {"metadata": {"finalizers": None}}
        )
        if raw["metadata"]["name"] == "bob":
            redis_server.cli("set", KEYS.summary(raw["metadata"]["uid"]), "garbage")
    await live.delete(USER_STORAGES, "carol")
    await live.create("dave")
    done = await ask(redis_server.url)
    assert done.returncode == 1, done.stderr
    for line in (f"missing {live.namespace}/dave", f"extra {live.namespace}/carol", f"differing {live.namespace}/bob"):
        assert f"drift: {line}" in done.stdout
    assert "rejected values: garbage 1" in done.stdout


async def test_summary_of_another_object_is_reported_as_differing(live: Live, redis_server: RedisServer) -> None:
    redis = RedisSettings(redis_server.url, timeout=1.0)
    with serving(Config(namespaces=(live.namespace,), http_port=0, sweep_period=3600, redis=redis)):
        await live.create(replicas=0)
        await live.until_condition("Ready", "False", "Suspended")
        await report_without_drift(redis_server.url)
    found = await live.get()
    assert found is not None
    key = KEYS.summary(found["metadata"]["uid"])
    forged = Entry({"uid": "another"}, "another", int(found["metadata"]["resourceVersion"]))
    redis_server.cli("set", key, Codec(b"").seal(key, forged).decode())
    done = await ask(redis_server.url, "-o", "json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["drift"]["differing"] == [f"{live.namespace}/alice"]
    assert json.loads(done.stdout)["rejected"] == {"other_object": 1}


async def test_missing_mirror_is_reported(kubeconfig: None, redis_server: RedisServer) -> None:
    done = await ask(redis_server.url)
    assert done.returncode == 1
    assert "mirror: none, or not valid" in done.stdout


async def test_unreachable_redis_is_reported_without_a_traceback(kubeconfig: None, redis_server: RedisServer) -> None:
    redis_server.kill()
    done = await ask(redis_server.url)
    assert done.returncode == 1
    assert "--redis-url: Redis does not answer" in done.stderr
    assert "Traceback" not in done.stderr


async def test_wrong_password_is_reported_by_option_and_not_printed(kubeconfig: None, new_redis: Any, tmp_path: Path) -> None:
    server = new_redis(password="the-right-one")
    password = tmp_path / "password"
    password.write_text("sesame")
    done = await ask(server.url, f"--redis-password-file={password}")
    assert done.returncode == 1
    assert "--redis-password-file" in done.stderr
    assert "sesame" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


async def test_missing_url_is_reported_by_option(kubeconfig: None) -> None:
    done = await ask("")
    assert done.returncode == 2
    assert "--redis-url: missing" in done.stderr
