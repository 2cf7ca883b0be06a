"""The command line of the operator. Every option can also be set by an environment variable."""

import asyncio
import gc
import re
import signal
import sys
from typing import Any

import click
import structlog
import uvloop

from userstorage_operator import app, uninstall
from userstorage_operator.api.errors import OperatorError
from userstorage_operator.config import Config, VolumeStats
from userstorage_operator.kube.client import KubeClient, NoopObserver
from userstorage_operator.kube.login import in_cluster, login, own_namespace
from userstorage_operator.redis_options import redis_options
from userstorage_operator.runtime import logs

log = structlog.get_logger(__name__)

_DEFAULTS = Config()


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
    help="Seconds between sweeps. A sweep lists all objects and reconciles every UserStorage.",
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
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_envvar=True,
    help="Lowest level to log.",
)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "json", "console"]),
    default="auto",
    show_envvar=True,
    help="auto: console on a terminal, else JSON.",
)
@redis_options
def run(log_level: str, log_format: str, **settings: Any) -> None:
    """Run the operator until SIGTERM or SIGINT. Exit code 3: the lease is lost, so another replica may lead.

    Logs in with the kubeconfig that KUBECONFIG names, else with the pod's service account, else with ~/.kube/config.
    """
    json_format = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    process_logs = logs.configure(log_level, json_format=json_format)
    logs.catch_uncaught()
    config = Config(**settings)
    gc.freeze()  # modules are never freed: their 100,000 objects would make every full garbage collection 40 ms longer
    try:
        uvloop.run(_serve(config, process_logs))
    except OperatorError as error:
        log.error("cannot_run", error_kind=error.reason, error=error.message)  # noqa: TRY400  # expected: no traceback
        raise click.exceptions.Exit(1) from error
    except OSError as error:
        log.error("cannot_run", error_kind="InvalidOption", error=f"--http-port {config.http_port}: {error}")  # noqa: TRY400  # as above
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


async def _serve(config: Config, process_logs: logs.Logs) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, process_logs.toggle_debug)
    await app.run(config, asyncio.Event(), process_logs.set_leader)
