"""What commands print: tables as kubectl prints them, JSON, YAML and names.

rich and yaml take a third of the start of a command, so that they are imported when they are needed.
"""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from kubectl_userstorage.api import Raw, Resource, printable

if TYPE_CHECKING:
    from rich.console import Console

_GAP = "   "
STYLES = {
    "Ready": "green",
    "Suspended": "cyan",
    "Pending": "yellow",
    "Starting": "yellow",
    "Degraded": "yellow",
    "Terminating": "yellow",
    "Failed": "red",
    "ok": "green",
    "warning": "yellow",
    "failed": "red",
    "unknown": "cyan",
}
"""Word -> colour."""


def is_terminal() -> bool:
    """Whether standard output is a terminal, or is to be treated as one: FORCE_COLOR, as rich reads it."""
    return bool(os.environ.get("FORCE_COLOR")) or sys.stdout.isatty()


def console() -> "Console":
    """Return the console of standard output. It wraps and highlights nothing: output is for pipes, too."""
    from rich.console import Console  # noqa: PLC0415  # see above

    return Console(soft_wrap=True, highlight=False, markup=False, emoji=False)


def progress_console() -> "Console":
    """Return the console for progress: standard error, and only if that is a terminal."""
    from rich.console import Console  # noqa: PLC0415  # see above

    return Console(stderr=True)


def has_colours() -> bool:
    """Whether standard output is a terminal that shows colours, and NO_COLOR is not set."""
    return is_terminal() and not (screen := console()).no_color and screen.color_system is not None


def print_table(header: Sequence[str], rows: Iterable[Sequence[Any]], *, coloured: str | None = None) -> None:
    """Print a table as kubectl does; on a terminal, the cells of the column `coloured` have the colours of STYLES."""
    lines = table_lines(header, rows, coloured=coloured if has_colours() else None)
    click.echo("\n".join(lines), color=has_colours())


def table_lines(header: Sequence[str], rows: Iterable[Sequence[Any]], *, coloured: str | None = None) -> list[str]:
    """Return the lines of a table. A cell that is None or empty is `<none>`, as in kubectl."""
    table = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    painted = header.index(coloured) if coloured is not None else None
    lines = []
    for row in table:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        if painted is not None and row[painted] in STYLES:
            cells[painted] = click.style(cells[painted], fg=STYLES[row[painted]])
        lines.append(_GAP.join(cells).rstrip())
    return lines


def print_objects(objects: list[Raw], output: str, *, single: bool = False) -> None:
    """Print objects as JSON or YAML: one object as it is, several as a List. `managedFields` are left out, as kubectl does."""
    shown = [without_managed_fields(raw) for raw in objects]
    document: Raw = shown[0] if single else {"apiVersion": "v1", "kind": "List", "items": shown}
    click.echo(
        json.dumps(document, indent=4, ensure_ascii=False) if output == "json" else to_yaml(document), nl=output == "json"
    )


def without_managed_fields(raw: Raw) -> Raw:
    """Return a copy of an object without `metadata.managedFields`."""
    return {**raw, "metadata": {key: value for key, value in raw["metadata"].items() if key != "managedFields"}}


def to_yaml(document: Any) -> str:
    """Return a document as YAML."""
    import yaml  # noqa: PLC0415  # see above

    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text


def print_done(resource: Resource, name: str, verb: str, output: str = "text") -> None:
    """Print what was done with an object, as kubectl does, or its name alone."""
    click.echo(f"{resource.full_name}/{name}" + ("" if output == "name" else f" {verb}"))


def _cell(value: Any) -> str:
    return "<none>" if value is None or value == "" else printable(str(value))
