"""`python -m chart [--check]`: write the templates of the Helm chart and the values for Argo CD, or check that they are current."""

import argparse
import sys

from chart.templates import files
from manifests.render import ROOT


def main() -> int:
    """Write the files and return exit code 0. With --check, write nothing, and return 1 if a file is not current."""
    parser = argparse.ArgumentParser(prog="chart", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a template is not current")
    check = parser.parse_args().check
    stale = []
    for path, content in files().items():
        if path.exists() and path.read_text(encoding="utf-8") == content:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if not check:
            path.write_text(content, encoding="utf-8")
    if check and stale:
        print(f"{', '.join(stale)} stale: run `make format`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
