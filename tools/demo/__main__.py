"""The command line: `python -m demo up|door|down`."""

import argparse
import sys
from pathlib import Path

from demo import clusters, door, steps
from localcluster import ClusterError
from localcluster.progress import Console


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 if every step succeeded, 130 if it was interrupted, else 1."""
    options = _parser().parse_args(arguments)
    report = Console(sys.stdout)
    try:
        if options.command == "up":
            steps.up(clusters.choose(options.cluster), options.directory.absolute(), report)
        elif options.command == "door":
            door.up(options.directory.absolute(), report)
        else:
            door.down(options.directory.absolute() / "demo")
            steps.down(options.directory.absolute(), report)
    except ClusterError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; `make demo` continues from here, `make demo-down` stops everything", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    directory = argparse.ArgumentParser(add_help=False)
    directory.add_argument(
        "--directory", type=Path, default=Path(".cluster"), help="directory for the files of cluster and demo"
    )
    up = commands.add_parser("up", parents=[directory], help="start everything, show it and leave it running")
    up.add_argument(
        "--cluster",
        choices=["auto", "local", "kind"],
        default="auto",
        help="auto: kind if a Docker engine answers, else a local node",
    )
    commands.add_parser("door", parents=[directory], help="start a login, nginx and the gate before alice and bob as well")
    commands.add_parser("down", parents=[directory], help="stop the operator, then Redis and the cluster")
    return parser


if __name__ == "__main__":
    sys.exit(main())
