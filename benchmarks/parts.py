"""A result of several parts, written after each, so that it is kept if the run is stopped."""

from pathlib import Path
from typing import Any

from measuring import save, versions

from localcluster.progress import Report


class Parts:
    """The results of the parts so far: for each, what was measured, by name. A dictionary there is a count of requests."""

    def __init__(self, path: Path, repeat: str, report: Report) -> None:
        self.found: dict[str, dict[str, Any]] = {}
        self._path = path
        self._about = {**versions(), "command": repeat}
        self._report = report

    def add(self, part: str, **measured: Any) -> None:
        """Add the result of a part."""
        self.found[part] = {name: round(one, 4) if isinstance(one, float) else one for name, one in measured.items()}
        shown = ", ".join(f"{name} {_shown(one)}" for name, one in measured.items() if not isinstance(one, dict))
        self.keep(f"{part}: {shown}")

    def keep(self, news: str) -> None:
        """Report what is new, and write the result so far."""
        self._report(news)
        save(self._path, self.result(), self.text())

    def result(self) -> dict[str, Any]:
        """Return all results for JSON."""
        return {**self._about, "parts": self.found}

    def text(self) -> str:
        """Return all results as a Markdown table."""
        about = self._about
        lines = [f"`{about['command']}` at commit {about['commit']}, {about['time']}, {about['machine']['cores']} cores.", ""]
        lines += ["| part | measured | value |", "|---|---|---|"]
        for part, results in self.found.items():
            for name, one in results.items():
                shown = ", ".join(f"{key}: {count}" for key, count in one.items()) if isinstance(one, dict) else _shown(one)
                lines.append(f"| {part} | {name.replace('_', ' ')} | {shown} |")
        return "\n".join(lines)


def _shown(measured: Any) -> str:
    return f"{measured:.3g}" if isinstance(measured, float) and measured < 1000 else str(measured)
