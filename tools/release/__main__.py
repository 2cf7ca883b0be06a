"""`python -m release artifacts IMAGE` and `python -m release notes`."""

import argparse
import sys
from pathlib import Path

from localcluster import ClusterError
from localcluster.progress import Console
from release.artifacts import VERSION, Image, write
from release.notes import notes


def main() -> int:
    """Run one command and return its exit code: 0 if it succeeded, else 1. An error is printed on standard error."""
    parser = argparse.ArgumentParser(prog="release", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    artifacts = commands.add_parser("artifacts", help="write manifests, chart, list of images, notes and checksums")
    artifacts.add_argument("image", help="such as registry.example.org/userstorage-operator:0.1.0@sha256:…")
    artifacts.add_argument("--directory", type=Path, default=Path("dist/release"), help="it is emptied first")
    commands.add_parser("notes", help="print the notes of this version")
    options = parser.parse_args()
    if options.command == "notes":
        print(notes(VERSION))
        return 0
    try:
        write(Image.parse(options.image), options.directory, Console())
    except (ClusterError, ValueError) as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    for path in sorted(options.directory.iterdir()):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
