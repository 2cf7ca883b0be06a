"""`kubectl userstorage`: explains the status of a UserStorage to the person on call."""

import asyncio
from collections.abc import Iterator

import click

from userstorage_operator.api.errors import NotFound, OperatorError
from userstorage_operator.api.reasons import REASONS
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.kube.client import KubeClient, NoopObserver
from userstorage_operator.kube.login import login
from userstorage_operator.plugin_cache import cache
from userstorage_operator.text import printable


@click.group(context_settings={"show_default": True})
@click.version_option(package_name="userstorage-operator")
def main() -> None:
    """Inspect UserStorages, and the Redis cache of the read API."""


main.add_command(cache)


@main.command()
@click.argument("name")
@click.option("-n", "--namespace", default="default", help="Namespace of the object.")
def explain(name: str, namespace: str) -> None:
    """Explain the status of a UserStorage. Shows each condition, its meaning, and the last error. Exit code 1: not Ready."""
    try:
        raw = asyncio.run(_get(namespace, name))
    except NotFound as error:
        raise click.ClickException(f"there is no UserStorage {name!r} in namespace {namespace!r}") from error
    except OperatorError as error:
        raise click.ClickException(printable(error.message)) from error
    for line in describe(raw):
        click.echo(printable(line))
    if not _is_ready(raw):
        raise click.exceptions.Exit(1)


def describe(raw: Unstructured) -> Iterator[str]:
    """Yield the lines that `explain` prints for a UserStorage."""
    status = raw.get("status") or {}
    yield f"{raw['metadata']['namespace']}/{raw['metadata']['name']}: {status.get('phase', 'Pending')}"
    if status.get("observedGeneration") != raw["metadata"]["generation"]:
        yield "  the operator has not processed the current spec yet"
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
        yield f"  {url}"


def _is_ready(raw: Unstructured) -> bool:
    conditions = (raw.get("status") or {}).get("conditions") or ()
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


async def _get(namespace: str, name: str) -> Unstructured:
    client = KubeClient(await login(), NoopObserver())
    try:
        return await client.get(USER_STORAGES, namespace, name)
    finally:
        await client.close()
