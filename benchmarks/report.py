"""Writes the figures of the newest results in `results/` into docs/performance.md, docs/gate.md, docs/kubectl-plugin.md and the
README, and draws docs/performance.png.

A block starts with `<!-- NAME: … -->` and ends with `<!-- end -->`. With `--check`, only compares, and the picture not at all.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

from measuring import RESULTS, ROOT
from side_by_side import SERVERS, Part, Round

DOCUMENT = ROOT / "docs/performance.md"
GATE = ROOT / "docs/gate.md"
PLUGIN = ROOT / "docs/kubectl-plugin.md"
README = ROOT / "README.md"
PICTURE = ROOT / "docs/performance.png"

Result = dict[str, Any]
Column = tuple[str, str, Callable[[Round], float]]
"""Title, format and value of a column."""


def newest(kind: str) -> tuple[str, Result] | None:
    """Return name and content of the newest result of a kind, such as `scale`; None if there is none."""
    paths = sorted(RESULTS.glob(f"{kind}-2*-??????.json"))
    return (paths[-1].stem, json.loads(paths[-1].read_text())) if paths else None


def rounds(result: Result) -> list[Round]:
    """Return the rounds of a result."""
    return [Round(**{**one, "created": Part(**one["created"]), "deleted": Part(**one["deleted"])}) for one in result["rounds"]]


COLUMNS: tuple[Column, ...] = (
    ("CRs/s to Ready", "{:.1f}", lambda r: r.objects / r.created.makespan),
    ("p50 / last one", "{:.2f}", lambda r: r.created.p50 / r.created.makespan),
    ("p50 to Ready", "{:.1f} s", lambda r: r.created.p50),
    ("p99 to Ready", "{:.1f} s", lambda r: r.created.p99),
    ("CPU per CR", "{:.1f} ms", lambda r: r.created.cpu["contender"] / r.objects * 1000),
    ("of all processes", "{:.0f} ms", lambda r: r.created.cpu_of_all / r.objects * 1000),
    ("writes per CR", "{:.2f}", lambda r: r.created.writes / r.objects),
    ("deletions/s", "{:.1f}", lambda r: r.objects / r.deleted.makespan),
    ("CPU per deletion", "{:.1f} ms", lambda r: r.deleted.cpu["contender"] / r.objects * 1000),
    ("writes per deletion", "{:.2f}", lambda r: r.deleted.writes / r.objects),
    ("peak memory", "{:.0f} MiB", lambda r: r.peak_memory),
)
_IN_README = ("CRs/s to Ready", "p50 to Ready", "p99 to Ready", "CPU per CR", "CPU per deletion", "peak memory")


def source(name: str, result: Result) -> str:
    """Return where figures come from, as a sentence."""
    machine = result["machine"]
    return (
        f"`{result['command']}` at commit {result['commit']}, {machine['cores']} cores ({machine['model']}), "
        f"Kubernetes {result['versions']['kubernetes']} ([result](../benchmarks/results/{name}.md))."
    )


def side_by_side(found: list[Round], titles: Iterable[str]) -> list[str]:
    """Return a Markdown table with a row for each contender and number of objects, and the ratios to the last contender."""
    columns = [column for column in COLUMNS if column[0] in titles]
    lines = [f"| objects | contender | {' | '.join(title for title, _, _ in columns)} |", "|---" * (len(columns) + 2) + "|"]
    for objects in sorted({one.objects for one in found}):
        names = list(dict.fromkeys(one.contender for one in found if one.objects == objects))
        values: dict[str, list[float]] = {
            name: [
                median(value(one) for one in found if (one.objects, one.contender) == (objects, name))
                for _, _, value in columns
            ]
            for name in names
        }
        for name, own in values.items():
            cells = [shown.format(one) for (_, shown, _), one in zip(columns, own, strict=True)]
            lines.append(f"| {objects:,} | {name} | {' | '.join(cells)} |")
        for name in names[:-1]:
            ratios = [f"{one / other:.2f}" for one, other in zip(values[name], values[names[-1]], strict=True)]
            lines.append(f"| | {name} / {names[-1]} | {' | '.join(ratios)} |")
    return lines


def budget(found: list[Round]) -> list[str]:
    """Return a Markdown table of the CPU per CR by process, for the smallest number of objects."""
    objects = min(one.objects for one in found)
    processes = ("contender", *SERVERS)
    lines = [f"| {objects:,} objects, ms per CR | {' | '.join(processes)} | sum |", "|---" * (len(processes) + 2) + "|"]
    for name in dict.fromkeys(one.contender for one in found):
        own = [one for one in found if (one.objects, one.contender) == (objects, name)]
        cells = [f"{median(one.created.cpu[process] for one in own) / objects * 1000:.1f}" for process in processes]
        lines.append(f"| {name} | {' | '.join(cells)} | {median(one.created.cpu_of_all for one in own) / objects * 1000:.0f} |")
    return lines


def by_request(found: list[Round]) -> list[str]:
    """Return a Markdown table of the requests per object by verb and resource, for the smallest number of objects."""
    objects = min(one.objects for one in found)
    own = [one for one in found if one.objects == objects]
    names = list(dict.fromkeys(one.contender for one in own))
    lines = [f"| {objects:,} objects | request | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for part, title in (("created", "creation"), ("deleted", "deletion")):
        for request in sorted({name for one in own for name in getattr(one, part).requests}):
            counts = [
                median(getattr(one, part).requests.get(request, 0) for one in own if one.contender == name) / objects
                for name in names
            ]
            if max(counts) >= 0.005:
                lines.append(f"| {title} | {request} | {' | '.join(f'{count:.2f}' for count in counts)} |")
    return lines


def document_blocks() -> dict[str, list[str]]:
    """Return the generated blocks of docs/performance.md, by name."""
    nothing = ["Not measured yet."]
    blocks = {"side-by-side": nothing, "scale": nothing, "growth": nothing, "crowds": nothing, "profile": nothing}
    if (bench := newest("side-by-side")) is not None:
        found = rounds(bench[1])
        tables = (side_by_side(found, [title for title, _, _ in COLUMNS]), budget(found), by_request(found))
        picture = ["", "![CPU per object, waiting time and memory against the number of objects](performance.png)"]
        shown = [line for table in tables for line in ("", *table)] + (picture if PICTURE.exists() else [])
        blocks["side-by-side"] = [source(*bench), *shown]
    for kind in ("scale", "growth", "crowds"):
        if (parts := newest(kind)) is not None:
            text = (RESULTS / f"{parts[0]}.md").read_text().splitlines()
            # Requests have rows of their own in the result: too long for a page.
            rows = [line for line in text if line.startswith("|") and "| requests |" not in line]
            blocks[kind] = [source(*parts), "", *rows]
    if (profile := newest("profile")) is not None:
        shares = (RESULTS / f"{profile[0]}.md").read_text().rstrip("\n")
        blocks["profile"] = re.sub(r"\((profile-[^)]+)\)", r"(../benchmarks/results/\1)", shares).splitlines()
    return blocks


def result_block(kind: str) -> dict[str, list[str]]:
    """Return the block of a kind of results that a document shows whole: all but the line with the command."""
    if (bench := newest(kind)) is None:
        return {kind: ["Not measured yet."]}
    _, *shown = (RESULTS / f"{bench[0]}.md").read_text().rstrip("\n").splitlines()
    return {kind: [source(*bench), *shown]}


def readme_blocks() -> dict[str, list[str]]:
    """Return the generated block of the README."""
    if (bench := newest("side-by-side")) is None:
        return {"side-by-side": ["Not measured yet."]}
    lines = [source(*bench).replace("(../", "("), "", *side_by_side(rounds(bench[1]), _IN_README)]
    return {"side-by-side": lines}


def with_blocks(text: str, blocks: dict[str, list[str]]) -> str:
    """Return the text with the content of each block replaced. Raises ValueError if there is no such block."""
    for name, lines in blocks.items():
        before, start, rest = text.partition(f"<!-- {name}: generated by make performance -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not end:
            raise ValueError(f"no block {name}")
        text = "".join((before, start, "\n", "\n".join(lines), "\n\n", end, after))
    return text


def draw(path: Path) -> None:
    """Draw cost, waiting time and memory against the number of objects."""
    import matplotlib as mpl  # noqa: PLC0415  # in an optional group
    from matplotlib import pyplot as plt  # noqa: PLC0415

    bench, scale = newest("side-by-side"), newest("scale")
    if bench is None:
        return
    found = rounds(bench[1])
    mpl.use("Agg")
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    plots: tuple[Column, ...] = (
        ("CPU per object, ms", "", lambda r: r.created.cpu["contender"] / r.objects * 1000),
        ("p50 to Ready / the last one", "", lambda r: r.created.p50 / r.created.makespan),
        ("memory after the creation, MiB", "", lambda r: r.memory),
    )
    for axis, (title, _, value) in zip(axes, plots, strict=True):
        for name in dict.fromkeys(one.contender for one in found):
            sizes = sorted({one.objects for one in found if one.contender == name})
            points = [median(value(one) for one in found if (one.objects, one.contender) == (size, name)) for size in sizes]
            axis.plot(sizes, points, marker="o", label=name)
        axis.set(title=title, xlabel="objects", xscale="log")
    if scale is not None and "create" in scale[1]["parts"]:
        created = scale[1]["parts"]["create"]
        own = (created["cpu_ms_per_object"], created["p50"] / created["seconds"], created["memory"])
        smaller = rounds(scale[1])
        for axis, (_, _, value), last in zip(axes, plots, own, strict=True):
            sizes = [*(one.objects for one in smaller), created["objects"]]
            axis.plot(sizes, [*map(value, smaller), last], marker="s", linestyle="--", label="operator, make bench-scale")
    for axis in axes:
        ticks = sorted({int(x) for line in axis.get_lines() for x in line.get_xdata()})
        axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks], minor=False)
        axis.minorticks_off()
        axis.set_ylim(bottom=0)
    axes[0].legend()
    figure.savefig(path, dpi=100, metadata={"Software": None})


def main() -> None:
    """Write the documents, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if a document is not current; write nothing")
    parser.add_argument("--picture", action="store_true", help="draw the picture, too: needs the dependency group `picture`")
    chosen = parser.parse_args()
    if chosen.picture:
        draw(PICTURE)
    written = (
        (DOCUMENT, document_blocks()),
        (GATE, result_block("gate")),
        (PLUGIN, result_block("plugin")),
        (README, readme_blocks()),
    )
    for path, blocks in written:
        current = path.read_text()
        wanted = with_blocks(current, blocks)
        if current == wanted:
            continue
        if chosen.check:
            sys.exit(f"{path.relative_to(ROOT)} has not the figures of the newest result: run `make performance`")
        path.write_text(wanted)


if __name__ == "__main__":
    main()
