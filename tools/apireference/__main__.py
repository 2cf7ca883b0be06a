"""`python -m apireference [--check]`: write docs/api-reference.md, or check that it is current."""

import sys

import yaml

from apireference.render import page
from manifests.generated import write_or_check
from manifests.render import ROOT
from userstorage_operator.api.reasons import CLASS_REASONS, REASONS

TARGET = ROOT / "docs" / "api-reference.md"
_CRDS = ("userstorage.dev_userstorages.yaml", "userstorage.dev_userstorageclasses.yaml")
_EXAMPLES = {"UserStorage": "userstorage.yaml", "UserStorageClass": "userstorageclass.yaml"}


def current() -> str:
    """Return the content that docs/api-reference.md should have, from the current CRDs, examples and reasons."""
    crds = [yaml.safe_load((ROOT / "deploy" / "crds" / name).read_text(encoding="utf-8")) for name in _CRDS]
    examples = {kind: (ROOT / "examples" / name).read_text(encoding="utf-8") for kind, name in _EXAMPLES.items()}
    return page(crds, examples, {"UserStorage": REASONS, "UserStorageClass": CLASS_REASONS})


def main() -> int:
    """Write docs/api-reference.md and return exit code 0. With --check, write nothing, and return 1 if it is not current."""
    return write_or_check("apireference", __doc__, {TARGET: current()})


if __name__ == "__main__":
    sys.exit(main())
