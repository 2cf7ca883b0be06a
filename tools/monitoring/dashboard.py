"""Generates the Grafana dashboard from panels.py."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from monitoring.panels import ROWS, Panel

_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_WIDTH = 8
"""Width of a panel, in Grafana's 24 columns."""


def dashboard() -> str:
    """Return the dashboard as JSON that Grafana can import. A dashboard variable selects the Prometheus data source."""
    result = Dashboard("UserStorage operator").uid("userstorage-operator").tags(["userstorage"]).refresh("30s")
    result = result.time("now-6h", "now").with_variable(DatasourceVariable("datasource").type("prometheus"))
    for title, panels in ROWS.items():
        result = result.with_row(Row(title))
        for panel in panels:
            result = result.with_panel(_time_series(panel))
    return f"{JSONEncoder(sort_keys=True, indent=2).encode(result.build())}\n"


def _time_series(panel: Panel) -> TimeSeries:
    series = TimeSeries().title(panel.title).unit(panel.unit).span(_WIDTH).height(8).min(0).datasource(_SOURCE)
    for query in panel.queries:
        series = series.with_target(Dataquery().expr(query.expression).legend_format(query.legend))
    return series
