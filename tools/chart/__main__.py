"""`python -m chart [--check]`: write the generated templates of the Helm chart, or check that they are current."""

import argparse
import sys

from chart.templates import CHART, files


def main() -> int:
    """Write the templates and return exit code 0. With --check, write nothing, and return 1 if one is not current."""
    parser = argparse.ArgumentParser(prog="chart", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a template is not current")
    check = parser.parse_args().check
    stale = []
    for name, content in files().items():
        path = CHART / "templates" / name
        if path.exists() and path.read_text(encoding="utf-8") == content:
            continue
        stale.append(name)
        if not check:
            path.write_text(content, encoding="utf-8")
    if check and stale:
        print(f"{CHART.name}: {', '.join(stale)} stale: run `make format`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
