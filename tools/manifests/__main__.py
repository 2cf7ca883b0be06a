"""`python -m manifests`: hold all of deploy/ against Kubernetes' schemas."""

import sys

from manifests.render import PARTS, WHOLE, NotRendered, faults, render


def main() -> int:
    """Exit code 1 where something does not render or is not valid."""
    found = 0
    for directory in (*WHOLE, *PARTS):
        try:
            objects = render(directory)
        except NotRendered as error:
            print(error, file=sys.stderr)
            return 1
        for fault in faults(objects):
            found += 1
            print(f"{directory}: {fault}", file=sys.stderr)
        print(f"{directory}: {len(objects)} objects")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
