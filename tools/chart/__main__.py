"""`python -m chart [--check]`: write the templates of the Helm chart and the values for Argo CD, or check that they are current."""

import sys

from chart.templates import files
from manifests.generated import write_or_check


def main() -> int:
    """Write the files and return exit code 0. With --check, write nothing, and return 1 if a file is not current."""
    return write_or_check("chart", __doc__, files())


if __name__ == "__main__":
    sys.exit(main())
