"""`python -m monitoring [--check]`: write the generated files of deploy/monitoring, or check that they are current."""

import argparse
import sys

from monitoring.dashboard import dashboard
from monitoring.rules import FOLDER, prometheus_rule


def main() -> int:
    """Write the generated files and return exit code 0. With --check, write nothing, and return 1 if a file is not current."""
    parser = argparse.ArgumentParser(prog="monitoring", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not current")
    check = parser.parse_args().check
    stale = []
    for name, content in (("prometheusrule.yaml", prometheus_rule()), ("dashboard.json", dashboard())):
        path = FOLDER / name
        if path.exists() and path.read_text(encoding="utf-8") == content:
            continue
        stale.append(name)
        if not check:
            path.write_text(content, encoding="utf-8")
    if check and stale:
        print(f"deploy/monitoring: {', '.join(stale)} stale: run `make format`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
