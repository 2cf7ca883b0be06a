"""What commands print: tables as kubectl prints them, JSON, YAML and names."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click
import yaml
from rich.console import Console
from rich.text import Text

from kubectl_userstorage.api import Raw, Resource, printable

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
"""Word -> colour. rich leaves colours out if the output is no terminal, or NO_COLOR is set."""


def console() -> Console:
    """Return the console of standard output. It wraps and highlights nothing: output is for pipes, too."""
    return Console(soft_wrap=True, highlight=False, markup=False, emoji=False)


def progress_console() -> Console:
    """Return the console for progress: standard error, and only if that is a terminal."""
    return Console(stderr=True)


def print_table(header: Sequence[str], rows: Iterable[Sequence[Any]], *, coloured: str | None = None) -> None:
    """Print a table as kubectl does; the cells of the column `coloured` have the colours of STYLES."""
    for line in table_lines(header, rows, coloured=coloured):
        console().print(line)


def table_lines(header: Sequence[str], rows: Iterable[Sequence[Any]], *, coloured: str | None = None) -> list[Text]:
    """Return the lines of a table. A cell that is None or empty is `<none>`, as in kubectl."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max([len(title), *(len(row[index]) for row in cells)]) for index, title in enumerate(header)]
    lines = []
    for row in [list(header), *cells]:
        line = Text()
        for index, (text, width) in enumerate(zip(row, widths, strict=True)):
            style = STYLES.get(text, "") if header[index] == coloured else ""
            line.append(text, style)
            if index < len(row) - 1:
                line.append(" " * (width - len(text)) + _GAP)
        lines.append(line)
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
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text


def print_done(resource: Resource, name: str, verb: str, output: str = "text") -> None:
    """Print what was done with an object, as kubectl does, or its name alone."""
    click.echo(f"{resource.full_name}/{name}" + ("" if output == "name" else f" {verb}"))


def _cell(value: Any) -> str:
    return "<none>" if value is None or value == "" else printable(str(value))
