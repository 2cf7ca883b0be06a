"""`python -m pluginreference [--check]`: write the verbs into docs/kubectl-plugin.md, or check that they are current."""

import inspect
import re
import sys

import click

from kubectl_userstorage.cli import group
from manifests.generated import write_or_check
from manifests.render import ROOT

TARGET = ROOT / "docs" / "kubectl-plugin.md"
_START = "<!-- verbs: written by python -m pluginreference -->"
_SHARED = frozenset({"namespace", "all_namespaces", "context", "kubeconfig", "help"})
"""Options that the page describes once for all verbs."""


def current(page: str) -> str:
    """Return the page with what follows the marker written from the commands."""
    head, marker, _ = page.partition(_START)
    if not marker:
        raise SystemExit(f"{TARGET.name} has no line {_START}")
    return f"{head}{marker}\n" + "".join(f"\n{section(name, command)}" for name, command in sorted(group.commands.items()))


def section(name: str, command: click.Command) -> str:
    """Return the section of one verb: its usage, its help and the options of its own."""
    context = click.Context(command, info_name=f"kubectl userstorage {name}")
    arguments = " ".join(
        parameter.make_metavar(context) for parameter in command.params if isinstance(parameter, click.Argument)
    )
    lines = [f"### {name}", "", "```text", f"kubectl userstorage {name} {arguments}".rstrip(), "```", ""]
    text = re.sub(r"\s+", " ", inspect.cleandoc(command.help or "")).strip()
    lines += [*re.split(r"(?<=[.:]) (?=[A-Z])", text), ""]
    options = [
        parameter.get_help_record(context)
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.name not in _SHARED
    ]
    if options:
        lines += ["| option | meaning |", "|---|---|"]
        lines += [f"| `{_cell(record[0])}` | {_cell(record[1])} |" for record in options if record is not None]
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def main() -> int:
    """Write the page and return exit code 0. With --check, write nothing, and return 1 if it is not current."""
    return write_or_check("pluginreference", __doc__, {TARGET: current(TARGET.read_text(encoding="utf-8"))})


if __name__ == "__main__":
    sys.exit(main())
