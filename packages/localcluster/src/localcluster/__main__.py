"""The command line: `localcluster up|down|status|build`."""

import argparse
import sys
from pathlib import Path

from localcluster import ClusterError, Profile, build, kind, start, status, stop
from localcluster.progress import Console


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 if it succeeded, 130 if it was interrupted, else 1.

    The command `status` succeeds if the cluster exists and all its programs run.
    """
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except ClusterError as error:
        print(f"localcluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("localcluster: interrupted; everything that it had started was stopped", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    match options.command:
        case "up" if options.profile == kind.PROFILE:
            print(f"export KUBECONFIG={kind.up(options.directory)}")
        case "up":
            cluster = start(options.profile, options.directory, Console())
            print(f"export KUBECONFIG={cluster.kubeconfig}\nalias kubectl={cluster.kubectl}")
        case "down":
            kind.down(options.directory)
            stop(options.directory)
        case "build":
            build(Profile(options.profile), Console())
        case _:
            running = status(options.directory)
            for name, alive in running.items():
                print(f"{name:<24} {'running' if alive else 'exited'}")
            if not running:
                print(f"no cluster in {options.directory}")
            return 0 if running and all(running.values()) else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="localcluster", description="A Kubernetes cluster without Docker.")
    commands = parser.add_subparsers(dest="command", required=True)
    profiles = [str(name) for name in Profile]
    profile = argparse.ArgumentParser(add_help=False)
    profile.add_argument("--profile", choices=profiles, default=Profile.CONTROL_PLANE)
    directory = argparse.ArgumentParser(add_help=False)
    directory.add_argument("--directory", type=Path, default=Path(".cluster"), help="directory of the cluster's files")
    up = commands.add_parser("up", parents=[directory], help="start the cluster unless it runs")
    up.add_argument("--profile", choices=[*profiles, kind.PROFILE], default=Profile.CONTROL_PLANE)
    commands.add_parser("down", parents=[directory], help="stop the cluster and delete its files")
    commands.add_parser("status", parents=[directory], help="list the programs of the cluster and whether they run")
    commands.add_parser("build", parents=[profile], help="build the programs of a profile without starting a cluster")
    return parser


if __name__ == "__main__":
    sys.exit(main())
