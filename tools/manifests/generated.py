"""Command lines that write generated files, or check that they are current."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from manifests.render import ROOT


def write_or_check(prog: str, description: str | None, files: Mapping[Path, str]) -> int:
    """Write the files, by path, and return exit code 0. With --check, write nothing, and return 1 if a file is not current."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not current")
    check = parser.parse_args().check
    stale = []
    for path, content in files.items():
        if path.exists() and path.read_text(encoding="utf-8") == content:
            continue
        stale.append(str(path.resolve().relative_to(ROOT.resolve())))
        if not check:
            path.write_text(content, encoding="utf-8")
    if check and stale:
        print(f"{', '.join(stale)} stale: run `make format`", file=sys.stderr)
        return 1
    return 0
