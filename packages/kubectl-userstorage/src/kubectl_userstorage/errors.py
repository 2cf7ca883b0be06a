"""Failures of a command, each with the exit code that docs/kubectl-plugin.md documents."""

from typing import IO, Any

import click

from kubectl_userstorage.api import printable

OK, PROBLEM, USAGE, REFUSED, NOT_FOUND = 0, 1, 2, 3, 4
INTERRUPTED = 130


class CommandError(click.ClickException):
    """A failure that ends the command. Its message is one line."""

    exit_code = REFUSED

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message to standard error, as kubectl does."""
        click.echo(f"error: {self.message}", file=file, err=file is None)


class Problem(CommandError):
    """The command was carried out and found a problem, or cannot be carried out on the object as it is."""

    exit_code = PROBLEM


class NotFound(CommandError):
    """The object does not exist."""

    exit_code = NOT_FOUND


class Conflict(CommandError):
    """The object has changed since it was read, or exists already."""


class Unauthorized(CommandError):
    """The API server does not know the caller, or no longer."""


class Forbidden(CommandError):
    """The caller lacks a right."""


class Unavailable(CommandError):
    """The API server or the read API cannot answer now: it is overloaded, or has a fault of its own. Later it may."""


class Unreachable(Unavailable):
    """The API server does not answer, or the kubeconfig cannot be used."""


def exit_with(code: int) -> None:
    """End the command with `code` after its output is complete."""
    if code != OK:
        raise click.exceptions.Exit(code)
