"""The command line options for the connection to Redis, shared by several commands."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from userstorage_operator.redis_cache.settings import BadRedisSettings, RedisSettings

_FILE = click.Path(path_type=Path)


def redis_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for Redis to a click command. The command gets them as its parameter `redis`: RedisSettings, or None if
    no URL is set. A usage error names the invalid option.
    """

    @wraps(command)
    def with_settings(
        redis_url: str,
        redis_username: str,
        redis_password_file: Path | None,
        redis_ca_file: Path | None,
        redis_cert_file: Path | None,
        redis_key_file: Path | None,
        redis_signing_key_file: Path | None,
        cluster_name: str,
        **others: Any,
    ) -> None:
        settings = None
        if redis_url:
            try:
                settings = RedisSettings(
                    redis_url,
                    cluster_name,
                    redis_username,
                    redis_password_file,
                    redis_ca_file,
                    redis_cert_file,
                    redis_key_file,
                    redis_signing_key_file,
                )
            except BadRedisSettings as error:
                raise click.UsageError(error.message) from None
        elif redis_username or any(
            (redis_password_file, redis_ca_file, redis_cert_file, redis_key_file, redis_signing_key_file)
        ):
            raise click.UsageError("--redis-url: missing, but other options for Redis are set")
        command(**others, redis=settings)

    decorated: Callable[..., None] = with_settings
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _option(flag: str, help_text: str, **attributes: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the decorator that adds the option `flag` to a command. An option `--redis-…` also reads the environment variable
    with the usual name for Redis, such as REDIS_URL.
    """
    variable = flag.removeprefix("--").replace("-", "_").upper()
    names = [f"USERSTORAGE_RUN_{variable}", *([variable] if variable.startswith("REDIS_") else [])]
    return click.option(flag, envvar=names, show_envvar=True, help=help_text, **attributes)


_OPTIONS = (
    _option(
        "--redis-url",
        "redis://, rediss:// or unix://; redis+sentinel://host:port,host:port/service/db or redis+cluster://host:port,... "
        "(rediss+ for TLS). If unset, replicas share nothing through Redis.",
        default="",
        show_default=False,
    ),
    _option("--redis-username", "Redis ACL user.", default="", show_default=False),
    _option("--redis-password-file", "File with the password; it is read again for every connection.", type=_FILE),
    _option("--redis-ca-file", "CA certificates for the certificate of Redis. Default: those of the system.", type=_FILE),
    _option("--redis-cert-file", "Client certificate for Redis (PEM).", type=_FILE),
    _option("--redis-key-file", "Private key of the client certificate (PEM).", type=_FILE),
    _option(
        "--redis-signing-key-file",
        "File with a key of 16 bytes or more, the same for all replicas, that signs the values in Redis. If unset, anyone who "
        "can write to Redis can change what the read API returns.",
        type=_FILE,
    ),
    _option(
        "--cluster-name",
        "Name of this cluster in the keys; must be unique among the clusters that share one Redis.",
        default="default",
    ),
)
