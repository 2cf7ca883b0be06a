"""The command line of the operator. Every option can also be set by an environment variable."""

import asyncio
import gc
import re
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click
import structlog
import uvloop

from userstorage_operator import gate_app, uninstall
from userstorage_operator.api.errors import InvalidSpec, OperatorError
from userstorage_operator.api.quantities import parse_duration
from userstorage_operator.config import Config, VolumeStats
from userstorage_operator.gate_app import GateConfig
from userstorage_operator.kube.client import KubeClient, NoopObserver
from userstorage_operator.kube.login import in_cluster, login, own_namespace
from userstorage_operator.redis_cache.settings import RedisSettings
from userstorage_operator.redis_options import redis_options
from userstorage_operator.runtime import logs

log = structlog.get_logger(__name__)

_DEFAULTS = Config()
_GATE_DEFAULTS = GateConfig(key_file=Path())
_AGE_MIN = 75.0
GC_THRESHOLD = (10_000, 20, 50)
"""Of Python's garbage collector: a page of a list has thousands of dicts, which by default cause many collections."""


class _Integer(click.IntRange):
    """An integer in ASCII digits. `int` also reads those of other scripts, spaces and underscores."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the integer. Raises click's usage error for any other text."""
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value) is None:
            self.fail(f"{value!r} is not a valid integer.", param, ctx)
        return super().convert(value, param, ctx)


class _Seconds(click.FloatRange):
    """A number of seconds in ASCII digits. `float` also reads `nan`, `inf` and digits of other scripts."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the seconds. Raises click's usage error for any other text."""
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}([.][0-9]{1,9})?", value) is None:
            self.fail(f"{value!r} is not a valid number of seconds.", param, ctx)
        return super().convert(value, param, ctx)


class _Duration(click.ParamType[float]):
    """A duration such as 15m, in seconds; it is longer than the pause between two bookmarks of a watch."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds. Raises click's usage error for any other text, and for less than 75 s."""
        try:
            seconds = parse_duration(value).total_seconds()
        except InvalidSpec as error:
            self.fail(error.message, param, ctx)
        if seconds < _AGE_MIN:
            self.fail(f"{value} is less than {_AGE_MIN:.0f}s: the API server may be silent for a minute.", param, ctx)
        return seconds


_log_level = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_envvar=True,
    help="Lowest level to log.",
)
_log_format = click.option(
    "--log-format",
    type=click.Choice(["auto", "json", "console"]),
    default="auto",
    show_envvar=True,
    help="auto: console on a terminal, else JSON.",
)


@click.group(context_settings={"auto_envvar_prefix": "USERSTORAGE", "show_default": True, "max_content_width": 100})
@click.version_option(package_name="userstorage-operator")
def main() -> None:
    """Give every user of a platform their own file browser."""


@main.command()
@click.option(
    "--namespace", "namespaces", multiple=True, show_envvar=True, help="Namespace to serve; repeatable. Default: all."
)
@click.option(
    "--http-port",
    type=_Integer(0, 65535),
    default=_DEFAULTS.http_port,
    show_envvar=True,
    help="Port of /health, /ready, /metrics and the read API; 0 to serve none of them.",
)
@click.option(
    "--workers",
    type=_Integer(min=1),
    default=_DEFAULTS.workers,
    show_envvar=True,
    help="Number of UserStorages reconciled at the same time.",
)
@click.option(
    "--sweep-period",
    type=_Seconds(min=1),
    default=_DEFAULTS.sweep_period,
    show_envvar=True,
    help="Seconds between sweeps. A sweep lists all objects and reconciles what has changed, and of the rest a twelfth.",
)
@click.option(
    "--leader-elect/--no-leader-elect",
    default=in_cluster,
    show_default="elect in a pod",
    show_envvar=True,
    help="Watch and write only while holding the lease, so that several replicas can run.",
)
@click.option(
    "--lease-namespace",
    default=lambda: own_namespace() or _DEFAULTS.lease_namespace,
    show_default=f"that of the pod, else {_DEFAULTS.lease_namespace}",
    show_envvar=True,
    help="Namespace of the lease, and of the service account for --volume-stats.",
)
@click.option(
    "--api-audience",
    "api_audiences",
    multiple=True,
    show_envvar=True,
    help="Accepted audience of tokens for the read API and --metrics-auth; repeatable. Default: that of the API server.",
)
@click.option(
    "--metrics-auth/--no-metrics-auth",
    default=_DEFAULTS.metrics_auth,
    show_envvar=True,
    help="Require a bearer token for /metrics; its account needs the right to get the non-resource URL /metrics.",
)
@click.option(
    "--volume-stats",
    type=click.Choice(VolumeStats, case_sensitive=False),
    default=_DEFAULTS.volume_stats,
    show_default=str(_DEFAULTS.volume_stats),
    show_envvar=True,
    help="Read the usage of volumes from kubelets (needs deploy/volume-stats); unverified: accept any certificate.",
)
@click.option(
    "--otlp-endpoint",
    envvar=["USERSTORAGE_RUN_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"],
    default=_DEFAULTS.otlp_endpoint,
    show_default="none",
    show_envvar=True,
    help="URL of an OpenTelemetry collector for traces of reconciles, such as http://collector:4318 (OTLP over HTTP).",
)
@_log_level
@_log_format
@redis_options
def run(log_level: str, log_format: str, **settings: Any) -> None:
    """Run the operator until SIGTERM or SIGINT. Exit code 3: the lease is lost, so another replica may lead.

    Logs in with the kubeconfig that KUBECONFIG names, else with the pod's service account, else with ~/.kube/config.
    """
    process_logs = _configure_logs(log_level, log_format)
    config = Config(**settings)
    _run(_serve(config, process_logs), f"--http-port {config.http_port}")


@main.command()
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    required=True,
    show_envvar=True,
    help="File with the keys of the login proxy, one a line, 32 characters or more; the first two count.",
)
@click.option("--namespace", "namespaces", multiple=True, show_envvar=True, help="Namespace to know; repeatable. Default: all.")
@click.option(
    "--port",
    type=_Integer(1, 65535),
    default=_GATE_DEFAULTS.port,
    show_envvar=True,
    help="Port on which gateways ask.",
)
@click.option(
    "--http-port",
    type=_Integer(0, 65535),
    default=_GATE_DEFAULTS.http_port,
    show_envvar=True,
    help="Port of /health, /ready and /metrics; 0 to serve none of them.",
)
@click.option(
    "--max-age",
    type=_Duration(),
    default="15m",
    show_envvar=True,
    help="Refuse every request after this time without a word of the API server.",
)
@_log_level
@_log_format
def gate(log_level: str, log_format: str, **settings: Any) -> None:
    """Decide for gateways whether a request may reach the file browser at its host, until SIGTERM or SIGINT.

    Logs in as `run` does. Carries no traffic and writes nothing to the cluster. See docs/gate.md.
    """
    process_logs = _configure_logs(log_level, log_format)
    config = GateConfig(**settings)
    _run(_serve_gate(config, process_logs), f"--port {config.port}, --http-port {config.http_port}")


async def _serve_gate(config: GateConfig, process_logs: logs.Logs) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, process_logs.toggle_debug)
    await gate_app.run(config, asyncio.Event())


def _configure_logs(log_level: str, log_format: str) -> logs.Logs:
    json_format = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    process_logs = logs.configure(log_level, json_format=json_format)
    logs.catch_uncaught()
    return process_logs


def _run(serving: Coroutine[Any, Any, None], ports: str) -> None:
    """Run a process until a signal ends it. Raises click's Exit with code 1 if it cannot run; `ports` names the options."""
    gc.set_threshold(*GC_THRESHOLD)
    gc.freeze()  # modules are never freed: their 100,000 objects would make every full garbage collection 40 ms longer
    try:
        uvloop.run(serving)
    except OperatorError as error:
        log.error("cannot_run", error_kind=error.reason, error=error.message)  # noqa: TRY400  # expected: no traceback
        raise click.exceptions.Exit(1) from error
    except OSError as error:
        log.error("cannot_run", error_kind="InvalidOption", error=f"{ports}: {error}")  # noqa: TRY400  # as above
        raise click.exceptions.Exit(1) from error


@main.command()
@click.option(
    "--namespace", "namespaces", multiple=True, show_envvar=True, help="Namespace to clean up; repeatable. Default: all."
)
def release_finalizers(namespaces: tuple[str, ...]) -> None:
    """Remove the finalizers from all UserStorages and their NetworkPolicies. Needed before the operator is uninstalled.

    Stop the operator first: a running operator adds the finalizers again. The command deletes nothing. The NetworkPolicies lose
    their owner, so that they outlive the pods: delete them last. Exit code 1: some finalizer could not be removed; each object
    is named with the reason.
    """
    try:
        not_released = asyncio.run(_release(namespaces))
    except OperatorError as error:
        raise click.ClickException(error.message) from error
    for held, reason in not_released.items():
        click.echo(f"{held} not released: {reason}", err=True)
    if not_released:
        raise click.exceptions.Exit(1)


async def _release(namespaces: tuple[str, ...]) -> dict[uninstall.Held, str]:
    client = KubeClient(await login(), NoopObserver())
    try:
        return await uninstall.release_finalizers(
            client, Config(namespaces=namespaces).scopes, lambda held: click.echo(f"{held} released")
        )
    finally:
        await client.close()


@main.command()
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Output format.")
@redis_options
def cache(output: str, redis: RedisSettings | None) -> None:
    """Show the contents of Redis and compare them with the cluster. Exit code 1: they differ, or there is no mirror."""
    from userstorage_operator import cache_report  # noqa: PLC0415  # redis: see _serve

    if redis is None:
        raise click.UsageError("--redis-url: missing")
    cache_report.show(output, redis)


async def _serve(config: Config, process_logs: logs.Logs) -> None:
    from userstorage_operator import app  # noqa: PLC0415  # kopf and redis: 30 MB that the gate does not need

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, process_logs.toggle_debug)
    await app.run(config, asyncio.Event(), process_logs.set_leader)
