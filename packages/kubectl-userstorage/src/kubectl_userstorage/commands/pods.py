"""`logs` and `open`: what goes on in the pod of a user."""

import asyncio
import functools
import webbrowser
from contextlib import AsyncExitStack
from typing import Any

import click

from kubectl_userstorage import errors
from kubectl_userstorage.api import (
    ANNOTATION_BASE_PATH,
    ANNOTATION_CLASS,
    CLASSES,
    CONTAINER,
    DEFAULT_HEADER,
    PODS,
    Raw,
    child_name,
    is_true,
    user_id_of,
)
from kubectl_userstorage.cluster import Cluster, Target
from kubectl_userstorage.commands.changing import Duration
from kubectl_userstorage.commands.reading import get
from kubectl_userstorage.options import cluster_options, name_argument, namespace_option, run


@click.command()
@name_argument
@namespace_option
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they come.")
@click.option("-p", "--previous", is_flag=True, help="The log of the container before its last restart.")
@click.option("-c", "--container", default=CONTAINER, show_default=True, help="Container of the pod.")
@click.option("--tail", type=click.IntRange(min=0), help="Number of last lines.  [default: all]")
@click.option("--since", type=Duration(), help="Only lines of the last 90s, 5m, 1h.")
@click.option("--timestamps", is_flag=True, help="A timestamp before each line.")
@cluster_options
def logs(
    target: Target,
    name: str,
    namespace: str | None,
    follow: bool,
    previous: bool,
    container: str,
    tail: int | None,
    since: float | None,
    timestamps: bool,
) -> None:
    """Print the log of a user's file browser."""
    given = {"tailLines": tail, "sinceSeconds": None if since is None else int(since)}
    params = {"container": container} | {key: str(value) for key, value in given.items() if value is not None}
    flags = {"follow": follow, "previous": previous, "timestamps": timestamps}
    params |= {flag: "true" for flag, is_set in flags.items() if is_set}

    async def work(cluster: Cluster) -> None:
        pod = await _pod(cluster, await get(cluster, namespace, name))
        meta = pod["metadata"]
        path = f"{PODS.base}/namespaces/{meta['namespace']}/pods/{meta['name']}/log"
        async for line in cluster.transport.lines(path, params):
            click.echo(line)

    run(target, work)


@click.command("open")
@name_argument
@namespace_option
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of 127.0.0.1.  [default: a free one]")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page in a web browser.")
@cluster_options
def open_command(target: Target, name: str, namespace: str | None, port: int, browser: bool) -> None:
    """Open a user's file browser through a port-forward, logged in as the owner, until interrupted.

    Only 127.0.0.1 can connect. Needs the rights `get` and `create` on pods/portforward, which let you in as any user.
    """

    async def work(cluster: Cluster) -> None:
        from kubectl_userstorage.ownerproxy import OwnerProxy  # noqa: PLC0415  # h11 takes a tenth of the start of a command

        raw = await get(cluster, namespace, name)
        pod = await _pod(cluster, raw)
        if not is_true(raw, "Ready"):
            hint = f"kubectl userstorage explain {name} -n {raw['metadata']['namespace']}"
            click.echo(f"warning: {name} is not Ready; next: {hint}", err=True)
        annotations = pod["metadata"].get("annotations") or {}
        header = await _header(cluster, annotations.get(ANNOTATION_CLASS, ""))
        connect = functools.partial(cluster.transport.forward, pod, _port(pod))
        async with connect():
            pass  # without the right, the command ends here, before it prints an address
        proxy = OwnerProxy(connect, header, user_id_of(raw))
        async with AsyncExitStack() as stack:
            try:
                local = await stack.enter_async_context(proxy.serving(port))
            except OSError as error:
                raise errors.CommandError(f"--port {port}: {error.strerror or error}") from error
            url = f"http://127.0.0.1:{local}{annotations.get(ANNOTATION_BASE_PATH, '/')}"
            click.echo(url)
            if browser and not await asyncio.to_thread(webbrowser.open, url):
                click.echo("no web browser was found; open the address yourself", err=True)
            await asyncio.Event().wait()

    run(target, work)


async def _pod(cluster: Cluster, raw: Raw) -> Raw:
    """Return the pod of a UserStorage. Raises Problem if it has none."""
    meta = raw["metadata"]
    pod_name = (raw.get("status") or {}).get("podName") or child_name(user_id_of(raw))
    pod = await cluster.find(PODS, meta["namespace"], pod_name)
    if pod is None:
        hint = f"kubectl userstorage explain {meta['name']} -n {meta['namespace']}"
        raise errors.Problem(f"UserStorage {meta['name']!r} has no pod; next: {hint}")
    return pod


def _port(pod: Raw) -> int:
    [container] = [entry for entry in pod["spec"]["containers"] if entry["name"] == CONTAINER]
    return int(container["ports"][0]["containerPort"])


async def _header(cluster: Cluster, class_name: str) -> str:
    """Return the header by which the pod knows its user; empty if its class authenticates no request."""
    auth: dict[str, Any] = {}
    if class_name:
        cls = await cluster.find(CLASSES, None, class_name)
        auth = ((cls or {}).get("spec") or {}).get("auth") or {}
    return "" if auth.get("mode") == "None" else str(auth.get("headerName", DEFAULT_HEADER))
