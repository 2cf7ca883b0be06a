"""Draws a picture that resembles the Grafana dashboard: the panels of dashboard.json with data of a Prometheus server."""

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
from monitoring.panels import with_everything_selected

_COLUMNS = 24
_CELL = (0.75, 0.32)
"""Width and height of a cell of the dashboard's grid, in inches."""
_LEGEND_MAX = 7
"""Maximum number of series in the legend of a panel."""
_TIMES = {1.0: "s", 1e-3: "ms", 1e-6: "µs"}


def draw(url: str, start: float, end: float, path: Path) -> None:
    """Write a picture of the dashboard to the file `path`, with data of the Prometheus server at `url`.

    The data is that between the Unix times `start` and `end`.
    """
    mpl.rcParams.update({"font.size": 7, "axes.titlesize": 8, "axes.titlelocation": "left", "axes.titleweight": "bold"})
    panels = json.loads(dashboard())["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) + 2
    figure = Figure(figsize=(_COLUMNS * _CELL[0], rows * _CELL[1]), dpi=80)
    for panel in panels:
        grid = panel["gridPos"]
        if panel["type"] == "row":
            figure.text(0.012, 1 - (grid["y"] + 0.85) / rows, panel["title"], fontsize=11, fontweight="bold", color="#4a4a4a")
            continue
        axes = figure.add_axes(
            (
                (grid["x"] + 0.9) / _COLUMNS,
                1 - (grid["y"] + grid["h"] - 1.6) / rows,
                (grid["w"] - 1.3) / _COLUMNS,
                (grid["h"] - 2.8) / rows,
            )
        )
        _panel(axes, panel, url, start, end)
    when = datetime.fromtimestamp(end, UTC).date()
    figure.text(
        0.012,
        0.4 / rows,
        "Drawn by tools/monitoring/picture.py from deploy/monitoring/dashboard.json and the answers of a real Prometheus"
        f" ({when}, `make picture`); not a screenshot of Grafana. Legends omit series that stay at zero.",
        color="#6a6a6a",
    )
    figure.savefig(path)


def _panel(axes: Axes, panel: dict[str, Any], url: str, start: float, end: float) -> None:
    series = [found for target in panel["targets"] for found in _query_range(url, target, start, end)]
    series.sort(key=lambda each: -max(each[2], default=0.0))
    for number, (name, times, values) in enumerate(series):
        shown = number < _LEGEND_MAX and any(values)
        axes.plot(times, values, linewidth=1.1, label=name if shown else f"_{name}")
    axes.set_title(panel["title"])
    axes.set_ylim(bottom=0, top=None if any(any(values) for _, _, values in series) else 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _format(value, panel["fieldConfig"]["defaults"]["unit"])))
    axes.xaxis.set_major_locator(MinuteLocator())
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
    axes.grid(visible=True, linewidth=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4, frameon=False, fontsize=6)


def _query_range(url: str, target: dict[str, str], start: float, end: float) -> list[tuple[str, list[datetime], list[float]]]:
    """Return the legend, the times and the values of each series that the query of a panel gives."""
    parameters = urllib.parse.urlencode(
        {"query": with_everything_selected(target["expr"]), "start": start, "end": end, "step": "2"}
    )
    with urllib.request.urlopen(f"{url}/api/v1/query_range?{parameters}", timeout=30) as response:  # noqa: S310  # our own http URL
        result = json.load(response)["data"]["result"]
    return [
        (
            _name(target["legendFormat"], series["metric"]),
            [datetime.fromtimestamp(float(moment), UTC) for moment, _ in series["values"]],
            [float(value) for _, value in series["values"]],
        )
        for series in result
    ]


def _name(template: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), template)


def _format(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value:.3g} %" if value == 0 else f"{value * 100:.3g} %"
    if unit == "s" and value:
        scale = next((scale for scale in _TIMES if value >= scale), 1e-6)
        return f"{value / scale:.3g} {_TIMES[scale]}"
    return f"{value:.3g}{'/s' if unit in ('ops', 'reqps') else ''}"
