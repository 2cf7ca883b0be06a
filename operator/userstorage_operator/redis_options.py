"""The options of commands that use Redis."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from userstorage_operator.redis_cache.settings import BadRedisSettings, RedisSettings

_FILE = click.Path(path_type=Path)


def redis_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options and give them to the command as `redis`: RedisSettings, None without a URL. A usage error names
    the option that is wrong.
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
            raise click.UsageError("--redis-url: missing, but other options of Redis are there")
        command(**others, redis=settings)

    decorated: Callable[..., None] = with_settings
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _option(flag: str, help_text: str, **attributes: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """An option that is also an environment variable of Redis' usual name, such as REDIS_URL."""
    variable = flag.removeprefix("--").replace("-", "_").upper()
    names = [f"USERSTORAGE_RUN_{variable}", *([variable] if variable.startswith("REDIS_") else [])]
    return click.option(flag, envvar=names, show_envvar=True, help=help_text, **attributes)


_OPTIONS = (
    _option(
        "--redis-url",
        "redis://, rediss:// or unix://; redis+sentinel://host:port,host:port/service/db or redis+cluster://host:port,... "
        "(rediss+ for TLS). Without: the memory of this process has to do.",
        default="",
        show_default=False,
    ),
    _option("--redis-username", "ACL user.", default="", show_default=False),
    _option("--redis-password-file", "File with the password; read again for every connection.", type=_FILE),
    _option("--redis-ca-file", "Who signs the certificate of Redis. Default: the authorities of the system.", type=_FILE),
    _option("--redis-cert-file", "Client certificate for Redis.", type=_FILE),
    _option("--redis-key-file", "Key of the client certificate.", type=_FILE),
    _option(
        "--redis-signing-key-file",
        "File with 16 bytes or more, the same for all replicas, that the values in Redis are sealed with. Without: who may "
        "write to Redis may also change what backends are told.",
        type=_FILE,
    ),
    _option("--cluster-name", "Tells several clusters on one Redis apart.", default="default"),
)
