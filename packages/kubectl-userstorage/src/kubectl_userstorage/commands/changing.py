"""`create`, `suspend`, `resume` and `restart`."""

import asyncio
import functools
import re
from collections.abc import Callable
from datetime import UTC, datetime

import click

from kubectl_userstorage import errors
from kubectl_userstorage.api import (
    ANNOTATION_PAUSED,
    ANNOTATION_RESTARTED_AT,
    API_VERSION,
    USER_STORAGES,
    Raw,
    conditions,
    is_as_asked,
    is_up_to_date,
)
from kubectl_userstorage.cluster import Cluster, Target
from kubectl_userstorage.commands.reading import get
from kubectl_userstorage.options import (
    Command,
    class_option,
    cluster_options,
    name_argument,
    namespace_option,
    output_option,
    run,
)
from kubectl_userstorage.output import print_done, print_objects, progress_console

_POLL = 1.0
"""Seconds between two looks at an object that is waited for."""
_DURATION = re.compile(r"([0-9]{1,6})(s|m|h)")
_UNITS = {"s": 1, "m": 60, "h": 3600}


class Duration(click.ParamType[float]):
    """A duration such as `90s`, `5m` or `1h`, in seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds. Raises a usage error for any other text."""
        if isinstance(value, float):
            return value
        if (found := _DURATION.fullmatch(str(value))) is None:
            self.fail(f"{value!r} is not a duration such as 90s, 5m or 1h", param, ctx)
        return float(int(found[1]) * _UNITS[found[2]])


def wait_options(command: Command) -> Command:
    """Add --wait and --timeout."""
    command = click.option("--timeout", type=Duration(), default="5m", show_default=True, help="With --wait: how long.")(
        command
    )
    return click.option("--wait", is_flag=True, help="Wait until it is done. Exit code 1: it was not within --timeout.")(
        command
    )


def _change(callback: Command) -> click.Command:
    """Make a command that changes one UserStorage, with the options that all of them have."""
    with_options: Command = functools.reduce(
        lambda decorated, add: add(decorated),
        (cluster_options, wait_options, output_option("text", "name", default="text"), namespace_option, name_argument),
        callback,
    )
    return click.command()(with_options)


@click.command()
@click.argument("name")
@namespace_option
@click.option("--user", "user_id", help="spec.userID, as the login proxy sends it.  [default: NAME]")
@class_option
@click.option("--size", help="spec.storage.size, such as 10Gi.  [default: that of the class]")
@click.option(
    "--claim", "claim_name", help="spec.storage.claimName: an existing claim with the label userstorage.dev/shareable."
)
@click.option("--sub-path", help="spec.storage.subPath: the directory in the claim, such as '${slug}'. Needs --claim.")
@click.option("--suspended", is_flag=True, help="spec.replicas: 0. No pod is started.")
@click.option(
    "--dry-run",
    type=click.Choice(["none", "client", "server"]),
    default="none",
    show_default=True,
    help="client: print only. server: ask the API server, store nothing.",
)
@output_option("text", "name", "json", "yaml", default="text")
@wait_options
@cluster_options
def create(
    target: Target,
    name: str,
    namespace: str | None,
    user_id: str | None,
    class_name: str | None,
    size: str | None,
    claim_name: str | None,
    sub_path: str | None,
    suspended: bool,
    dry_run: str,
    output: str,
    wait: bool,
    timeout: float,
) -> None:
    """Create a UserStorage."""
    if sub_path and not claim_name:
        raise click.UsageError("--sub-path: needs --claim")
    storage = {key: value for key, value in (("size", size), ("claimName", claim_name), ("subPath", sub_path)) if value}
    spec: Raw = {"userID": user_id or name}
    spec |= {"className": class_name} if class_name else {}
    spec |= {"replicas": 0} if suspended else {}
    spec |= {"storage": storage} if storage else {}

    async def work(cluster: Cluster) -> Raw:
        scope = namespace or cluster.default_namespace
        body: Raw = {
            "apiVersion": API_VERSION,
            "kind": USER_STORAGES.kind,
            "metadata": {"name": name, "namespace": scope},
            "spec": spec,
        }
        if dry_run == "client":
            return body
        created = await cluster.create(USER_STORAGES, scope, body, dry_run=dry_run == "server")
        return await _until(cluster, created, "Ready", is_as_asked, timeout) if wait and dry_run == "none" else created

    raw = run(target, work)
    if output in ("json", "yaml"):
        print_objects([raw], output, single=True)
    else:
        print_done(USER_STORAGES, name, "created" + ("" if dry_run == "none" else f" (dry run: {dry_run})"), output)


@_change
def suspend(target: Target, name: str, namespace: str | None, output: str, wait: bool, timeout: float) -> None:
    """Stop the pod of a UserStorage and keep the files. Sets spec.replicas to 0."""
    _scale(target, name, namespace, 0, timeout if wait else None)
    print_done(USER_STORAGES, name, "suspended", output)


@_change
def resume(target: Target, name: str, namespace: str | None, output: str, wait: bool, timeout: float) -> None:
    """Start the pod of a suspended UserStorage again. Sets spec.replicas to 1."""
    _scale(target, name, namespace, 1, timeout if wait else None)
    print_done(USER_STORAGES, name, "resumed", output)


@_change
def restart(target: Target, name: str, namespace: str | None, output: str, wait: bool, timeout: float) -> None:
    """Restart the pod of a UserStorage. Sets the annotation userstorage.dev/restartedAt, as `kubectl rollout restart` does.

    The operator terminates the pod gracefully and creates another one, also with updateStrategy WhenSuspended. A suspended
    UserStorage stays suspended. Exit code 1: it is paused.
    """

    async def work(cluster: Cluster) -> Raw:
        raw = await _unpaused(cluster, namespace, name)
        former = (raw.get("status") or {}).get("podUID")
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        patched = await _patch(cluster, raw, {"metadata": {"annotations": {ANNOTATION_RESTARTED_AT: now}}})
        if wait:
            await _until(
                cluster,
                patched,
                "restarted",
                lambda raw: is_as_asked(raw) and ((raw.get("status") or {}).get("podUID") != former or former is None),
                timeout,
            )
        return patched

    print_done(USER_STORAGES, name, restart_outcome(run(target, work)), output)


def restart_outcome(raw: Raw) -> str:
    """Return what a restart did to a UserStorage, as `print_done` shows it."""
    suspended = (raw.get("spec") or {}).get("replicas", 1) == 0
    return "suspended: nothing to restart, its next pod starts with resume" if suspended else "restarted"


def _scale(target: Target, name: str, namespace: str | None, replicas: int, timeout: float | None) -> None:
    async def work(cluster: Cluster) -> None:
        raw = await _unpaused(cluster, namespace, name)
        patched = await _patch(cluster, raw, {"spec": {"replicas": replicas}})
        if timeout is not None:
            await _until(cluster, patched, "Ready" if replicas else "suspended", is_as_asked, timeout)

    run(target, work)


async def _unpaused(cluster: Cluster, namespace: str | None, name: str) -> Raw:
    """Return a UserStorage. Raises Problem if it is paused: the operator would do nothing, as kubectl refuses it for Deployments."""
    raw = await get(cluster, namespace, name)
    if (raw["metadata"].get("annotations") or {}).get(ANNOTATION_PAUSED) == "true":
        raise errors.Problem(f"UserStorage {name!r} is paused; remove the annotation {ANNOTATION_PAUSED} first")
    return raw


async def _patch(cluster: Cluster, raw: Raw, patch: Raw) -> Raw:
    """Patch a UserStorage, unless another one has its name by now."""
    meta = raw["metadata"]
    patch["metadata"] = {"uid": meta["uid"], **patch.get("metadata", {})}
    return await cluster.patch(USER_STORAGES, meta["namespace"], meta["name"], patch)


async def _until(cluster: Cluster, raw: Raw, what: str, is_done: Callable[[Raw], bool], timeout: float) -> Raw:
    """Wait until a UserStorage is as it should be, and return it. Raises Problem, which names the reason, after `timeout`.

    An API server that cannot answer for a while is asked again.
    """
    meta = raw["metadata"]
    with progress_console().status(f"waiting for {meta['name']} to be {what}") as shown:
        state = _reason(raw)
        try:
            async with asyncio.timeout(timeout):
                while not is_done(raw):
                    await asyncio.sleep(_POLL)
                    try:
                        raw = await cluster.get(USER_STORAGES, meta["namespace"], meta["name"])
                        state = _reason(raw)
                    except errors.Unavailable as error:
                        state = error.message
                    shown.update(f"waiting for {meta['name']} to be {what}: {state}")
        except TimeoutError:
            hint = f"kubectl userstorage explain {meta['name']} -n {meta['namespace']}"
            raise errors.Problem(f"not {what} within {timeout:g} s ({state}); next: {hint}") from None
    return raw


def _reason(raw: Raw) -> str:
    return str(conditions(raw).get("Ready", {}).get("reason", "Pending")) if is_up_to_date(raw) else "Pending"
