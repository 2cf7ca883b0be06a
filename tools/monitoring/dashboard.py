"""The Grafana dashboard, from `panels`."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from monitoring.panels import ROWS, Panel

_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_WIDTH = 8
"""Of the 24 columns that Grafana has."""


def dashboard() -> str:
    """As JSON, to be imported; it asks for the data source."""
    whole = Dashboard("UserStorage operator").uid("userstorage-operator").tags(["userstorage"]).refresh("30s")
    whole = whole.time("now-6h", "now").with_variable(DatasourceVariable("datasource").type("prometheus"))
    for title, panels in ROWS.items():
        whole = whole.with_row(Row(title))
        for panel in panels:
            whole = whole.with_panel(_time_series(panel))
    return f"{JSONEncoder(sort_keys=True, indent=2).encode(whole.build())}\n"


def _time_series(panel: Panel) -> TimeSeries:
    shown = TimeSeries().title(panel.title).unit(panel.unit).span(_WIDTH).height(8).min(0).datasource(_SOURCE)
    for query in panel.queries:
        shown = shown.with_target(Dataquery().expr(query.expression).legend_format(query.legend))
    return shown
