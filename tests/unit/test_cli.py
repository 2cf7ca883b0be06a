"""Options of the command line, and the usage errors for invalid ones."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from userstorage_operator import cli
from userstorage_operator.config import Config
from userstorage_operator.gate_app import GateConfig
from userstorage_operator.redis_cache.settings import RedisSettings
from userstorage_operator.runtime import logs
from userstorage_operator.runtime.logs import Logs


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Collect the configurations with which an operator was started."""
    configs: list[Config] = []

    async def serve(config: Config, _: Logs) -> None:
        configs.append(config)

    monkeypatch.setattr(cli, "_serve", serve)
    monkeypatch.setattr(logs, "catch_uncaught", lambda: None)  # it would change the hooks of the test process
    return configs


def test_gate_loads_neither_kopf_nor_redis() -> None:
    code = "import sys, userstorage_operator.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "userstorage_operator.gate_app" in loaded
    assert [name for name in loaded if name.partition(".")[0] in {"kopf", "opentelemetry", "redis"}] == []


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli.main, ["run", *arguments], env=environment)


def test_redis_is_disabled_without_a_url(served: list[Config]) -> None:
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
def test_redis_options_are_read_from_flags_or_environment_variables(
    served: list[Config], arguments: list[str], environment: dict[str, Any]
) -> None:
    assert run(*arguments, **environment).exit_code == 0
    assert [config.redis for config in served] == [RedisSettings("redis://cache/1", cluster_name="eu-1")]


def test_redis_username_and_password_file_are_read_from_environment(served: list[Config], tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.touch()
    given = {"REDIS_URL": "redis://cache", "REDIS_USERNAME": "me", "REDIS_PASSWORD_FILE": str(password)}
    assert run(**given).exit_code == 0
    assert [config.redis for config in served] == [RedisSettings("redis://cache", username="me", password_file=password)]


def test_invalid_option_is_named_without_its_password(served: list[Config]) -> None:
    result = run("--redis-url=redis://:hunter2@cache/one")
    assert result.exit_code == 2
    assert "--redis-url: the database must be a number" in result.output
    assert "hunter2" not in result.output
    assert served == []


def test_redis_options_without_a_url_are_a_usage_error(served: list[Config]) -> None:
    result = run("--redis-username=me")
    assert result.exit_code == 2
    assert "--redis-url: missing" in result.output
    assert served == []


@pytest.mark.parametrize("option", ["--workers", "--http-port", "--sweep-period"])
@pytest.mark.parametrize("text", ["\u0663", "1_0", " 5", "nan", "inf", "1e3", "\u00b2", "-1", "9" * 5000])
def test_number_in_other_than_ascii_digits_is_a_usage_error(served: list[Config], option: str, text: str) -> None:
    result = run(f"{option}={text}")
    assert result.exit_code == 2
    assert option in result.output
    assert served == []


def test_numbers_are_read(served: list[Config]) -> None:
    assert run("--workers=5", "--http-port=0", "--sweep-period=2.5").exit_code == 0
    assert [(config.workers, config.http_port, config.sweep_period) for config in served] == [(5, 0, 2.5)]


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> list[GateConfig]:
    """Collect the configurations with which a gate was started."""
    configs: list[GateConfig] = []

    async def serve(config: GateConfig, _: Logs) -> None:
        configs.append(config)

    monkeypatch.setattr(cli, "_serve_gate", serve)
    monkeypatch.setattr(logs, "catch_uncaught", lambda: None)  # it would change the hooks of the test process
    return configs


def test_options_of_the_gate_are_read_from_flags_or_environment_variables(gates: list[GateConfig]) -> None:
    runner, keys = CliRunner(), Path("/run/gate/keys")
    options = ["--key-file=/run/gate/keys", "--port=9444", "--max-age=2m30s", "--namespace=a", "--namespace=b"]
    assert runner.invoke(cli.main, ["gate", *options]).exit_code == 0
    environment = {"USERSTORAGE_GATE_KEY_FILE": "/run/gate/keys", "USERSTORAGE_GATE_HTTP_PORT": "0"}
    assert runner.invoke(cli.main, ["gate"], env=environment).exit_code == 0
    assert gates == [
        GateConfig(keys, namespaces=("a", "b"), port=9444, max_age=150.0),
        GateConfig(keys, http_port=0, max_age=900.0),
    ]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ([], "--key-file"),
        (["--key-file=x", "--max-age=74s"], "less than 75s"),
        (["--key-file=x", "--max-age=15"], "is not a duration"),
        (["--key-file=x", "--port=0"], "--port"),
        (["--key-file=x", "--max-age=\u0661\u0665m"], "is not a duration"),
    ],
)
def test_invalid_option_of_the_gate_is_a_usage_error(gates: list[GateConfig], options: list[str], named: str) -> None:
    result = CliRunner().invoke(cli.main, ["gate", *options])
    assert result.exit_code == 2
    assert named in result.output
    assert gates == []
