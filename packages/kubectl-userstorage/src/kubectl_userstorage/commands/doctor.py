"""`doctor`: whether the operator is installed as it should be, and works."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import click

from kubectl_userstorage import diagnosis, errors
from kubectl_userstorage.api import (
    ADMISSION_BINDINGS,
    ADMISSION_POLICIES,
    CHILD_SELECTOR,
    CLAIMS,
    CLASSES,
    CRDS,
    DEPLOYMENTS,
    EVENTS,
    GATE,
    LABEL_GATEWAY,
    LEASES,
    NAMESPACES,
    NETWORK_POLICIES,
    OPERATOR,
    OPERATOR_SELECTOR,
    PODS,
    SERVICES,
    USER_STORAGES,
    Raw,
    Resource,
)
from kubectl_userstorage.cluster import Cluster, Target
from kubectl_userstorage.commands.cache import system_namespace_option
from kubectl_userstorage.diagnosis import Check, State
from kubectl_userstorage.options import cluster_options, output_option, run
from kubectl_userstorage.output import print_table, progress_console

POLICIES = frozenset(
    {
        "userstorage-operator-class-images",
        "userstorage-operator-class-names",
        "userstorage-operator-class-pods",
        "userstorage-operator-restricted-pods",
    }
)
_RIGHTS = (
    ("get list create patch", USER_STORAGES, ""),
    ("get list", CLASSES, ""),
    ("get list patch delete", CLAIMS, ""),
    ("get list", PODS, ""),
    ("get", PODS, "log"),
    ("get create", PODS, "portforward"),
    ("list", SERVICES, ""),
    ("list", NETWORK_POLICIES, ""),
    ("list", EVENTS, ""),
)
"""What the verbs of the plugin need in the namespaces of users."""
_SYSTEM_RIGHTS = (
    ("get list", DEPLOYMENTS, ""),
    ("get list", LEASES, ""),
    ("list", EVENTS, ""),
    ("list", PODS, ""),
    ("get", PODS, "log"),
    ("get", PODS, "proxy"),
    ("get create", PODS, "exec"),
)
"""What doctor, report and cache need in the namespace of the operator."""


@click.command(short_help="Check the installation, and your own rights.")
@output_option("table", "json")
@system_namespace_option
@cluster_options
def doctor(target: Target, output: str, system: str) -> None:
    """Check the installation: versions, CRDs, policies, election, replicas, Redis, watches, the gate, and your own rights.

    What you have no right to read is reported as unknown. Exit code 1: a check has failed.
    """

    async def work(cluster: Cluster) -> list[Check]:
        with progress_console().status("checking"):
            return await checks(cluster, system)

    found = run(target, work)
    if output == "json":
        click.echo(json.dumps([check._asdict() for check in found], indent=2))
    else:
        # The next step has a line of its own: beside the longest message it would be out of sight.
        rows = [
            row for check in found for row in (check[:3], *([("", "", f"next: {check.next_step}")] if check.next_step else []))
        ]
        print_table(("CHECK", "STATE", "MESSAGE"), rows, coloured="STATE")
    errors.exit_with(errors.PROBLEM if any(check.state is State.FAILED for check in found) else errors.OK)


async def checks(cluster: Cluster, system: str) -> list[Check]:
    """Return all checks of an installation."""
    parts: list[tuple[str, Callable[[], Awaitable[list[Check]]]]] = [
        ("Kubernetes", lambda: _kubernetes(cluster)),
        ("CRDs", lambda: _definitions(cluster)),
        ("admission policies", lambda: _policies(cluster)),
        ("operator", lambda: _operator(cluster, system)),
        ("gate", lambda: _gate(cluster, system)),
        ("classes", lambda: _classes(cluster)),
        ("guards", lambda: _guards(cluster)),
        ("your rights", lambda: _rights(cluster, system)),
    ]
    return [check for found in await asyncio.gather(*(_part(name, part) for name, part in parts)) for check in found]


async def _part(name: str, part: Callable[[], Awaitable[list[Check]]]) -> list[Check]:
    try:
        return await part()
    except errors.CommandError as error:
        return [Check(name, State.UNKNOWN, error.message)]


async def _kubernetes(cluster: Cluster) -> list[Check]:
    return [diagnosis.kubernetes(await cluster.version())]


async def _definitions(cluster: Cluster) -> list[Check]:
    names = ("userstorages.userstorage.dev", "userstorageclasses.userstorage.dev")
    return [diagnosis.definition(name, await cluster.find(CRDS, None, name)) for name in names]


async def _policies(cluster: Cluster) -> list[Check]:
    found = await cluster.list_all(ADMISSION_POLICIES, None)
    return [diagnosis.policies(POLICIES, found, await cluster.list_all(ADMISSION_BINDINGS, None))]


async def _operator(cluster: Cluster, system: str) -> list[Check]:
    running = {"labelSelector": OPERATOR_SELECTOR, "fieldSelector": "status.phase=Running"}
    pods = await cluster.list_all(PODS, system, running)
    found = [
        diagnosis.deployment("operator", await cluster.find(DEPLOYMENTS, system, OPERATOR), system, is_optional=False),
        diagnosis.versions(pods),
        diagnosis.election(await cluster.find(LEASES, system, OPERATOR), pods, diagnosis.utc_now()),
    ]
    for replica in await asyncio.gather(*(_replica(cluster, system, pod) for pod in pods)):
        found += replica
    return found


async def _replica(cluster: Cluster, system: str, pod: Raw) -> list[Check]:
    name = pod["metadata"]["name"]
    port = next(
        (port["containerPort"] for container in pod["spec"]["containers"] for port in container.get("ports") or ()), 8080
    )
    path = f"{PODS.base}/namespaces/{system}/pods/{name}:{port}/proxy"
    try:
        ready = await cluster.text(f"{path}/ready", checked=False)
        parsed = json.loads(ready)
        if "failing" not in parsed:  # not the replica answers, but the API server
            return [Check(f"replica {name}", State.UNKNOWN, str(parsed.get("message", ready)))]
        found = diagnosis.replica(name, system, parsed)
        metrics = await cluster.text(f"{path}/metrics")
    except (errors.CommandError, ValueError) as error:
        return [Check(f"replica {name}", State.UNKNOWN, str(error))]
    return [*found, *diagnosis.metrics(name, system, metrics)]


async def _gate(cluster: Cluster, system: str) -> list[Check]:
    return [diagnosis.deployment("gate", await cluster.find(DEPLOYMENTS, system, GATE), system, is_optional=True)]


async def _classes(cluster: Cluster) -> list[Check]:
    return [diagnosis.class_state(cls) for cls in await cluster.list_all(CLASSES, None)]


async def _guards(cluster: Cluster) -> list[Check]:
    gateways = await cluster.list_all(NAMESPACES, None, {"labelSelector": f"{LABEL_GATEWAY}=true"})
    managed = await cluster.list_all(NETWORK_POLICIES, None, {"labelSelector": CHILD_SELECTOR})
    return diagnosis.guards(await cluster.list_all(CLASSES, None), gateways, len(managed))


async def _rights(cluster: Cluster, system: str) -> list[Check]:
    namespace = cluster.default_namespace
    wanted = [
        (where, verb, resource, sub)
        for where, rights in ((namespace, _RIGHTS), (system, _SYSTEM_RIGHTS))
        for verbs, resource, sub in rights
        for verb in verbs.split()
    ]
    allowed = await asyncio.gather(*(_may(cluster, *right) for right in wanted))
    missing: dict[str, list[str]] = {}
    for (where, verb, resource, sub), is_allowed in zip(wanted, allowed, strict=True):
        if not is_allowed:
            missing.setdefault(where, []).append(f"{verb} {resource.plural}" + (f"/{sub}" if sub else ""))
    return diagnosis.rights(missing, namespace, system)


async def _may(cluster: Cluster, namespace: str, verb: str, resource: Resource, subresource: str) -> bool:
    return await cluster.may(verb, resource, namespace if resource.namespaced else None, subresource)
