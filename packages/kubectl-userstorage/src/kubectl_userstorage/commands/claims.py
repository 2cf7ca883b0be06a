"""`orphans` and `adopt`: claims without a UserStorage, and claims that shall get one."""

import click

from kubectl_userstorage import errors
from kubectl_userstorage.api import (
    ANNOTATION_USER_ID,
    API_VERSION,
    CHILD_SELECTOR,
    CLAIMS,
    LABEL_MANAGED_BY,
    LABEL_SHAREABLE,
    PODS,
    SHARE_DIRECTORIES,
    USER_STORAGES,
    Raw,
    age,
    child_name,
    claim_of,
    user_id_of,
)
from kubectl_userstorage.cluster import Cluster, Target
from kubectl_userstorage.commands.reading import Scope
from kubectl_userstorage.options import class_option, cluster_options, completer, namespace_option, run, scope_options
from kubectl_userstorage.output import print_done, print_table, progress_console


def orphaned(claims: list[Raw], storages: list[Raw]) -> list[Raw]:
    """Return the claims that the operator made for users who have no UserStorage in the namespace, and that none names."""
    users = {(raw["metadata"]["namespace"], user_id_of(raw)) for raw in storages}
    named = {(raw["metadata"]["namespace"], claim_of(raw)) for raw in storages}
    return [
        claim
        for claim in claims
        if "deletionTimestamp" not in claim["metadata"]
        and (user := (claim["metadata"].get("annotations") or {}).get(ANNOTATION_USER_ID)) is not None
        and (claim["metadata"]["namespace"], user) not in users
        and (claim["metadata"]["namespace"], claim["metadata"]["name"]) not in named
    ]


@click.command()
@scope_options
@click.option(
    "--delete", "with_deletion", is_flag=True, help="Delete them, with their files. Asks before, unless --yes is given."
)
@click.option("--yes", is_flag=True, help="With --delete: do not ask.")
@cluster_options
def orphans(target: Target, scope: Scope, with_deletion: bool, yes: bool) -> None:
    """Find claims that have outlived their UserStorage. Nothing is deleted without --delete.

    A claim serves the next UserStorage with the same user id. One that a pod mounts is shown and never deleted.
    Exit code 1: there are some, and they were not deleted.
    """

    async def work(cluster: Cluster) -> bool:
        namespace = scope(cluster.default_namespace)
        with progress_console().status("reading claims, UserStorages and pods"):
            claims = await cluster.list_all(CLAIMS, namespace, {"labelSelector": CHILD_SELECTOR})
            found = orphaned(claims, await cluster.list_all(USER_STORAGES, namespace))
            mounted = await _mounted(cluster, found)
        if not found:
            click.echo("No orphaned claims found.", err=True)
            return True
        _print_claims(found, mounted)
        free = [claim for claim in found if _key(claim) not in mounted]
        if not with_deletion or not free:
            return False
        if not yes:
            click.confirm(f"Delete {len(free)} claims with all their files?", abort=True, err=True)
        is_complete = len(free) == len(found)
        for claim in free:
            is_complete = await _delete(cluster, claim) and is_complete
        return is_complete

    errors.exit_with(errors.OK if run(target, work) else errors.PROBLEM)


@click.command()
@click.argument("claim", shell_complete=completer(CLAIMS))
@click.option("--name", required=True, help="Name of the UserStorage; it is created if it does not exist.")
@click.option("--user", "user_id", help="spec.userID of a new UserStorage.  [default: NAME]")
@class_option
@click.option("--sub-path", help="spec.storage.subPath of a new UserStorage: its directory in the claim, such as '${slug}'.")
@namespace_option
@click.option("--yes", is_flag=True, help="Do it. Without, only what would be done is printed.")
@cluster_options
def adopt(
    target: Target,
    claim: str,
    name: str,
    user_id: str | None,
    class_name: str | None,
    sub_path: str | None,
    namespace: str | None,
    yes: bool,
) -> None:
    """Give an existing claim, with its files, to a UserStorage. Nothing is changed without --yes.

    A claim with the name that the operator gives to the user's claim becomes that claim. Any other one gets the label by which
    its owner consents, and a new UserStorage names it in spec.storage.claimName. A claim that many share, each with a directory
    (userstorage.dev/shareable: Directories), needs --sub-path.
    """

    async def work(cluster: Cluster) -> None:
        scope = namespace or cluster.default_namespace
        raw = await cluster.find(CLAIMS, scope, claim)
        if raw is None:
            raise errors.NotFound(f"there is no claim {claim!r} in namespace {scope!r}")
        storage = await cluster.find(USER_STORAGES, scope, name)
        if storage is not None:
            refuse_changes(storage, user_id, class_name, sub_path)
        user = user_id_of(storage) if storage is not None else user_id or name
        patch, created = plan_adoption(raw, storage, name, user, class_name, sub_path)
        others = named_by(claim, name, await cluster.list_all(USER_STORAGES, scope))
        click.echo("".join(f"warning: it is the claim of UserStorage {other!r} too\n" for other in others), err=True, nl=False)
        if patch is None and created is None:
            click.echo(f"nothing to do: claim {claim!r} is the claim of UserStorage {name!r}", err=True)
        elif not yes:
            click.echo("dry run; --yes does it:", err=True)
        if patch is not None:
            if yes:
                patch["metadata"]["uid"] = raw["metadata"]["uid"]
                await cluster.patch(CLAIMS, scope, claim, patch)
            print_done(CLAIMS, claim, f"given to user {user!r}")
        if created is not None:
            if yes:
                await cluster.create(USER_STORAGES, scope, created)
            print_done(USER_STORAGES, name, "created")

    run(target, work)


def named_by(claim: str, name: str, storages: list[Raw]) -> list[str]:
    """Return the names of the UserStorages, other than `name`, that use a claim as a whole."""
    others = [raw for raw in storages if raw["metadata"]["name"] != name and claim_of(raw) == claim]
    return [raw["metadata"]["name"] for raw in others if not (raw["spec"].get("storage") or {}).get("subPath")]


def refuse_changes(storage: Raw, user_id: str | None, class_name: str | None, sub_path: str | None) -> None:
    """Raise Problem if an option asks for something else than an existing UserStorage has."""
    spec = storage.get("spec") or {}
    for option, asked, current in (
        ("--user", user_id, user_id_of(storage)),
        ("--class", class_name, spec.get("className")),
        ("--sub-path", sub_path, (spec.get("storage") or {}).get("subPath")),
    ):
        if asked not in (None, current):
            name = storage["metadata"]["name"]
            raise errors.Problem(
                f"{option} {asked}: UserStorage {name!r} exists with {current!r}, and adopt does not change it"
            )


def plan_adoption(
    claim: Raw, storage: Raw | None, name: str, user: str, class_name: str | None, sub_path: str | None
) -> tuple[Raw | None, Raw | None]:
    """Return the patch of the claim and the UserStorage to create; None for what is right already.

    Raises Problem if the claim is another user's, if it is shared and no directory of it is named, or if the UserStorage has another
    claim, which cannot change.
    """
    meta = claim["metadata"]
    owner = (meta.get("annotations") or {}).get(ANNOTATION_USER_ID)
    if owner not in (None, user):
        raise errors.Problem(f"claim {meta['name']!r} has the files of user {owner!r}; create that user's UserStorage instead")
    spec: Raw = {"userID": user} | ({"className": class_name} if class_name else {})
    shared = (meta.get("labels") or {}).get(LABEL_SHAREABLE)
    if meta["name"] == child_name(user):
        if shared == SHARE_DIRECTORIES or sub_path is not None:
            raise errors.Problem(
                f"claim {meta['name']!r} has the name of the user's own claim, which is served as a whole: leave out --sub-path, and "
                f"remove the label {LABEL_SHAREABLE} if other users have no directory in it"
            )
        right = {"labels": {LABEL_MANAGED_BY: "userstorage-operator"}, "annotations": {ANNOTATION_USER_ID: user}}
    else:
        if shared == SHARE_DIRECTORIES and sub_path is None and storage is None:
            raise errors.Problem(
                f"--sub-path: claim {meta['name']!r} is shared by directories ({LABEL_SHAREABLE}: {SHARE_DIRECTORIES}); name the one "
                "to serve, else the user gets the files of all"
            )
        right = {} if shared == SHARE_DIRECTORIES else {"labels": {LABEL_SHAREABLE: "true"}}
        spec["storage"] = {"claimName": meta["name"]} | ({"subPath": sub_path} if sub_path is not None else {})
    if storage is not None and claim_of(storage) != meta["name"]:
        raise errors.Problem(
            f"UserStorage {storage['metadata']['name']!r} uses the claim {claim_of(storage)!r}, and spec.storage.claimName cannot "
            "change; choose another --name"
        )
    is_right = all(
        (meta.get(field) or {}).get(key) == value for field, wanted in right.items() for key, value in wanted.items()
    )
    created = {"apiVersion": API_VERSION, "kind": USER_STORAGES.kind, "metadata": {"name": name}, "spec": spec}
    return (None if is_right else {"metadata": right}), (created if storage is None else None)


async def _mounted(cluster: Cluster, claims: list[Raw]) -> dict[tuple[str, str], str]:
    """Return which of the claims a pod mounts, with the name of the pod."""
    found = {}
    for namespace in sorted({claim["metadata"]["namespace"] for claim in claims}):
        for pod in await cluster.list_all(PODS, namespace):
            for volume in pod["spec"].get("volumes") or ():
                if name := (volume.get("persistentVolumeClaim") or {}).get("claimName"):
                    found[namespace, name] = pod["metadata"]["name"]
    return found


async def _delete(cluster: Cluster, claim: Raw) -> bool:
    """Delete a claim, unless its user has a UserStorage by now. Return whether it was deleted."""
    meta = claim["metadata"]
    user = meta["annotations"][ANNOTATION_USER_ID]
    storages = await cluster.list_all(USER_STORAGES, meta["namespace"])
    if not orphaned([claim], storages):
        click.echo(f"{meta['namespace']}/{meta['name']} kept: user {user!r} has a UserStorage by now", err=True)
        return False
    try:
        await cluster.delete(CLAIMS, meta["namespace"], claim)
    except (errors.Conflict, errors.NotFound) as error:
        click.echo(f"{meta['namespace']}/{meta['name']} kept: {error.message}", err=True)
        return False
    print_done(CLAIMS, meta["name"], "deleted")
    return True


def _key(claim: Raw) -> tuple[str, str]:
    return claim["metadata"]["namespace"], claim["metadata"]["name"]


def _print_claims(claims: list[Raw], mounted: dict[tuple[str, str], str]) -> None:
    rows = [
        (
            *_key(claim),
            claim["metadata"]["annotations"][ANNOTATION_USER_ID],
            ((claim.get("status") or {}).get("capacity") or {}).get("storage"),
            age(claim["metadata"]["creationTimestamp"]),
            mounted.get(_key(claim)),
        )
        for claim in claims
    ]
    print_table(("NAMESPACE", "CLAIM", "USER", "CAPACITY", "AGE", "MOUNTED BY"), rows)
