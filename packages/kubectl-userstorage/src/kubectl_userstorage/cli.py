"""The command line: `kubectl userstorage`."""

import click

from kubectl_userstorage.commands import cache, changing, claims, doctor, pods, reading, report, top, uninstall

EPILOG = """Exit codes: 0 done, all is well; 1 a problem was found; 2 wrong usage; 3 the API server refused the request or does not
answer; 4 there is no such object; 130 interrupted."""


class _Verbs(click.Group):
    """The group of all verbs, which has no options of kubectl itself."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options before the verb. Raises UsageError if there is another one than --help and --version."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(
                f"no such option before the verb: {error.option_name}; options come after it, as in "
                "`kubectl userstorage list -n team-a`",
                ctx,
            ) from error


@click.group(
    cls=_Verbs,
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
    # SIGPIPE stays ignored, as Python has it: a connection that the API server has closed would end the command. click ends it
    # quietly if the reader of its output does, as in `kubectl userstorage list | head`.
    group(prog_name="kubectl userstorage")
