"""Reports tests that failed and passed when they were run again. They do not fail the run."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the first failure of each such test. A test that failed twice is in pytest's own report."""
    first = {report.nodeid: report for report in reversed(terminalreporter.stats.get("rerun", []))}
    failed = {report.nodeid for outcome in ("failed", "error") for report in terminalreporter.stats.get(outcome, [])}
    passed = [report for nodeid, report in first.items() if nodeid not in failed]
    if not passed:
        return
    terminalreporter.section("passed only when run again: a defect of test or operator, look at it", red=True, bold=True)
    for report in passed:
        terminalreporter.section(report.nodeid, sep="_")
        terminalreporter.line(report.longreprtext)
        for title, content in report.sections:
            terminalreporter.section(title, sep="-")
            terminalreporter.line(content)
    for report in passed:
        terminalreporter.line(f"RERUN {report.nodeid}")
