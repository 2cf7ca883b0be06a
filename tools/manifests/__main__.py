"""`python -m manifests`: validate all of deploy/ against the schemas of Kubernetes."""

import sys

from manifests.render import PARTS, WHOLE, NotRendered, render, schema_errors


def main() -> int:
    """Print for each directory the number of objects and the invalid ones.

    Return 1 if a directory cannot be rendered or has an invalid object, else 0.
    """
    found = 0
    for directory in (*WHOLE, *PARTS):
        try:
            objects = render(directory)
        except NotRendered as error:
            print(error, file=sys.stderr)
            return 1
        for invalid in schema_errors(objects):
            found += 1
            print(f"{directory}: {invalid}", file=sys.stderr)
        print(f"{directory}: {len(objects)} objects")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
