"""`python -m monitoring [--check]`: write the generated files of deploy/monitoring, or check that they are current."""

import sys

from manifests.generated import write_or_check
from monitoring.dashboard import dashboard
from monitoring.rules import FOLDER, prometheus_rule


def main() -> int:
    """Write the generated files and return exit code 0. With --check, write nothing, and return 1 if a file is not current."""
    files = {FOLDER / "prometheusrule.yaml": prometheus_rule(), FOLDER / "dashboard.json": dashboard()}
    return write_or_check("monitoring", __doc__, files)


if __name__ == "__main__":
    sys.exit(main())
