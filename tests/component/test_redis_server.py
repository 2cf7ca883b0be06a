"""The Redis server of the tests and the demo, in each topology."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from localcluster import ClusterError
from localcluster.progress import silent
from testservers import redis
from testservers.redis import RedisServer

NewRedis = Callable[..., RedisServer]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"password": "secret"},
        {"user": "operator", "password": "secret"},
        {"tls": True},
        {"unix_socket": True},
        {"cluster": True},
    ],
    ids=lambda options: "+".join(options) or "bare",
)
def test_server_stores_values(new_redis: NewRedis, options: dict[str, Any]) -> None:
    server = new_redis(**options)
    server.cli("set", "name", "value")
    assert server.cli("get", "name") == "value"


def test_killed_server_restarts_empty_on_the_same_port(redis_server: RedisServer) -> None:
    redis_server.cli("set", "name", "value")
    redis_server.kill()
    with pytest.raises(ClusterError, match="Could not connect"):
        redis_server.cli("get", "name")
    redis_server.start()
    assert redis_server.cli("get", "name") == ""


def test_full_server_refuses_writes(new_redis: NewRedis) -> None:
    with pytest.raises(ClusterError, match="OOM"):
        new_redis(maxmemory="512kb").cli("set", "name", "value")


def test_replica_refuses_writes(new_redis: NewRedis) -> None:
    with pytest.raises(ClusterError, match="READONLY"):
        new_redis(replica_of=new_redis()).cli("set", "name", "value")


def test_sentinel_knows_its_master(new_redis: NewRedis) -> None:
    master = new_redis()
    sentinel = new_redis(sentinel_of=master)
    assert sentinel.cli("sentinel", "get-master-addr-by-name", redis.SENTINEL_SERVICE).split() == [
        redis.ADDRESS,
        str(master.port),
    ]


def test_redis_started_by_up_runs_until_down(tmp_path: Path) -> None:
    url = redis.up(tmp_path, silent)
    assert url is not None
    assert redis.up(tmp_path, silent) == url == (tmp_path / "redis-url").read_text().strip()
    redis.down(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((redis.ADDRESS, urlsplit(url).port or 0), timeout=1)
