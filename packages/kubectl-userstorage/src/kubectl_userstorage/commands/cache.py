"""`cache`: what Redis holds, asked in a replica of the operator, which has the address and the password."""

import click

from kubectl_userstorage import errors
from kubectl_userstorage.api import OPERATOR, OPERATOR_NAMESPACE, OPERATOR_SELECTOR, PODS, is_true
from kubectl_userstorage.cluster import Cluster, Target
from kubectl_userstorage.options import cluster_options, output_option, run

_CONTAINER = "operator"


def system_namespace_option(command: click.decorators.FC) -> click.decorators.FC:
    """Add --operator-namespace; the command gets `system`."""
    return click.option(
        "--operator-namespace", "system", default=OPERATOR_NAMESPACE, show_default=True, help="Namespace of the operator."
    )(command)


@click.command(short_help="Show the contents of Redis, and compare them with the cluster.")
@output_option("text", "json", default="text")
@system_namespace_option
@cluster_options
def cache(target: Target, output: str, system: str) -> None:
    """Show the contents of Redis and compare them with the cluster: runs `userstorage-operator cache` in a replica.

    Exit code 1: they differ, there is no mirror, or Redis does not answer.
    """

    async def work(cluster: Cluster) -> tuple[int, str, str]:
        params = {"labelSelector": OPERATOR_SELECTOR, "fieldSelector": "status.phase=Running"}
        pods = [pod for pod in await cluster.list_all(PODS, system, params) if is_true(pod, "Ready")]
        if not pods:
            raise errors.Problem(f"--operator-namespace {system}: no replica of the operator is ready there")
        return await cluster.transport.execute(pods[0], _CONTAINER, [OPERATOR, "cache", "-o", output])

    code, printed, complaint = run(target, work)
    click.echo(printed, nl=False)
    click.echo(complaint, nl=False, err=True)
    errors.exit_with(code if code in (errors.OK, errors.PROBLEM) else errors.REFUSED)
