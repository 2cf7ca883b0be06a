"""The result of a soak: a table, the samples and a picture of them."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from soak.samples import Samples
from support.revision import commit, machine

_SHOWN = 50
"""Violations in the table."""


@dataclass
class Result:
    """What a soak has shown."""

    started: datetime
    options: str
    """Those of the command, as SOAK_ARGS has them."""
    warm_up: float
    """Minutes whose samples are not judged."""
    samples: Samples = field(default_factory=Samples)
    changes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    writes: int = 0
    """How many the operator has sent."""
    violations: list[str] = field(default_factory=list)

    def write(self, directory: Path) -> str:
        """Write `soak.md`, `soak.json` and `soak.png`, and return the first."""
        directory.mkdir(parents=True, exist_ok=True)
        revision = commit()
        command = f"make soak SOAK_ARGS='{self.options}'"
        warm = self.samples.since(self.warm_up)
        rows: dict[str, str] = {
            "violated invariants": str(len(self.violations)),
            "growth of the memory by linear regression": f"{warm.slope():.2f} MiB an hour",
            "memory, first and last sample": f"{warm.rss_mib[0]:.1f} and {warm.rss_mib[-1]:.1f} MiB",
            **_halves(warm),
            "longest wait in the queue, of all samples": f"{max(self.samples.queue_age):.1f} s",
            "writes of the operator": str(self.writes),
            "changes": _listed(self.changes),
            "faults": _listed(self.faults),
        }
        lines = [
            "# Soak: result",
            "",
            f"`{command}`, {self.started:%Y-%m-%d %H:%M} UTC, commit {revision}.",
            f"{machine()}.",
            f"Memory and numbers are those of one operator process after {self.warm_up:g} minutes of warm-up.",
            "",
            "| figure | value |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in rows.items()),
            "",
            *(f"- {violation}" for violation in self.violations[:_SHOWN]),
            *([""] if self.violations else []),
            "![Memory, descriptors, tasks and the age of the queue over the time of the run](soak.png)",
            "",
        ]
        text = "\n".join(lines)
        (directory / "soak.md").write_text(text)
        kept = {
            "command": command,
            "commit": revision,
            "machine": machine(),
            "started": self.started.isoformat(timespec="minutes"),
        }
        figures = {"figures": rows, "violations": self.violations}
        samples = json.dumps(asdict(self.samples))
        (directory / "soak.json").write_text(f'{json.dumps(kept | figures, indent=1)[:-2]},\n "samples": {samples}\n}}\n')
        _draw(self.samples, self.warm_up, directory / "soak.png")
        return text


def _halves(warm: Samples) -> dict[str, str]:
    found = {}
    for name in ("descriptors", "threads", "tasks"):
        before, after = warm.halves(name)
        found[f"{name}, median of the first and the second half"] = f"{before:g} and {after:g}"
    return found


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _draw(samples: Samples, warm_up: float, path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415  # in an optional group

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    drawn: dict[str, dict[str, Sequence[float]]] = {
        "memory (MiB)": {"resident": samples.rss_mib},
        "descriptors, threads": {"descriptors": samples.descriptors, "threads": samples.threads},
        "tasks": {"tasks": samples.tasks},
        "oldest in the queue (s)": {"wait": samples.queue_age},
    }
    figure, axes = plt.subplots(len(drawn), 1, figsize=(9, 9), sharex=True)
    for axis, (label, lines) in zip(axes, drawn.items(), strict=True):
        for name, values in lines.items():
            axis.plot(samples.minutes, values, label=name, linewidth=1)
        axis.axvline(warm_up, color="grey", linestyle=":", linewidth=1)
        axis.set_ylabel(label)
        axis.set_ylim(0, max(1.0, *(max(values) for values in lines.values())) * 1.1)
        axis.grid(alpha=0.3)
        axis.legend(loc="lower right")
    axes[0].set_title("One operator process under changes and faults; dotted: end of the warm-up", fontsize=10)
    axes[-1].set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)
