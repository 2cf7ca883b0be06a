"""Settings of Redis: parsing of URLs, checks of files, and the messages of errors."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from userstorage_operator.redis_cache.settings import BadRedisSettings, RedisSettings, RedisTarget, Topology, parse


@pytest.mark.parametrize(
    ("url", "target"),
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
def test_url_is_parsed(url: str, target: RedisTarget) -> None:
    assert parse(url) == target


@pytest.mark.parametrize(
    ("url", "detail"),
    [
        ("", "unknown scheme; must be redis://"),
        ("http://cache", "unknown scheme; must be redis://"),
        ("cache:6379", "unknown scheme; must be redis://"),
        ("redis://", "host is missing"),
        ("redis://cache:port", "its port is not a number"),
        ("redis://cache:70000", "its port is not a number"),
        ("redis://a,b", "several hosts"),
        ("redis://a,", "host is missing"),
        ("redis://cache/one", "the database must be a number, not 'one'"),
        ("redis://cache/²", "the database must be a number"),
        ("redis://cache/" + "9" * 5000, "the database must be a number"),
        ("redis://cache/0/1", "too many segments"),
        ("redis://cache?db=1", "query and fragment are not supported"),
        ("unix://run/redis.sock", "absolute path"),
        ("redis+sentinel://a", "name of the master is missing"),
        ("redis+cluster://a/1", "only database 0"),
        ("redis://[fd00::1", "not a valid URL"),
    ],
)
def test_malformed_url_is_refused_with_its_flag(url: str, detail: str) -> None:
    with pytest.raises(BadRedisSettings) as caught:
        parse(url)
    assert caught.value.message.startswith("--redis-url: ")
    assert detail in caught.value.message


@given(st.text(max_size=40), st.sampled_from(["redis://me:hunter2@", "redis+sentinel://:hunter2@", "x://:hunter2@"]))
def test_no_text_puts_the_password_into_an_error_or_repr(text: str, start: str) -> None:
    try:
        shown = repr(parse(start + text))
    except BadRedisSettings as error:
        shown = f"{error.message} {error.__cause__!r}"
    assert "hunter2" not in shown


def test_repr_hides_the_password() -> None:
    assert "secret" not in repr(RedisSettings("redis://me:secret@cache"))


@pytest.fixture
def existing_file(tmp_path: Path) -> Path:
    path = tmp_path / "existing"
    path.touch()
    return path


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("redis://a", {"password_file": Path("/nowhere")}, "--redis-password-file: /nowhere: No such file"),
        ("rediss://a", {"ca_file": Path("/nowhere")}, "--redis-ca-file: /nowhere: No such file"),
        ("rediss://a", {"cert_file": "existing"}, "--redis-key-file: a client certificate needs"),
        ("rediss://a", {"key_file": "existing"}, "--redis-cert-file: a client certificate needs"),
        ("redis://a", {"ca_file": "existing"}, "--redis-ca-file: --redis-url does not use TLS"),
        ("redis://:secret@a", {"password_file": "existing"}, "--redis-password-file: --redis-url has a password already"),
        ("redis://me:secret@a", {"username": "me"}, "--redis-username: --redis-url has a user already"),
        ("redis://a", {"username": "me"}, "--redis-password-file: a Redis user needs a password"),
        ("redis://a", {"cluster_name": ""}, "--cluster-name: ''"),
        ("redis://a", {"cluster_name": "a:b"}, "--cluster-name: 'a:b'"),
        ("redis://a", {"cluster_name": "eu-\u0661"}, "--cluster-name: 'eu-"),
        ("redis://a", {"cluster_name": "-."}, "--cluster-name: '-.'"),
    ],
)
def test_contradicting_settings_are_refused_with_their_flag(
    existing_file: Path, url: str, options: dict[str, Any], message: str
) -> None:
    real: dict[str, Any] = {name: existing_file if value == "existing" else value for name, value in options.items()}
    with pytest.raises(BadRedisSettings) as caught:
        RedisSettings(url, **real)
    assert caught.value.message.startswith(message)
    assert "secret" not in caught.value.message


def test_all_settings_of_tls_and_login_together_are_accepted(existing_file: Path) -> None:
    settings = RedisSettings(
        "rediss://a",
        username="me",
        password_file=existing_file,
        ca_file=existing_file,
        cert_file=existing_file,
        key_file=existing_file,
        cluster_name="eu-1",
    )
    assert settings.target.tls
