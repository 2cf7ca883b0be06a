"""The command line: `kubectl userstorage`."""

import click

from kubectl_userstorage.commands import cache, changing, claims, doctor, pods, reading, report, top, uninstall
from kubectl_userstorage.options import restore_sigpipe

EPILOG = """Exit codes: 0 done, all is well; 1 a problem was found; 2 wrong usage; 3 the API server refused the request or does not
answer; 4 there is no such object; 130 interrupted."""


@click.group(
    epilog=EPILOG,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="kubectl-userstorage")
def group() -> None:
    """Work with UserStorages: a file browser for every user of a platform."""


for command in (
    reading.list_command,
    reading.status,
    reading.explain_command,
    changing.create,
    changing.suspend,
    changing.resume,
    changing.restart,
    pods.open_command,
    pods.logs,
    top.top,
    claims.orphans,
    claims.adopt,
    doctor.doctor,
    report.report,
    cache.cache,
    uninstall.uninstall,
):
    group.add_command(command)


def main() -> None:
    """Run the command line of this process."""
    restore_sigpipe()
    group(prog_name="kubectl userstorage")
