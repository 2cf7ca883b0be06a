"""`kubectl_complete-userstorage`: kubectl calls it to complete the command line of the plugin, and reads Cobra's format."""

import sys

from click.shell_completion import CompletionItem, ShellComplete

from kubectl_userstorage.cli import group

_NO_FILES, _DEFAULT = 4, 0
"""Cobra's directives: offer no file names; let the shell decide."""


class _Kubectl(ShellComplete):
    """Completion without a script for a shell: kubectl's own script does that part."""

    name = "kubectl"
    source_template = ""

    def format_completion(self, item: CompletionItem) -> str:
        """Return a line of Cobra's format: the word, a tab and its help."""
        return f"{item.value}\t{item.help}" if item.help else str(item.value)


def lines(words: list[str]) -> list[str]:
    """Return the answer for the words after `kubectl userstorage`; the last one is incomplete, or empty."""
    *complete, incomplete = words or [""]
    shell = _Kubectl(group, {}, "kubectl userstorage", "")
    items = shell.get_completions(complete, incomplete)
    is_path = any(item.type in ("file", "dir") for item in items)
    return [
        *(shell.format_completion(item) for item in items if item.type == "plain"),
        f":{_DEFAULT if is_path else _NO_FILES}",
    ]


def main() -> None:
    """Answer kubectl."""
    print("\n".join(lines(sys.argv[1:])))
