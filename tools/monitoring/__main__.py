"""`python -m monitoring [--check]`: write what deploy/monitoring has that is made, or only see whether it is current."""

import argparse
import sys

from monitoring.dashboard import dashboard
from monitoring.rules import FOLDER, prometheus_rule


def main() -> int:
    """Exit code 1 where --check finds a file stale."""
    parser = argparse.ArgumentParser(prog="monitoring", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not current")
    check = parser.parse_args().check
    stale = []
    for name, wanted in (("prometheusrule.yaml", prometheus_rule()), ("dashboard.json", dashboard())):
        path = FOLDER / name
        if path.exists() and path.read_text(encoding="utf-8") == wanted:
            continue
        stale.append(name)
        if not check:
            path.write_text(wanted, encoding="utf-8")
    if check and stale:
        print(f"deploy/monitoring: {', '.join(stale)} stale: run `make format`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
