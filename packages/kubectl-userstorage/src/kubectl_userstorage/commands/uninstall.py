"""`uninstall`: deletes the operator and all that belongs to it, in the order in which nothing hangs. Claims stay."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime

import click

from kubectl_userstorage import errors
from kubectl_userstorage.api import (
    CHILD_SELECTOR,
    CLAIMS,
    CRDS,
    DEPLOYMENTS,
    LEASES,
    NAMESPACES,
    NETWORK_POLICIES,
    OPERATOR,
    OPERATOR_SELECTOR,
    PODS,
    USER_STORAGES,
    Raw,
    Resource,
)
from kubectl_userstorage.cluster import Cluster, Target
from kubectl_userstorage.commands.cache import system_namespace_option
from kubectl_userstorage.commands.changing import Duration
from kubectl_userstorage.options import cluster_options, run
from kubectl_userstorage.output import print_done, progress_console
from kubectl_userstorage.uninstallation import (
    CHILDREN,
    CLUSTER_BINDINGS,
    FINALIZER_SETTERS,
    REST,
    SECRETS,
    SELECTOR,
    Found,
    Item,
    full_name,
    helm_releases,
    is_led,
    is_owned,
    names,
    other_namespace,
    release_patch,
    rights,
    scope,
    summary,
    why_kept,
)

_POLL = 1.0
"""Seconds between two looks at what is being deleted."""
Progress = Callable[[str], None]


@click.command()
@system_namespace_option
@click.option(
    "--delete-userstorages",
    "with_storages",
    is_flag=True,
    help="Delete the UserStorages too. Without, it refuses if there are any.",
)
@click.option("--yes", is_flag=True, help="Do it. Without, only what would be done is printed.")
@click.option("--timeout", type=Duration(), default="10m", show_default=True, help="How long to wait for each step.")
@cluster_options
def uninstall(target: Target, system: str, with_storages: bool, yes: bool, timeout: float) -> None:
    """Uninstall the operator: UserStorages with their pods, the operator, the gate, policies, rights and CRDs, in this order.

    Nothing is deleted without --yes. Claims stay, with the users' files; but the operator deletes those of UserStorages with
    reclaimPolicy Delete. If it is interrupted, run it again: it continues. Exit code 1: there are UserStorages and
    --delete-userstorages was not given, or something is still there after --timeout.
    """

    async def work(cluster: Cluster) -> None:
        with progress_console().status("reading what is installed"):
            found = await _find(cluster, system)
            missing = await _missing_rights(cluster, found, system)
        if not yes:
            click.echo("dry run; --yes does it:", err=True)
        for line in summary(found):
            click.echo(line, err=yes)
        if missing:
            raise errors.Forbidden(f"you may not {', '.join(missing)}; nothing was changed, ask a cluster admin")
        if found.storages and not with_storages:
            raise errors.Problem(
                f"there are {names('UserStorage', map(full_name, found.storages))}; --delete-userstorages deletes them too, and "
                "keeps their claims unless reclaimPolicy is Delete; nothing was changed"
            )
        if yes:
            with progress_console().status("uninstalling") as shown:
                await _Uninstallation(cluster, system, timeout, with_storages, shown.update).carry_out(found)

    run(target, work)


async def _find(cluster: Cluster, system: str) -> Found:
    """Return what there is to uninstall. Raises Problem if the operator is in another namespace."""
    setters = await _items(cluster, system, *FINALIZER_SETTERS)
    workloads = await _items(cluster, system, DEPLOYMENTS)
    rest = await _items(cluster, system, *REST)
    if (other := other_namespace(rest, system)) is not None:
        raise errors.Problem(f"--operator-namespace {system}: the operator is installed in {other!r}")
    lease = await cluster.find(LEASES, system, OPERATOR)
    rest += [Item(LEASES, lease)] if lease is not None else []
    for release in helm_releases((*setters, *workloads, *rest)):
        records = await cluster.list_metadata(SECRETS, system, {"labelSelector": f"owner=helm,name={release}"})
        rest += [Item(SECRETS, raw) for raw in records]
    rest.sort(key=lambda item: REST.index(item.resource))
    return Found(
        storages=await _storages(cluster),
        claims=await cluster.list_metadata(CLAIMS, None, {"labelSelector": CHILD_SELECTOR}),
        setters=setters,
        workloads=workloads,
        rest=rest,
        namespace=await cluster.find(NAMESPACES, None, system),
        namespace_kept=await _why_kept(cluster, system),
    )


async def _items(cluster: Cluster, system: str, *resources: Resource) -> list[Item]:
    """Return the objects of an installation; of cluster role bindings all fields, of the others the metadata."""
    found: list[Item] = []
    params = {"labelSelector": SELECTOR}
    for resource in resources:
        read = cluster.list_all if resource is CLUSTER_BINDINGS else cluster.list_metadata
        found += [Item(resource, raw) for raw in await read(resource, scope(resource, system), params)]
    return found


async def _storages(cluster: Cluster) -> list[Raw]:
    try:
        return await cluster.list_all(USER_STORAGES, None)
    except errors.NotFound:  # the CRD is deleted already
        return []


async def _why_kept(cluster: Cluster, system: str) -> str:
    return why_kept(await cluster.find(NAMESPACES, None, system), await cluster.list_metadata(CLAIMS, system))


async def _missing_rights(cluster: Cluster, found: Found, system: str) -> list[str]:
    needed = rights(found, system)
    allowed = await asyncio.gather(*(cluster.may(right.verb, right.resource, right.namespace) for right in needed))
    return [str(right) for right, is_allowed in zip(needed, allowed, strict=True) if not is_allowed]


class _Uninstallation:
    """The steps, each of which does what is left to do."""

    def __init__(self, cluster: Cluster, system: str, timeout: float, with_storages: bool, on_progress: Progress) -> None:
        self._cluster = cluster
        self._system = system
        self._timeout = timeout
        self._with_storages = with_storages
        self._on_progress = on_progress

    async def carry_out(self, found: Found) -> None:
        """Do all steps. Raises Problem if one is not complete within the timeout."""
        await self._delete(found.setters)
        await self._until_gone(self._delete_storages)
        await self._delete(found.workloads)
        await self._until_gone(self._operators)
        await self._until_gone(self._release_and_delete)
        await self._delete(found.rest)
        # Claims may have come into the namespace meanwhile.
        if found.namespace is not None and not await _why_kept(self._cluster, self._system):
            await self._delete([Item(NAMESPACES, found.namespace)])

    async def _delete(self, items: list[Item]) -> None:
        """Delete objects; CRDs and the namespace, which take their contents with them, are waited for."""
        for item in items:
            resource, meta = item.resource, item.raw["metadata"]
            namespace = meta.get("namespace")
            with suppress(errors.NotFound):
                await self._cluster.json(
                    "DELETE", resource, namespace, meta["name"], body={"preconditions": {"uid": meta["uid"]}}
                )
                if resource in (CRDS, NAMESPACES):

                    async def left(item: Item = item) -> list[str]:
                        raw = await self._cluster.find(item.resource, None, item.raw["metadata"]["name"])
                        return [str(item)] if raw is not None else []

                    await self._until_gone(left)
            print_done(resource, meta["name"], "deleted")

    async def _until_gone(self, look: Callable[[], Awaitable[list[str]]]) -> None:
        """Look again and again until nothing is left. An API server that cannot answer for a while is asked again."""
        left: list[str] = []
        try:
            async with asyncio.timeout(self._timeout):
                while True:
                    try:
                        left = await look()
                    except errors.Unavailable as error:
                        self._on_progress(error.message)
                    else:
                        if not left:
                            return
                        self._on_progress(f"waiting for {names('object', left)}")
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            what = names("object", left) if left else "the API server does not answer"
            raise errors.Problem(f"not gone within {self._timeout:g} s: {what}; run it again to continue") from None

    async def _delete_storages(self) -> list[str]:
        """Delete the UserStorages, and return those that are left, as long as an operator works on them."""
        storages = await self._deleted_storages()
        lease = await self._cluster.find(LEASES, self._system, OPERATOR)
        return storages if is_led(lease, datetime.now(UTC)) else []

    async def _deleted_storages(self) -> list[str]:
        storages = await self._cluster.list_metadata(USER_STORAGES, None)
        fresh = {raw["metadata"]["namespace"] for raw in storages if "deletionTimestamp" not in raw["metadata"]}
        if fresh and not self._with_storages:
            raise errors.Problem("UserStorages were created meanwhile; run it again with --delete-userstorages")
        for namespace in sorted(fresh):
            await self._cluster.delete_all(USER_STORAGES, namespace)
        return [f"userstorage {full_name(raw)}" for raw in storages]

    async def _operators(self) -> list[str]:
        """Return the pods of the operator, and another operator that leads: it would set finalizers again."""
        pods = await self._cluster.list_metadata(PODS, self._system, {"labelSelector": OPERATOR_SELECTOR})
        lease = await self._cluster.find(LEASES, self._system, OPERATOR)
        leader = [f"leader {lease['spec']['holderIdentity']}"] if lease and is_led(lease, datetime.now(UTC)) else []
        return [f"pod {full_name(raw)}" for raw in pods] + leader

    async def _release_and_delete(self) -> list[str]:
        """Do what the operator would: remove the finalizers that are left, and delete NetworkPolicies once their pods are gone."""
        ours = {"labelSelector": CHILD_SELECTOR}
        for raw in await self._cluster.list_metadata(USER_STORAGES, None):
            await self._release(USER_STORAGES, raw)
        left = await self._deleted_storages()
        children = {resource: await self._cluster.list_metadata(resource, None, ours) for resource in CHILDREN}
        pods = {full_name(raw): raw for raw in children[PODS]}
        for policy in await self._cluster.list_metadata(NETWORK_POLICIES, None, ours):
            pod = pods.get(full_name(policy))
            if pod is None:
                await self._release(NETWORK_POLICIES, policy)
                with suppress(errors.NotFound, errors.Conflict):
                    await self._cluster.delete(NETWORK_POLICIES, policy["metadata"]["namespace"], policy)
            elif "deletionTimestamp" not in policy["metadata"]:
                await self._release(NETWORK_POLICIES, policy)
            if pod is None or is_owned(pod):
                left.append(f"networkpolicy {full_name(policy)}")
        for resource, found in children.items():
            left += [f"{resource.kind.lower()} {full_name(raw)}" for raw in found if is_owned(raw)]
        return left

    async def _release(self, resource: Resource, raw: Raw) -> None:
        if (patch := release_patch(raw)) is not None:
            meta = raw["metadata"]
            with suppress(errors.NotFound, errors.Conflict):
                await self._cluster.patch(resource, meta["namespace"], meta["name"], patch)
