"""The options that several commands share, named as kubectl names them."""

import asyncio
import functools
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from kubectl_userstorage import errors
from kubectl_userstorage.api import CLASSES, NAMESPACES, USER_STORAGES, Resource
from kubectl_userstorage.cluster import Cluster, Target

Command = Callable[..., None]
T = TypeVar("T")
_COMPLETED_MAX = 500
"""Names that a completion offers at most: one page."""


def run(target: Target, work: Callable[[Cluster], Coroutine[Any, Any, T]]) -> T:
    """Log in to the cluster and return the result of `work`."""
    from kubectl_userstorage.transport import connect  # noqa: PLC0415  # a third of a second, which --help does not need

    async def connected() -> T:
        async with connect(target) as cluster:
            return await work(cluster)

    return until_done(connected())


def until_done(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` and return its result. An interrupt ends the command with the exit code that shells give it."""
    try:
        return asyncio.run(_until_signalled(work))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise click.exceptions.Exit(errors.INTERRUPTED) from None


async def _until_signalled(work: Coroutine[Any, Any, T]) -> T:
    """Cancel `work` at the signals of `kill` and of a terminal that is closed: the client key is in a temporary file until it ends."""
    task = asyncio.ensure_future(work)
    if sys.platform != "win32":
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def cluster_options(command: Command) -> Command:
    """Add --context and --kubeconfig; the command gets them as `target`."""

    @functools.wraps(command)
    def with_target(kubeconfig: str | None, context: str | None, **others: Any) -> None:
        command(target=Target(kubeconfig, context), **others)

    decorated: Command = with_target
    decorated = click.option(
        "--kubeconfig", type=click.Path(), help="Path of the kubeconfig.  [default: $KUBECONFIG, ~/.kube/config]"
    )(decorated)
    return click.option("--context", help="Context of the kubeconfig.  [default: the current one]")(decorated)


def namespace_option(command: Command) -> Command:
    """Add -n; the command gets `namespace`, None if the context decides."""
    return click.option(
        "-n", "--namespace", shell_complete=completer(NAMESPACES), help="Namespace.  [default: that of the context]"
    )(command)


def scope_options(command: Command) -> Command:
    """Add -n and -A; the command gets `scope`, a function of the context's namespace to a namespace, or None for all."""

    @functools.wraps(command)
    def with_scope(namespace: str | None, all_namespaces: bool, **others: Any) -> None:
        if namespace is not None and all_namespaces:
            raise click.UsageError("--all-namespaces: cannot be used with --namespace")
        command(scope=lambda default: None if all_namespaces else namespace or default, **others)

    return namespace_option(click.option("-A", "--all-namespaces", is_flag=True, help="All namespaces.")(with_scope))


def output_option(*formats: str, default: str = "table") -> Callable[[Command], Command]:
    """Add -o with these formats; the command gets `output`."""
    return click.option("-o", "--output", type=click.Choice(formats), default=default, show_default=True, help="Output format.")


def completer(resource: Resource) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return the completion of names of a resource. It offers nothing if the API server does not answer."""

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        given = context.params
        namespace = given.get("namespace")

        async def names(cluster: Cluster) -> list[str]:
            scope = (namespace or cluster.default_namespace) if resource.namespaced else None
            page = await cluster.json("GET", resource, scope, params={"limit": str(_COMPLETED_MAX)})
            return [item["metadata"]["name"] for item in page["items"]]

        try:
            found = run(Target(given.get("kubeconfig"), given.get("context")), names)
        except errors.CommandError:
            return []
        return [CompletionItem(name) for name in found if name.startswith(incomplete)]

    return complete


def name_argument(command: Command) -> Command:
    """Add the argument NAME, the name of a UserStorage."""
    return click.argument("name", shell_complete=completer(USER_STORAGES))(command)


def class_option(command: Command) -> Command:
    """Add --class; the command gets `class_name`."""
    return click.option(
        "--class", "class_name", shell_complete=completer(CLASSES), help="UserStorageClass.  [default: the default one]"
    )(command)
