"""The command line: `python -m operatorimage build|push`."""

import argparse
import sys
from pathlib import Path

from localcluster import ClusterError
from localcluster.progress import Console
from operatorimage import BUILDAH, choose, engines


def main() -> int:
    """Run one command and return its exit code: 0 if it succeeded, else 1. An error is printed on standard error."""
    options = _parser().parse_args()
    try:
        _run(options)
    except ClusterError as error:
        print(f"operatorimage: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    report = Console()
    engine = choose(report)
    if options.command == "push":
        engine.push(options.reference, plain_http=options.plain_http)
        report(f"pushed {options.reference}")
        return
    base = options.base or (engines.debian_base(report) if engine is BUILDAH else "")
    engine.build(options.reference, base, *options.option)
    report(f"built {options.reference}")
    if options.archive:
        engine.save(options.reference, options.archive)
        report(f"written to {options.archive}")
    if options.sbom:
        engine.build(f"{options.reference}-sbom", base, "--target=sbom", f"--output={options.sbom}")
        report(f"bill of materials in {options.sbom}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="operatorimage", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build the image")
    build.add_argument("reference", help="such as registry.example.org/userstorage-operator:0.1.0")
    build.add_argument("--base", help="base image; default: that of the Dockerfile, or without Docker one of Debian packages")
    build.add_argument("--option", action="append", default=[], help="option for the build of the image; repeatable")
    build.add_argument("--archive", type=Path, help="tar file to write the image to")
    build.add_argument("--sbom", type=Path, help="directory to write the bill of materials (CycloneDX) to")
    push = commands.add_parser("push", help="push the image to the registry in its name")
    push.add_argument("reference")
    push.add_argument(
        "--plain-http", action="store_true", help="the registry has no TLS; with Docker, configure the engine for it"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
