"""`kubectl userstorage`: explains the status of a UserStorage to the person on call, and restarts its pod."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

import click

from userstorage_operator.api.errors import InvalidSpec, NotFound, OperatorError, Refused
from userstorage_operator.api.names import ANNOTATION_PAUSED, ANNOTATION_RESTARTED_AT, LABEL_GATEWAY
from userstorage_operator.api.reasons import PAUSED, REASONS
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES
from userstorage_operator.api.timestamps import format_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorageclass import AuthMode, Flavor, PolicyMode, UserStorageClass, class_in_effect
from userstorage_operator.kube.client import KubeClient, NoopObserver
from userstorage_operator.kube.login import login
from userstorage_operator.plugin_cache import cache
from userstorage_operator.text import printable


@click.group(context_settings={"show_default": True})
@click.version_option(package_name="userstorage-operator")
def main() -> None:
    """Inspect and restart UserStorages; inspect the Redis cache of the read API."""


main.add_command(cache)


@main.command()
@click.argument("name")
@click.option("-n", "--namespace", default="default", help="Namespace of the object.")
def explain(name: str, namespace: str) -> None:
    """Explain the status of a UserStorage. Shows each condition, its meaning, the last error, and what guards the files.

    Exit code 1: not Ready.
    """
    try:
        raw, cls = asyncio.run(_get(namespace, name))
    except NotFound as error:
        raise click.ClickException(f"there is no UserStorage {name!r} in namespace {namespace!r}") from error
    except OperatorError as error:
        raise click.ClickException(printable(error.message)) from error
    for line in (*describe(raw), *(guards(raw, cls) if cls is not None else ())):
        click.echo(printable(line))
    if not _is_ready(raw):
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("name")
@click.option("-n", "--namespace", default="default", help="Namespace of the object.")
def restart(name: str, namespace: str) -> None:
    """Restart the pod of a UserStorage, as `kubectl rollout restart` does: sets the annotation userstorage.dev/restartedAt.

    The operator terminates the pod gracefully and creates another one, also with updateStrategy WhenSuspended. A suspended
    UserStorage stays suspended. Exit code 1: there is no such object, it is paused, or the annotation could not be set.
    """
    try:
        asyncio.run(_restart(namespace, name))
    except NotFound as error:
        raise click.ClickException(f"there is no UserStorage {name!r} in namespace {namespace!r}") from error
    except OperatorError as error:
        raise click.ClickException(printable(error.message)) from error
    click.echo(f"userstorage.userstorage.dev/{name} restarted")


def describe(raw: Unstructured) -> Iterator[str]:
    """Yield the lines that `explain` prints for the UserStorage `raw`."""
    status = raw.get("status") or {}
    yield f"{raw['metadata']['namespace']}/{raw['metadata']['name']}: {status.get('phase', 'Pending')}"
    if status.get("observedGeneration") != raw["metadata"]["generation"]:
        yield "  the operator has not processed the current spec yet"
    if any(entry["type"] == PAUSED and entry["status"] == "True" for entry in status.get("conditions") or ()):
        yield "  paused: everything else here is as it was at that moment"
    for condition in status.get("conditions") or ():
        yield f"  {condition['type']}={condition['status']} {condition['reason']} since {condition['lastTransitionTime']}"
        meaning = REASONS.get(condition["type"], {}).get(condition["reason"])
        for text in dict.fromkeys((meaning, condition.get("message"))):
            if text:
                yield f"      {text}"
    if error := status.get("lastError"):
        retry = f", next try {error['nextRetryTime']}" if "nextRetryTime" in error else ""
        yield f"  last error: {error['reason']}: {error['message']} ({error['attempts']} attempts{retry})"
    if (percent := (status.get("storage") or {}).get("usedPercent")) is not None:
        yield f"  volume {percent} % full, {status['storage']['used']} used"
    if url := status.get("url"):
        yield f"  way in: {url}"


_CHECKS_OF_PODS = {
    Flavor.FILE_BROWSER: "yes: File Browser serves no other name",
    Flavor.COPYPARTY: "yes: Copyparty serves no other name",
    Flavor.QUANTUM: "in part: a name that resolves to the owner's as a path gets in",
    Flavor.CUSTOM: "up to its image",
}


def guards(raw: Unstructured, cls: UserStorageClass) -> Iterator[str]:
    """Yield the lines about what lets only the owner in, as far as the cluster shows it."""
    user = (raw.get("spec") or {}).get("userID", "")
    yield f"  guards, for the owner {user!r}:"
    checks = _CHECKS_OF_PODS.get(cls.browser.flavor) if cls.auth_mode is AuthMode.PROXY_HEADER else None
    compared = f", in the header {cls.auth_header}" if checks is not None else ""
    yield f"      does the pod compare the name{compared}? {checks or 'no: every client that connects has the files'}"
    peers = "network.allowedFrom of the class" if cls.allowed_from else f"namespaces labelled {LABEL_GATEWAY}=true"
    policy = (
        f"only from {peers}" if cls.policy is PolicyMode.MANAGED else "not restricted by the operator (network.policy: None)"
    )
    yield f"      connections to the pod: {policy}"
    yield "      does the gateway ask the gate? not visible in the cluster: open the address as another user, who must get 403"


def _is_ready(raw: Unstructured) -> bool:
    conditions = (raw.get("status") or {}).get("conditions") or ()
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


async def _restart(namespace: str, name: str) -> None:
    client = KubeClient(await login(), NoopObserver())
    try:
        meta = (await client.get(USER_STORAGES, namespace, name))["metadata"]
        if (meta.get("annotations") or {}).get(ANNOTATION_PAUSED) == "true":  # as kubectl refuses it for a paused Deployment
            raise click.ClickException(f"UserStorage {name!r} is paused; remove the annotation {ANNOTATION_PAUSED} first")
        annotations = {ANNOTATION_RESTARTED_AT: format_time(datetime.now(UTC))}
        patch = {"metadata": {"uid": meta["uid"], "annotations": annotations}}
        await client.merge_patch(USER_STORAGES, namespace, name, patch, field_manager="kubectl-userstorage")
    finally:
        await client.close()


async def _get(namespace: str, name: str) -> tuple[Unstructured, UserStorageClass | None]:
    """Return the UserStorage and its class; None if there is no such class, or if it cannot be read."""
    client = KubeClient(await login(), NoopObserver())
    try:
        raw = await client.get(USER_STORAGES, namespace, name)
        try:
            classes, _ = await client.list_all(USER_STORAGE_CLASSES, None)
            return raw, class_in_effect((raw.get("spec") or {}).get("className"), classes)
        except (Refused, InvalidSpec):
            return raw, None
    finally:
        await client.close()
