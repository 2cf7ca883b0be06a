"""The table of what each gateway answered in a test run, as a document: `--gateway-table FILE`."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from support.revision import Origin
from testservers.frontdoor import GATEWAYS

ANSWERS = "answers"
"""Name of the property of a test with a mapping of who asked and the code -> how often."""
CASE = "case"
"""Name of the property of a test that gets a row of its own, with the name of its case."""
_Row = dict[str, tuple[Counter[str], Counter[str]]]
"""Gateway -> how many tests ended in which way, and the answers."""


class GatewayTable:
    """Collects the reports of tests whose parameters name a gateway."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self._config = config
        self._path = path
        self._origin = Origin("make test-gateways")
        self._outcomes: dict[str, str] = {}
        self._rows: dict[str, _Row] = defaultdict(lambda: defaultdict(lambda: (Counter(), Counter())))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add one report. Fixtures add properties at their end, so that only the report of the teardown has all of them."""
        name, _, parameters = report.nodeid.rpartition("::")[2].removesuffix("]").partition("[")
        gateway = parameters.partition("-")[0]
        if gateway not in GATEWAYS:
            return
        if self._outcomes.get(report.nodeid, "passed") == "passed":
            self._outcomes[report.nodeid] = report.outcome
        if report.when == "teardown":
            properties: dict[str, Any] = dict(report.user_properties)
            case = properties.get(CASE)
            outcomes, answers = self._rows[f"{name}: {case}" if case is not None else name][gateway]
            outcomes[self._outcomes[report.nodeid]] += 1
            answers.update(properties.get(ANSWERS, {}))

    def pytest_sessionfinish(self) -> None:
        """Write the table."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(self.render(), encoding="utf-8")

    def render(self) -> str:
        """Return the table as Markdown."""
        outage, mebibytes = (self._config.getoption(f"--gateway-{name}") for name in ("outage", "mebibytes"))
        lines = [
            "# Gateways: results",
            "",
            str(self._origin),
            f"A part is away for {outage:.0f} s; the file has {mebibytes} MiB.",
            "A cell has how many tests passed, and how often who got which code, such as `bob: 403 (12)`; 0 is a connection that was closed without an answer.",
            "",
            f"| test | {' | '.join(GATEWAYS)} |",
            f"|---|{'---|' * len(GATEWAYS)}",
        ]
        for name, row in self._rows.items():
            lines.append(f"| {name} | {' | '.join(_cell(*row[gateway]) for gateway in GATEWAYS)} |")
        return "\n".join(lines) + "\n"


def _cell(outcomes: Counter[str], answers: Counter[str]) -> str:
    by_user = defaultdict[str, list[str]](list)
    for answer, count in sorted(answers.items()):
        user, _, code = answer.rpartition(" ")
        by_user[user].append(f"{code} ({count})")
    ended = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    return "; ".join([ended or "not run", *(f"{user}: {', '.join(codes)}" for user, codes in by_user.items())])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--gateway-table", type=Path, help="file for the table of what each gateway answered")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--gateway-table")
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(GatewayTable(config, path))
