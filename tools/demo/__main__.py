"""The command line: `python -m demo up|down`."""

import argparse
import sys
from pathlib import Path

from demo import places, story
from localcluster import ClusterError
from localcluster.progress import Console


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 when all was seen, else 1 and one line that says why."""
    options = _parser().parse_args(arguments)
    report = Console(sys.stdout)
    try:
        if options.command == "up":
            story.up(places.choose(options.cluster), options.directory.absolute(), report)
        else:
            story.down(options.directory.absolute(), report)
    except ClusterError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; `make demo` goes on from here, `make demo-down` ends what runs", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    directory = argparse.ArgumentParser(add_help=False)
    directory.add_argument("--directory", type=Path, default=Path(".cluster"), help="where cluster and demo keep their files")
    up = commands.add_parser("up", parents=[directory], help="start everything and show it; leaves it running")
    up.add_argument(
        "--cluster",
        choices=["auto", "local", "kind"],
        default="auto",
        help="auto: kind where a Docker engine answers, else a node made here",
    )
    commands.add_parser("down", parents=[directory], help="end the operator, then the cluster")
    return parser


if __name__ == "__main__":
    sys.exit(main())
