"""The catalogue of 62 bad inputs: what each must come to, and how that is tried.

R: refused by schema or rules, in words that name the field. W: accepted, the field dropped and not honoured. C: accepted,
told by a condition, nothing touched. K: refused by Kubernetes itself. A: accepted and served.

The specs behind R and W are the numbered rows of bad_inputs and bad_class_inputs.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from component import bad_class_inputs, bad_inputs
from component import bad_input_stories as stories
from support.arena import Arena
from support.manifests import Change, Refused, storage, storage_class
from userstorage_operator.api.errors import Refused as RefusedByServer
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES

Attempt = Callable[[Arena, int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the catalogue."""

    number: int
    text: str
    expected: str
    attempts: tuple[Attempt, ...]


def _numbered(names: Any, number: int) -> Iterator[Any]:
    for row in names:
        name = row if isinstance(row, str) else row.name
        if name.split()[0] == str(number):
            yield row


async def refused(arena: Arena, number: int) -> None:
    """As a new object and as a change of one that serves."""
    tables: list[Refused] = list(_numbered(bad_inputs.REFUSED, number))
    for row in tables:
        await arena.refuses(USER_STORAGES, storage(arena.live.namespace, row.spec, f"row{number}"), row.says)
        with pytest.raises(RefusedByServer):
            await arena.replace(USER_STORAGES, "victim", row.spec)
    classes: list[Refused] = list(_numbered(bad_class_inputs.REFUSED, number))
    for row in classes:
        await arena.refuses(USER_STORAGE_CLASSES, storage_class(f"row{number}", row.spec), row.says)
    assert tables or classes


async def change_refused(arena: Arena, number: int) -> None:
    """Of an object that serves, where it can: its children stay, and it goes on."""
    tables: list[Change] = list(_numbered(bad_inputs.CHANGES, number))
    for index, row in enumerate(tables):
        name = f"row{number}-{index}"
        await arena.make(name, **(row.before | {"userID": name}))
        serves = "claimName" not in row.before.get("storage", {})
        before = await arena.live.until_ready(name) if serves else {}
        after = row.after | ({"userID": name} if row.after.get("userID") == "alice" else {})
        with pytest.raises(RefusedByServer) as told:
            await arena.replace(USER_STORAGES, name, after)
        assert row.says is not None
        assert row.says in told.value.message
        if serves:
            await arena.live.change({"spec": {"lifecycle": {"startTimeout": "9m"}}}, name)
            assert (await arena.live.until_ready(name))["status"]["podUID"] == before["status"]["podUID"]
    classes: list[Change] = list(_numbered(bad_class_inputs.CHANGES, number))
    for index, row in enumerate(classes):
        name = await arena.make_class(f"row{number}-{index}", row.before)
        with pytest.raises(RefusedByServer) as told:
            await arena.replace(USER_STORAGE_CLASSES, name, row.after)
        assert row.says is not None
        assert row.says in told.value.message
    assert tables or classes


async def pruned(arena: Arena, number: int) -> None:
    """The pod is the one of a user who asked for nothing special."""
    rows: list[str] = list(_numbered(bad_inputs.PRUNED, number))
    for index, row in enumerate(rows):
        await arena.make(f"row{number}-{index}", **bad_inputs.PRUNED[row])
    golden = await arena.essence_of_pod("canary")
    for index in range(len(rows)):
        name = f"row{number}-{index}"
        await arena.live.until_ready(name)
        assert await arena.essence_of_pod(name) == golden
    assert rows


CATALOGUE = [
    Row(1, "no spec", "R", (refused,)),
    Row(2, "spec null, a list, a string", "R", (refused,)),
    Row(3, "userID missing", "R", (refused,)),
    Row(4, "userID empty", "R", (refused,)),
    Row(5, "userID with space, tab, newline", "R", (refused,)),
    Row(6, "userID with ../", "R", (refused,)),
    Row(7, "userID with / \\ NUL %2e", "R", (refused,)),
    Row(8, "userID too long", "R", (refused,)),
    Row(9, "userID beyond ASCII", "R", (refused,)),
    Row(10, "userID of templates and commands", "R", (refused,)),
    Row(11, "userID an e-mail address", "A", (stories.email_address,)),
    Row(12, "userID a number", "R", (refused,)),
    Row(13, "userID changed", "R", (change_refused,)),
    Row(14, "object names of all kinds", "A", (stories.object_names,)),
    Row(15, "generateName", "A", (stories.generated_names,)),
    Row(16, "size no quantity", "R", (refused,)),
    Row(17, "size 0 or negative", "R", (refused,)),
    Row(18, "size below the least", "R", (refused,)),
    Row(19, "size above the most", "R", (refused,)),
    Row(20, "size an integer", "R/A", (refused, stories.size_in_bytes)),
    Row(21, "size shrunk", "R", (change_refused,)),
    Row(22, "size grown in a class that cannot", "C", (stories.cannot_grow,)),
    Row(23, "size fractional", "R/A", (refused, stories.fractional_size)),
    Row(24, "limits below requests, amounts of nothing", "R", (refused,)),
    Row(25, "extended resources", "R", (refused,)),
    Row(26, "mountPath", "W", (pruned,)),
    Row(27, "subPath absolute", "R", (refused,)),
    Row(28, "subPath with ..", "R", (refused,)),
    Row(29, "subPath with variables, subPathExpr", "R/W", (refused, pruned)),
    Row(30, "a thousand list items", "R", (refused,)),
    Row(31, "claimName in another namespace", "R", (refused,)),
    Row(32, "claimName of another UserStorage", "C", (stories.claim_in_use,)),
    Row(33, "claimName without its owner's consent", "C", (stories.claim_not_allowed,)),
    Row(34, "two objects of one user", "C", (stories.same_user,)),
    Row(35, "user ids that look alike", "R/A", (refused, stories.lookalikes)),
    Row(36, "names of children taken", "C", (stories.names_taken,)),
    Row(37, "a storage class that does not exist", "C", (stories.no_such_storage_class,)),
    Row(38, "storageClassName changed", "R/W", (change_refused, pruned)),
    Row(39, "immutable fields removed", "R", (change_refused,)),
    Row(40, "ReadWriteMany that nobody provides", "C/R", (change_refused, stories.read_write_many)),
    Row(41, "port out of range", "R/W", (refused, pruned)),
    Row(42, "hosts: *, -a, somebody else's", "R/C/W", (refused, pruned, stories.host_taken)),
    Row(43, "annotations for an ingress", "W", (pruned,)),
    Row(44, "misspelt field", "R/W", (pruned, stories.misspelt_field)),
    Row(45, "a key given twice", "R/W", (stories.key_given_twice,)),
    Row(46, "image, imagePullSecrets", "W", (pruned,)),
    Row(47, "service account, host, volumes, command", "W", (pruned,)),
    Row(48, "status by a tenant", "W", (stories.status_by_tenant,)),
    Row(49, "status patched by a tenant", "K", (stories.status_patched_by_tenant,)),
    Row(50, "kopf's memory forged", "A", (stories.forged_memory,)),
    Row(51, "kopf's progress forged", "A", (stories.forged_progress,)),
    Row(52, "huge annotations", "A/K", (stories.huge_annotations,)),
    Row(53, "our labels on a foreign pod", "A", (stories.spoofed_pod,)),
    Row(54, "an owner that does not exist", "A", (stories.absent_owner,)),
    Row(55, "a foreign finalizer", "C", (stories.foreign_finalizer,)),
    Row(56, "our finalizer preset", "A", (stories.preset_finalizer,)),
    Row(57, "deletionTimestamp by a client", "K", (stories.deletion_timestamp,)),
    Row(58, "a namespace that is not served", "A", (stories.unserved_namespace,)),
    Row(59, "one object more than the quota", "K", (stories.quota_of_objects,)),
    Row(60, "an object of 1.4 MiB", "R/K", (refused, stories.huge_object)),
    Row(61, "an object from before the defaults", "A", (stories.older_object,)),
    Row(62, "valid when made, invalid by now", "C", (stories.tightened_rules,)),
]
