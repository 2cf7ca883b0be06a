"""The command line `testservers up|down|build`: starts or stops a Redis for a local cluster, or builds oauth2-proxy."""

import argparse
import sys
from pathlib import Path

from localcluster import ClusterError
from localcluster.builds import build_go
from localcluster.progress import Console
from testservers import login, redis


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 if it succeeded, or if `up` could not start Redis; else 1."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "build":
            build_go(login.OAUTH2_PROXY, Console())
        elif options.command == "down":
            redis.down(options.directory)
        elif url := redis.up(options.directory, Console()):
            print(f"export REDIS_URL={url}")
    except ClusterError as error:
        print(f"testservers: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="testservers", description="Servers on loopback, beside a cluster.")
    commands = parser.add_subparsers(dest="command", required=True)
    directory = argparse.ArgumentParser(add_help=False)
    directory.add_argument("--directory", type=Path, default=Path(".cluster"), help="directory of the cluster")
    commands.add_parser("up", parents=[directory], help="start a Redis unless it runs; its URL is also in redis-url")
    commands.add_parser("down", parents=[directory], help="stop the Redis and delete its files")
    commands.add_parser("build", help="build oauth2-proxy into the per-user cache, for the tests of gateways")
    return parser


if __name__ == "__main__":
    sys.exit(main())
