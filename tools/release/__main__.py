"""`python -m release plan TAG REPOSITORY`, `reference IMAGE METADATA`, `artifacts IMAGE REPOSITORY` and `notes`."""

import argparse
import json
import sys
from pathlib import Path

from localcluster import ClusterError
from localcluster.progress import Console
from release.artifacts import VERSION, Image, write
from release.notes import notes
from release.plan import plan, tags


def main() -> int:
    """Run one command and return its exit code: 0 if it succeeded, else 1. An error is printed on standard error."""
    parser = argparse.ArgumentParser(prog="release", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    artifacts = commands.add_parser(
        "artifacts", help="write manifests, chart, list of images, krew manifest, notes and checksums"
    )
    artifacts.add_argument("image", help="such as registry.example.org/userstorage-operator:0.1.0@sha256:…")
    artifacts.add_argument("repository", help="owner/name on GitHub, from which krew downloads the plugin")
    artifacts.add_argument("--directory", type=Path, default=Path("dist/release"), help="it is emptied first")
    commands.add_parser("notes", help="print the notes of this version")
    planning = commands.add_parser("plan", help="print under which names a tag is published, as outputs of a workflow")
    planning.add_argument("tag", help="such as v0.1.0")
    planning.add_argument("repository", help="owner/name on GitHub")
    reference = commands.add_parser("reference", help="print the digest and the whole reference of a built image, as outputs")
    reference.add_argument("image", help="such as registry.example.org/userstorage-operator:0.1.0")
    reference.add_argument("metadata", type=Path, help="the metadata file of docker buildx")
    try:
        print("\n".join(_lines(parser.parse_args())))
    except (ClusterError, OSError, ValueError) as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


def _lines(options: argparse.Namespace) -> list[str]:
    """Run a command and return what it prints."""
    match options.command:
        case "notes":
            return [notes(VERSION)]
        case "plan":
            return plan(options.tag, options.repository, tags(), VERSION).lines()
        case "reference":
            built = json.loads(options.metadata.read_text(encoding="utf-8"))
            if "containerimage.digest" not in built:
                raise ValueError(f"{options.metadata}: no containerimage.digest; make release-image writes it")
            image = Image.parse(f"{options.image}@{built['containerimage.digest']}")
            return [f"digest={image.digest}", f"reference={image}"]
    write(Image.parse(options.image), options.repository, options.directory, Console())
    return [str(path) for path in sorted(options.directory.iterdir())]


if __name__ == "__main__":
    sys.exit(main())
