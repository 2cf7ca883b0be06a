"""Generates the Grafana dashboard from panels.py."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableOption, VariableRefresh

from monitoring.panels import EVERYTHING, ROWS, Panel

_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_WIDTH = 8
"""Width of a panel, in Grafana's 24 columns."""


def dashboard() -> str:
    """Return the dashboard as JSON that Grafana can import. Its variables select the Prometheus data source, clusters and namespaces."""
    result = Dashboard("UserStorage operator").uid("userstorage-operator").tags(["userstorage"]).refresh("30s")
    result = result.time("now-6h", "now").with_variable(DatasourceVariable("datasource").type("prometheus"))
    result = result.with_variable(_label("cluster")).with_variable(_label("namespace"))
    for title, panels in ROWS.items():
        result = result.with_row(Row(title))
        for panel in panels:
            result = result.with_panel(_time_series(panel))
    return f"{JSONEncoder(sort_keys=True, indent=2).encode(result.build())}\n"


def _label(name: str) -> QueryVariable:
    """Return the variable that selects values of a label. At first it is set to All."""
    variable = QueryVariable(name).datasource(_SOURCE).query(f"label_values(userstorage_leader, {name})")
    variable = variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).multi(multi=True).include_all(include_all=True)
    return variable.all_value(EVERYTHING).current(VariableOption(selected=True, text="All", value="$__all"))


def _time_series(panel: Panel) -> TimeSeries:
    series = TimeSeries().title(panel.title).unit(panel.unit).span(_WIDTH).height(8).min(0).datasource(_SOURCE)
    for query in panel.queries:
        series = series.with_target(Dataquery().expr(query.expression).legend_format(query.legend))
    return series
