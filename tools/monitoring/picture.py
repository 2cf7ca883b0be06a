"""The dashboard as a picture: the panels of dashboard.json, with what a Prometheus answers. Not by Grafana, but near it."""

import json
import re
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter, MinuteLocator
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from monitoring.dashboard import dashboard

_COLUMNS = 24
_CELL = (0.75, 0.32)
"""Inches of one cell of the grid."""
_NAMED = 7
"""Series that a legend has room for."""
_TIMES = {1.0: "s", 1e-3: "ms", 1e-6: "µs"}


def draw(url: str, began: float, ended: float, path: Path) -> None:
    """Write the picture of that time, in seconds since 1970, of the Prometheus at `url`."""
    mpl.rcParams.update({"font.size": 7, "axes.titlesize": 8, "axes.titlelocation": "left", "axes.titleweight": "bold"})
    panels = json.loads(dashboard())["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) + 2
    figure = Figure(figsize=(_COLUMNS * _CELL[0], rows * _CELL[1]), dpi=80)
    for panel in panels:
        place = panel["gridPos"]
        if panel["type"] == "row":
            figure.text(0.012, 1 - (place["y"] + 0.85) / rows, panel["title"], fontsize=11, fontweight="bold", color="#4a4a4a")
            continue
        axes = figure.add_axes(
            (
                (place["x"] + 0.9) / _COLUMNS,
                1 - (place["y"] + place["h"] - 1.6) / rows,
                (place["w"] - 1.3) / _COLUMNS,
                (place["h"] - 2.8) / rows,
            )
        )
        _panel(axes, panel, url, began, ended)
    when = datetime.fromtimestamp(ended, UTC).date()
    figure.text(
        0.012,
        0.4 / rows,
        "Drawn by tools/monitoring/picture.py from deploy/monitoring/dashboard.json and the answers of a real Prometheus to its queries"
        f" ({when}, `make picture`); not a screenshot of Grafana. Legends leave out what stays at zero.",
        color="#6a6a6a",
    )
    figure.savefig(path)


def _panel(axes: Axes, panel: dict[str, Any], url: str, began: float, ended: float) -> None:
    series = [found for target in panel["targets"] for found in _answers(url, target, began, ended)]
    series.sort(key=lambda one: -max(one[2], default=0.0))
    for number, (name, times, values) in enumerate(series):
        shown = number < _NAMED and any(values)
        axes.plot(times, values, linewidth=1.1, label=name if shown else f"_{name}")
    axes.set_title(panel["title"])
    axes.set_ylim(bottom=0, top=None if any(any(values) for _, _, values in series) else 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _shown(value, panel["fieldConfig"]["defaults"]["unit"])))
    axes.xaxis.set_major_locator(MinuteLocator())
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
    axes.grid(visible=True, linewidth=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4, frameon=False, fontsize=6)


def _answers(url: str, target: dict[str, str], began: float, ended: float) -> list[tuple[str, list[datetime], list[float]]]:
    """Name, times and values of each series."""
    asked = urllib.parse.urlencode({"query": target["expr"], "start": began, "end": ended, "step": "2"})
    with urllib.request.urlopen(f"{url}/api/v1/query_range?{asked}", timeout=30) as answer:  # noqa: S310  # our own http URL
        found = json.load(answer)["data"]["result"]
    return [
        (
            _name(target["legendFormat"], one["metric"]),
            [datetime.fromtimestamp(float(moment), UTC) for moment, _ in one["values"]],
            [float(value) for _, value in one["values"]],
        )
        for one in found
    ]


def _name(template: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), template)


def _shown(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value:.3g} %" if value == 0 else f"{value * 100:.3g} %"
    if unit == "s" and value:
        scale = next((scale for scale in _TIMES if value >= scale), 1e-6)
        return f"{value / scale:.3g} {_TIMES[scale]}"
    return f"{value:.3g}{'/s' if unit in ('ops', 'reqps') else ''}"
