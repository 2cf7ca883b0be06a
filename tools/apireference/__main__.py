"""`python -m apireference [--check]`: write docs/api-reference.md, or check that it is current."""

import argparse
import difflib
import sys
from itertools import islice
from pathlib import Path

import yaml

from apireference.render import page
from userstorage_operator.api.reasons import CLASS_REASONS, REASONS

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "docs" / "api-reference.md"
_CRDS = ("userstorage.dev_userstorages.yaml", "userstorage.dev_userstorageclasses.yaml")
_EXAMPLES = {"UserStorage": "userstorage.yaml", "UserStorageClass": "userstorageclass.yaml"}
_HINT_LINES = 20


def current() -> str:
    """Return the content that docs/api-reference.md should have, from the current CRDs, examples and reasons."""
    crds = [yaml.safe_load((ROOT / "deploy" / "crds" / name).read_text(encoding="utf-8")) for name in _CRDS]
    examples = {kind: (ROOT / "examples" / name).read_text(encoding="utf-8") for kind, name in _EXAMPLES.items()}
    return page(crds, examples, {"UserStorage": REASONS, "UserStorageClass": CLASS_REASONS})


def main() -> int:
    """Write docs/api-reference.md and return exit code 0. With --check, write nothing, and return 1 if it is not current."""
    parser = argparse.ArgumentParser(prog="apireference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is not current")
    expected = current()
    if not parser.parse_args().check:
        TARGET.write_text(expected, encoding="utf-8")
        return 0
    actual = TARGET.read_text(encoding="utf-8") if TARGET.exists() else ""
    if actual == expected:
        return 0
    changes = difflib.unified_diff(actual.splitlines(), expected.splitlines(), "actual", "expected", lineterm="")
    print(*islice(changes, _HINT_LINES), sep="\n", file=sys.stderr)
    print("docs/api-reference.md is stale: run `PYTHONPATH=tools python -m apireference`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
