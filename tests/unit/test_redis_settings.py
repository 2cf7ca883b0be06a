"""URLs and files of Redis: what they mean, and what is said where they are wrong."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from userstorage_operator.redis_cache.settings import BadRedisSettings, RedisSettings, RedisTarget, Topology, parse


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://cache", RedisTarget(Topology.SINGLE, (("cache", 6379),))),
        ("redis://cache:7000/3", RedisTarget(Topology.SINGLE, (("cache", 7000),), database=3)),
        ("redis://[fd00::1]:7000", RedisTarget(Topology.SINGLE, (("fd00::1", 7000),))),
        ("redis://:s%40cret@cache", RedisTarget(Topology.SINGLE, (("cache", 6379),), password="s@cret")),
        ("redis://me:secret@cache", RedisTarget(Topology.SINGLE, (("cache", 6379),), username="me", password="secret")),
        ("rediss://cache/", RedisTarget(Topology.SINGLE, (("cache", 6379),), tls=True)),
        ("unix:///run/redis.sock", RedisTarget(Topology.SINGLE, path="/run/redis.sock")),
        (
            "redis+sentinel://a:1,b/main/2",
            RedisTarget(Topology.SENTINEL, (("a", 1), ("b", 26379)), service="main", database=2),
        ),
        ("rediss+sentinel://a/main", RedisTarget(Topology.SENTINEL, (("a", 26379),), tls=True, service="main")),
        ("redis+cluster://a,b:7001", RedisTarget(Topology.CLUSTER, (("a", 6379), ("b", 7001)))),
        ("rediss+cluster://a/0", RedisTarget(Topology.CLUSTER, (("a", 6379),), tls=True)),
    ],
)
def test_a_url_says_where_redis_is(url: str, place: RedisTarget) -> None:
    assert parse(url) == place


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "begins with none of"),
        ("http://cache", "begins with none of"),
        ("cache:6379", "begins with none of"),
        ("redis://", "host is missing"),
        ("redis://cache:port", "its port is no number"),
        ("redis://cache:70000", "its port is no number"),
        ("redis://a,b", "several hosts"),
        ("redis://a,", "host is missing"),
        ("redis://cache/one", "the database is a number, not 'one'"),
        ("redis://cache/²", "the database is a number"),
        ("redis://cache/0/1", "too many parts"),
        ("redis://cache?db=1", "nothing may follow the path"),
        ("unix://run/redis.sock", "absolute path"),
        ("redis+sentinel://a", "name of the master is missing"),
        ("redis+cluster://a/1", "no other database than 0"),
        ("redis://[fd00::1", "no URL"),
    ],
)
def test_a_bad_url_is_refused_by_name(url: str, why: str) -> None:
    with pytest.raises(BadRedisSettings) as caught:
        parse(url)
    assert caught.value.message.startswith("--redis-url: ")
    assert why in caught.value.message


@given(st.text(max_size=40), st.sampled_from(["redis://me:hunter2@", "redis+sentinel://:hunter2@", "x://:hunter2@"]))
def test_any_text_is_a_place_or_an_error_without_the_password(text: str, start: str) -> None:
    try:
        told = repr(parse(start + text))
    except BadRedisSettings as error:
        told = f"{error.message} {error.__cause__!r}"
    assert "hunter2" not in told


def test_settings_never_show_the_password() -> None:
    assert "secret" not in repr(RedisSettings("redis://me:secret@cache"))


@pytest.fixture
def there(tmp_path: Path) -> Path:
    path = tmp_path / "there"
    path.touch()
    return path


@pytest.mark.parametrize(
    ("url", "options", "why"),
    [
        ("redis://a", {"password_file": Path("/nowhere")}, "--redis-password-file: /nowhere: No such file"),
        ("rediss://a", {"ca_file": Path("/nowhere")}, "--redis-ca-file: /nowhere: No such file"),
        ("rediss://a", {"cert_file": "there"}, "--redis-key-file: a client certificate needs"),
        ("rediss://a", {"key_file": "there"}, "--redis-cert-file: a client certificate needs"),
        ("redis://a", {"ca_file": "there"}, "--redis-ca-file: --redis-url is not of TLS"),
        ("redis://:secret@a", {"password_file": "there"}, "--redis-password-file: --redis-url has a password already"),
        ("redis://me:secret@a", {"username": "me"}, "--redis-username: --redis-url has a user already"),
        ("redis://a", {"username": "me"}, "--redis-password-file: a Redis user needs a password"),
        ("redis://a", {"cluster_name": ""}, "--cluster-name: ''"),
        ("redis://a", {"cluster_name": "a:b"}, "--cluster-name: 'a:b'"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(there: Path, url: str, options: dict[str, Any], why: str) -> None:
    real: dict[str, Any] = {name: there if value == "there" else value for name, value in options.items()}
    with pytest.raises(BadRedisSettings) as caught:
        RedisSettings(url, **real)
    assert caught.value.message.startswith(why)
    assert "secret" not in caught.value.message


def test_what_goes_together_is_taken(there: Path) -> None:
    settings = RedisSettings(
        "rediss://a", username="me", password_file=there, ca_file=there, cert_file=there, key_file=there, cluster_name="eu-1"
    )
    assert settings.target.tls
