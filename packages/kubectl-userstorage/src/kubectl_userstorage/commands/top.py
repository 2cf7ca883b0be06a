"""`top`: how many UserStorages are in which state, and which need attention most."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from kubectl_userstorage import errors, listing
from kubectl_userstorage.cluster import Cluster, Target
from kubectl_userstorage.commands.reading import Scope, namespace_of, query_options, read_api_of
from kubectl_userstorage.listing import Query, Row
from kubectl_userstorage.options import cluster_options, run, scope_options, until_done
from kubectl_userstorage.output import console, has_colours, is_terminal, table_lines

_COLUMNS = ("namespace", "name", "user", "phase", "reason", "used", "capacity", "node", "age")
_URGENCY = ("Failed", "Degraded", "Terminating", "Starting", "Pending", "Ready", "Suspended")
_SORTS: dict[str, Callable[[Row], tuple[int | float | str, ...]]] = {
    "state": lambda row: (_URGENCY.index(row.phase) if row.phase in _URGENCY else -1, -_percent(row)),
    "used": lambda row: (-_percent(row),),
    "name": lambda row: (row.namespace, row.name),
}


@click.command()
@scope_options
@query_options
@click.option(
    "--sort",
    type=click.Choice(sorted(_SORTS)),
    default="state",
    show_default=True,
    help="state: those with problems first; used: the fullest volumes first.",
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Number of UserStorages shown.")
@click.option("--interval", type=click.FloatRange(min=1), default=5.0, show_default=True, help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="Print once. So does an output that is no terminal.")
@cluster_options
def top(
    target: Target,
    scope: Scope,
    phase: str | None,
    user: str | None,
    selector: str | None,
    not_ready: bool,
    read_api: str | None,
    read_api_token_file: Path | None,
    sort: str,
    limit: int,
    interval: float,
    once: bool,
) -> None:
    """Show the states of all UserStorages, live, and those that need attention."""
    api = read_api_of(read_api, read_api_token_file, selector)
    if api is not None:
        query = Query(namespace_of(target, scope), phase, user, selector, not_ready)

        async def look_at_read_api() -> list[Row]:
            return await asyncio.to_thread(listing.rows_of_read_api, api, query)

        until_done(_show(look_at_read_api, sort, limit, None if once else interval))
        return

    async def work(cluster: Cluster) -> None:
        query = Query(scope(cluster.default_namespace), phase, user, selector, not_ready)
        await _show(lambda: listing.rows(cluster, query), sort, limit, None if once else interval)

    run(target, work)


async def _show(look: Callable[[], Awaitable[list[Row]]], sort: str, limit: int, interval: float | None) -> None:
    """Print once, or, on a terminal, show what is found at each `interval` until interrupted."""
    first = "\n".join(lines(await look(), sort, limit))
    if interval is None or not is_terminal():
        click.echo(first, color=has_colours())
        return
    from rich.live import Live  # noqa: PLC0415  # as in output.py
    from rich.text import Text  # noqa: PLC0415

    with Live(Text.from_ansi(first), console=console(), auto_refresh=False, screen=True) as live:
        while True:
            await asyncio.sleep(interval)
            try:
                shown = Text.from_ansi("\n".join(lines(await look(), sort, limit)))
            except errors.Unavailable as error:
                shown = Text(f"{time.strftime('%X')}: {error.message}", "red")
            live.update(shown, refresh=True)


def lines(rows: list[Row], sort: str, limit: int) -> list[str]:
    """Return the lines of one look."""
    phases = Counter(row.phase for row in rows)
    reasons = Counter(row.reason for row in rows if row.ready != "True" and row.reason != "Suspended")
    first = ", ".join(f"{count} {phase}" for phase, count in phases.most_common())
    second = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    shown = sorted(rows, key=_SORTS[sort])[:limit]
    header = [listing.TITLES[column] for column in _COLUMNS]
    cells = ([getattr(row, column) for column in _COLUMNS] for row in shown)
    table = table_lines(header, cells, coloured="PHASE" if has_colours() else None)
    return [
        f"{len(rows)} UserStorages: {first or 'none'}",
        f"not Ready because of: {second or 'none'}",
        "",
        *(table if shown else []),
    ]


def _percent(row: Row) -> float:
    return float(row.used) if row.used else -1.0
