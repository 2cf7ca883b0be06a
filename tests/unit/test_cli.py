"""What the command line takes, and what it says where it does not."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from userstorage_operator import cli
from userstorage_operator.config import Config
from userstorage_operator.redis_cache.settings import RedisSettings
from userstorage_operator.runtime import logs
from userstorage_operator.runtime.logs import Logs


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The configurations that an operator was started with."""
    configs: list[Config] = []

    async def serve(config: Config, _: Logs) -> None:
        configs.append(config)

    monkeypatch.setattr(cli, "_serve", serve)
    monkeypatch.setattr(logs, "catch_uncaught", lambda: None)  # for a process of its own, not for that of the tests
    return configs


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli.main, ["run", *arguments], env=environment)


def test_without_a_url_there_is_no_redis(served: list[Config]) -> None:
    assert run().exit_code == 0
    assert served == [Config()]


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--redis-url=redis://cache/1", "--cluster-name=eu-1"], {}),
        (["--cluster-name=eu-1"], {"REDIS_URL": "redis://cache/1"}),
        ([], {"USERSTORAGE_RUN_REDIS_URL": "redis://cache/1", "USERSTORAGE_RUN_CLUSTER_NAME": "eu-1"}),
    ],
)
def test_redis_is_told_by_flags_or_variables(served: list[Config], arguments: list[str], environment: dict[str, Any]) -> None:
    assert run(*arguments, **environment).exit_code == 0
    assert [config.redis for config in served] == [RedisSettings("redis://cache/1", cluster_name="eu-1")]


def test_files_are_told_by_variables_too(served: list[Config], tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.touch()
    given = {"REDIS_URL": "redis://cache", "REDIS_USERNAME": "me", "REDIS_PASSWORD_FILE": str(password)}
    assert run(**given).exit_code == 0
    assert [config.redis for config in served] == [RedisSettings("redis://cache", username="me", password_file=password)]


def test_a_wrong_option_is_named_and_its_password_is_not(served: list[Config]) -> None:
    result = run("--redis-url=redis://:hunter2@cache/one")
    assert result.exit_code == 2
    assert "--redis-url: the database must be a number" in result.output
    assert "hunter2" not in result.output
    assert served == []


def test_options_of_redis_without_a_url_are_no_options(served: list[Config]) -> None:
    result = run("--redis-username=me")
    assert result.exit_code == 2
    assert "--redis-url: missing" in result.output
    assert served == []
