"""`list`, `status` and `explain`."""

from collections.abc import Callable
from pathlib import Path

import click

from kubectl_userstorage import errors, listing
from kubectl_userstorage.api import (
    CLASSES,
    DEPLOYMENTS,
    OPERATOR_SELECTOR,
    USER_STORAGES,
    Raw,
    age,
    claim_of,
    conditions,
    is_as_asked,
    printable,
    user_id_of,
)
from kubectl_userstorage.cluster import Cluster, Target
from kubectl_userstorage.explaining import class_in_effect, explain, explain_class, guards
from kubectl_userstorage.listing import Query, ReadApi, Row
from kubectl_userstorage.options import (
    Command,
    cluster_options,
    completer,
    name_argument,
    namespace_option,
    output_option,
    run,
    scope_options,
)
from kubectl_userstorage.output import print_objects, print_table

Scope = Callable[[str], str | None]
PHASES = ("Pending", "Starting", "Ready", "Degraded", "Suspended", "Failed", "Terminating")


def query_options(command: Command) -> Command:
    """Add the options that choose UserStorages, and those of the read API."""
    for option in (
        click.option(
            "--read-api-token-file",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            envvar="USERSTORAGE_READ_API_TOKEN_FILE",
            help="File with a token that the read API accepts, as of `kubectl create token`.",
        ),
        click.option(
            "--read-api",
            envvar="USERSTORAGE_READ_API",
            metavar="URL",
            help="Ask the operator's read API instead of the API server, such as http://localhost:8080.",
        ),
        click.option("--not-ready", is_flag=True, help="Only those that are not Ready."),
        click.option("--user", help="Only those of this user id."),
        click.option("--phase", type=click.Choice(PHASES), help="Only those of this phase."),
        click.option("-l", "--selector", help="Only those that this label selector matches."),
    ):
        command = option(command)
    return command


def read_api_of(url: str | None, token_file: Path | None, selector: str | None) -> ReadApi | None:
    """Return the read API to ask; None for the API server. Raises a usage error that names the option to change."""
    if url is None:
        return None
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter(f"{url} is not an http:// or https:// address", param_hint="--read-api")
    if selector:
        raise click.UsageError("--selector: the read API has no labels; leave out --read-api")
    if token_file is None:
        raise click.UsageError("--read-api-token-file: required with --read-api")
    return ReadApi(url.rstrip("/"), token_file.read_text().strip())


def namespace_of(target: Target, scope: Scope) -> str | None:
    """Return the namespace to ask the read API for. The kubeconfig is read only if no option says it."""
    chosen = scope("")
    return chosen if chosen != "" else run(target, _default_namespace)


async def _default_namespace(cluster: Cluster) -> str:
    return cluster.default_namespace


@click.command("list")
@scope_options
@query_options
@output_option("table", "wide", "json", "yaml", "name")
@cluster_options
def list_command(
    target: Target,
    scope: Scope,
    output: str,
    phase: str | None,
    user: str | None,
    selector: str | None,
    not_ready: bool,
    read_api: str | None,
    read_api_token_file: Path | None,
) -> None:
    """List UserStorages."""
    api = read_api_of(read_api, read_api_token_file, selector)
    if api is not None and output in ("json", "yaml"):
        raise click.UsageError(f"--output {output}: the read API has no whole objects; leave out --read-api")

    if api is not None:
        query = Query(namespace_of(target, scope), phase, user, selector, not_ready)
        _print_rows(listing.rows_of_read_api(api, query), query, output)
        return

    async def work(cluster: Cluster) -> None:
        query = Query(scope(cluster.default_namespace), phase, user, selector, not_ready)
        if output in ("json", "yaml"):
            found = await cluster.list_all(USER_STORAGES, query.namespace, query.params())
            print_objects([raw for raw in found if not (not_ready and _is_ready(raw))], output)
        else:
            _print_rows(await listing.rows(cluster, query), query, output)

    run(target, work)


@click.command()
@name_argument
@namespace_option
@output_option("table", "json", "yaml", "name")
@cluster_options
def status(target: Target, name: str, namespace: str | None, output: str) -> None:
    """Show a UserStorage with all its conditions.

    Exit code 1: it is not as its spec asks for, Ready or suspended.
    """

    async def work(cluster: Cluster) -> Raw:
        return await get(cluster, namespace, name)

    raw = run(target, work)
    if output in ("json", "yaml"):
        print_objects([raw], output, single=True)
    elif output == "name":
        click.echo(f"{USER_STORAGES.full_name}/{name}")
    else:
        _print_status(raw)
    errors.exit_with(errors.OK if is_as_asked(raw) else errors.PROBLEM)


@click.command("explain", short_help="Explain why a UserStorage is not Ready.")
@click.argument("name", metavar="NAME | userstorageclass/NAME", shell_complete=completer(USER_STORAGES))
@namespace_option
@click.option(
    "--guards", "with_guards", is_flag=True, help="Also say what lets only the owner in, as far as the cluster shows it."
)
@cluster_options
def explain_command(target: Target, name: str, namespace: str | None, with_guards: bool) -> None:
    """Explain why a UserStorage is not Ready: the cause, who must act, and the next command. One line if all is well.

    Exit code 1: it is neither Ready nor suspended, whichever its spec asks for. One that is Ready and impaired has its problems
    shown, with exit code 0.
    """
    kind, _, class_name = name.partition("/")
    if class_name and kind not in ("userstorageclass", "userstorageclasses", "usc"):
        raise click.BadParameter(
            f"{kind} is not a kind that can be explained; use NAME or userstorageclass/NAME", param_hint="NAME"
        )

    async def work(cluster: Cluster) -> tuple[list[str], bool]:
        if class_name:
            cls = await cluster.get(CLASSES, None, class_name)
            return list(explain_class(cls)), conditions(cls).get("Ready", {}).get("status") == "True"
        raw = await get(cluster, namespace, name)
        classes = await _classes(cluster)
        cls_in_effect = class_in_effect(raw, classes) if classes is not None else None
        in_effect = cls_in_effect["metadata"]["name"] if cls_in_effect else (raw.get("spec") or {}).get("className", "")
        lines = list(explain(raw, in_effect, "" if is_as_asked(raw) else await _operator_namespace(cluster)))
        if with_guards and (cls_in_effect is not None or classes is None):
            lines += guards(raw, cls_in_effect)
        return lines, is_as_asked(raw)

    lines, is_well = run(target, work)
    for line in lines:
        click.echo(printable(line))
    errors.exit_with(errors.OK if is_well else errors.PROBLEM)


async def get(cluster: Cluster, namespace: str | None, name: str) -> Raw:
    """Return a UserStorage. Raises NotFound, which names it and its namespace."""
    scope = namespace or cluster.default_namespace
    raw = await cluster.find(USER_STORAGES, scope, name)
    if raw is None:
        raise errors.NotFound(f"there is no UserStorage {name!r} in namespace {scope!r}")
    return raw


async def _classes(cluster: Cluster) -> list[Raw] | None:
    """Return all classes; None without the right to read them."""
    try:
        return await cluster.list_all(CLASSES, None)
    except errors.Forbidden:
        return None


async def _operator_namespace(cluster: Cluster) -> str:
    """Return the namespace of the operator; empty if there is none, or several, or no right to list Deployments."""
    try:
        found = await cluster.list_all(DEPLOYMENTS, None, {"labelSelector": OPERATOR_SELECTOR})
    except errors.CommandError:
        return ""
    namespaces = {raw["metadata"]["namespace"] for raw in found}
    return namespaces.pop() if len(namespaces) == 1 else ""


def _is_ready(raw: Raw) -> bool:
    return conditions(raw).get("Ready", {}).get("status") == "True"


def _print_rows(rows: list[Row], query: Query, form: str) -> None:
    if form == "name":
        for row in rows:
            click.echo(f"{USER_STORAGES.full_name}/{row.name}")
        return
    if not rows:
        where = f" in namespace {query.namespace}" if query.namespace else ""
        click.echo(f"No UserStorages found{where}.", err=True)
        return
    columns = (*(() if query.namespace else ("namespace",)), *(listing.WIDE if form == "wide" else listing.NARROW))
    header = [listing.TITLES[column] for column in columns]
    print_table(header, ([getattr(row, column) for column in columns] for row in rows), coloured="PHASE")


def _print_status(raw: Raw) -> None:
    meta, status = raw["metadata"], raw.get("status") or {}
    storage = status.get("storage") or {}
    used = f", {storage['usedPercent']} % used" if storage.get("usedPercent") is not None else ""
    fields = {
        "Name": meta["name"],
        "Namespace": meta["namespace"],
        "User": user_id_of(raw),
        "Class": (raw.get("spec") or {}).get("className", ""),
        "Phase": status.get("phase", "Pending"),
        "URL": status.get("url", ""),
        "Pod": status.get("podName", ""),
        "Node": status.get("nodeName", ""),
        "Restarts": status.get("restartCount", 0),
        "Claim": claim_of(raw),
        "Capacity": f"{storage['capacity']}{used}" if storage.get("capacity") else "",
        "Age": age(meta["creationTimestamp"]),
    }
    for title, value in fields.items():
        click.echo(printable(f"{title + ':':<12}{value if value != '' else '<none>'}"))
    click.echo("Conditions:")
    entries = [
        (f"  {entry['type']}", entry["status"], entry["reason"], age(entry["lastTransitionTime"]), entry.get("message", ""))
        for entry in conditions(raw).values()
    ]
    print_table(("  TYPE", "STATUS", "REASON", "AGE", "MESSAGE"), entries)
