"""The catalogue of 62 bad inputs, with the expected outcome of each and the checks for it.

R: refused by schema or rules, with a message that names the field.
W: admitted, and the unknown field is dropped and has no effect.
C: admitted and reported by a condition; nothing else changes.
K: refused by Kubernetes itself.
A: admitted and served.

The specs of R and W are the numbered rows of bad_inputs and bad_class_inputs.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from component import bad_class_inputs, bad_inputs
from component import bad_input_scenarios as scenarios
from support.arena import Arena
from support.manifests import Change, Object, Refused, storage, storage_class
from userstorage_operator.api.errors import Refused as RefusedByServer
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES

Attempt = Callable[[Arena, int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class BadInput:
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
    """Assert that each spec is refused for a new object and as a change of a served object."""
    tables: list[Refused] = list(_numbered(bad_inputs.REFUSED, number))
    for row in tables:
        await arena.expect_refusal(USER_STORAGES, storage(arena.live.namespace, row.spec, f"row{number}"), row.message)
        with pytest.raises(RefusedByServer):
            await arena.live.replace(USER_STORAGES, "victim", row.spec)
    classes: list[Refused] = list(_numbered(bad_class_inputs.REFUSED, number))
    for row in classes:
        await arena.expect_refusal(USER_STORAGE_CLASSES, storage_class(f"row{number}", row.spec), row.message)
    assert tables or classes


async def change_refused(arena: Arena, number: int) -> None:
    """Assert that each change is refused, and that an object which was served before keeps its pod and still reconciles."""
    tables: list[Change] = list(_numbered(bad_inputs.CHANGES, number))
    for index, row in enumerate(tables):
        name = f"row{number}-{index}"
        await arena.create(name, **(row.before | {"userID": name}))  # the operator reports the status of the row
        served = "claimName" not in row.before.get("storage", {})
        before = await arena.live.until_ready(name) if served else {}
        await _until_reported(arena, name, row.status or {})
        after = row.after | ({"userID": name} if row.after.get("userID") == "alice" else {})
        with pytest.raises(RefusedByServer) as refusal:
            await arena.live.replace(USER_STORAGES, name, after)
        assert row.message is not None
        assert row.message in refusal.value.message
        if served:
            await arena.live.change({"spec": {"lifecycle": {"startTimeout": "9m"}}}, name)
            assert (await arena.live.until_ready(name))["status"]["podUID"] == before["status"]["podUID"]
    classes: list[Change] = list(_numbered(bad_class_inputs.CHANGES, number))
    for index, row in enumerate(classes):
        name = await arena.create_class(f"row{number}-{index}", row.before)
        with pytest.raises(RefusedByServer) as refusal:
            await arena.live.replace(USER_STORAGE_CLASSES, name, row.after)
        assert row.message is not None
        assert row.message in refusal.value.message
    assert tables or classes


async def _until_reported(arena: Arena, name: str, status: Object) -> None:
    """Wait until each part of the status has these fields: a pod may be Ready before the capacity of its claim is known."""

    async def is_reported() -> bool:
        found = (await arena.live.get(name) or {}).get("status", {})
        return all(found.get(part, {}).items() >= fields.items() for part, fields in status.items())

    await arena.live.until(is_reported)


async def pruned(arena: Arena, number: int) -> None:
    """Assert that each spec is admitted and that its pod equals the pod of a user without unknown fields."""
    rows: list[str] = list(_numbered(bad_inputs.PRUNED, number))
    for index, row in enumerate(rows):
        await arena.create(f"row{number}-{index}", **bad_inputs.PRUNED[row])
    expected = await arena.comparable_pod("canary")
    for index in range(len(rows)):
        name = f"row{number}-{index}"
        await arena.live.until_ready(name)
        assert await arena.comparable_pod(name) == expected
    assert rows


CATALOGUE = [
    BadInput(1, "no spec", "R", (refused,)),
    BadInput(2, "spec null, a list, a string", "R", (refused,)),
    BadInput(3, "userID missing", "R", (refused,)),
    BadInput(4, "userID empty", "R", (refused,)),
    BadInput(5, "userID with space, tab, newline", "R", (refused,)),
    BadInput(6, "userID with ../", "A", (scenarios.identities_of_row,)),
    BadInput(7, "userID with / \\ NUL %2e", "R/A", (refused, scenarios.identities_of_row)),
    BadInput(8, "userID too long", "R", (refused,)),
    BadInput(9, "userID beyond ASCII", "R", (refused,)),
    BadInput(10, "userID of templates and commands", "A", (scenarios.identities_of_row,)),
    BadInput(11, "userID an e-mail address", "A", (scenarios.email_address,)),
    BadInput(12, "userID a number", "R", (refused,)),
    BadInput(13, "userID changed", "R", (change_refused,)),
    BadInput(14, "object names of all kinds", "A", (scenarios.object_names,)),
    BadInput(15, "generateName", "A", (scenarios.generated_names,)),
    BadInput(16, "size no quantity", "R", (refused,)),
    BadInput(17, "size 0 or negative", "R", (refused,)),
    BadInput(18, "size below the minimum", "R", (refused,)),
    BadInput(19, "size above the maximum", "R", (refused,)),
    BadInput(20, "size an integer", "R/A", (refused, scenarios.size_in_bytes)),
    BadInput(21, "size shrunk", "R", (change_refused,)),
    BadInput(22, "size grown without volume expansion", "C", (scenarios.cannot_grow,)),
    BadInput(23, "size fractional", "R/A", (refused, scenarios.fractional_size)),
    BadInput(24, "limits below requests, zero amounts", "R", (refused,)),
    BadInput(25, "extended resources", "R", (refused,)),
    BadInput(26, "mountPath", "W", (pruned,)),
    BadInput(27, "subPath absolute", "R", (refused,)),
    BadInput(28, "subPath with ..", "R", (refused,)),
    BadInput(29, "subPath with variables, subPathExpr", "R/W", (refused, pruned)),
    BadInput(30, "a thousand list items", "R", (refused,)),
    BadInput(31, "claimName in another namespace", "R", (refused,)),
    BadInput(32, "claimName of another UserStorage", "C", (scenarios.claim_in_use,)),
    BadInput(33, "claimName without its owner's consent", "C", (scenarios.claim_not_allowed,)),
    BadInput(34, "two objects of one user", "C", (scenarios.same_user,)),
    BadInput(35, "similar user ids", "R/A", (refused, scenarios.lookalikes)),
    BadInput(36, "foreign objects with names of children", "C", (scenarios.names_taken,)),
    BadInput(37, "a storage class that does not exist", "C", (scenarios.no_such_storage_class,)),
    BadInput(38, "storageClassName changed", "R/W", (change_refused, pruned)),
    BadInput(39, "immutable fields removed", "R", (change_refused,)),
    BadInput(40, "ReadWriteMany without a provisioner", "C/R", (change_refused, scenarios.read_write_many)),
    BadInput(41, "port out of range", "R/W", (refused, pruned)),
    BadInput(42, "hosts: *, -a, host of another user", "R/C/W", (refused, pruned, scenarios.host_taken)),
    BadInput(43, "annotations for an ingress", "W", (pruned,)),
    BadInput(44, "misspelt field", "R/W", (pruned, scenarios.misspelt_field)),
    BadInput(45, "a key given twice", "R/W", (scenarios.key_given_twice,)),
    BadInput(46, "image, imagePullSecrets", "W", (pruned,)),
    BadInput(47, "service account, host, volumes, command", "W", (pruned,)),
    BadInput(48, "status by a tenant", "W", (scenarios.status_by_tenant,)),
    BadInput(49, "status patched by a tenant", "K", (scenarios.status_patched_by_tenant,)),
    BadInput(50, "forged last-handled-configuration of kopf", "A", (scenarios.forged_memory,)),
    BadInput(51, "forged progress annotations of kopf", "A", (scenarios.forged_progress,)),
    BadInput(52, "huge annotations", "A/K", (scenarios.huge_annotations,)),
    BadInput(53, "our labels on a foreign pod", "A", (scenarios.spoofed_pod,)),
    BadInput(54, "an owner that does not exist", "A", (scenarios.absent_owner,)),
    BadInput(55, "a foreign finalizer", "C", (scenarios.foreign_finalizer,)),
    BadInput(56, "our finalizer set by the tenant", "A", (scenarios.preset_finalizer,)),
    BadInput(57, "deletionTimestamp set by a client", "K", (scenarios.deletion_timestamp,)),
    BadInput(58, "a namespace that is not served", "A", (scenarios.unserved_namespace,)),
    BadInput(59, "one object more than the quota", "K", (scenarios.quota_of_objects,)),
    BadInput(60, "an object of 1.4 MiB", "R/K", (refused, scenarios.huge_object)),
    BadInput(61, "an object older than the defaults", "A", (scenarios.older_object,)),
    BadInput(62, "valid when created, invalid after a CRD change", "C", (scenarios.tightened_rules,)),
]
