"""Objects that an earlier version left (tests/fixtures), created as if that version had just stopped."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from support.kubectl import WAIT, Kubectl, eventually
from userstorage_operator.api.unstructured import Unstructured

RELEASED = Path(__file__).parents[1] / "fixtures/released"
UNRELEASED = RELEASED.with_name("unreleased")
"""Objects of commits before 0.1.0, one directory for each."""
VERSIONS = sorted(path.name for path in RELEASED.iterdir())
USERS = ("alice", "bob", "carol", "dave", "erin")
SERVED = {"alice", "bob", "dave", "erin"}
_OURS = "userstorage-operator"
_PLACEHOLDERS = ("uid-of-", "volume-of-")


def unchanged(raw: Unstructured) -> Unstructured:
    """Return the object as it was released."""
    return raw


class ReleasedObjects:
    """The objects that a version left in a namespace: its users, and `copies` copies of alice; `age` changes each object."""

    def __init__(
        self,
        version: str,
        copies: int = 0,
        age: Callable[[Unstructured], Unstructured] = unchanged,
        *,
        parent: Path = RELEASED,
    ) -> None:
        self.definitions = parent / version / "definitions"
        self.classes = list(yaml.safe_load_all((parent / version / "classes.yaml").read_text()))
        self._objects = [age(raw) for raw in _objects(parent / version, copies)]

    @property
    def users(self) -> list[Unstructured]:
        """The UserStorages."""
        return [raw for raw in self._objects if raw["kind"] == "UserStorage"]

    @property
    def children(self) -> list[Unstructured]:
        """All other objects, among them claims that outlive their users."""
        return [raw for raw in self._objects if raw["kind"] != "UserStorage"]

    def create_in(self, api: Kubectl, namespace: str) -> None:
        """Create the objects as the operator would, wait until the pods are ready, and write the status."""
        api.apply(*self.classes)
        _send(api, namespace, "create", self.users)
        uids = _uids(api, "us", namespace)
        # With the operator's field manager: by that, the operator detects pod specs changed by other clients.
        _send(api, namespace, "create", _replaced(self.children, uids), f"--field-manager={_OURS}")
        api.run("wait", "pods", "--all", "-n", namespace, "--for=condition=Ready", WAIT)
        reported = [raw for raw in self.users if "status" in raw]
        if reported:
            api.run("wait", "pvc", "--all", "-n", namespace, "--for=jsonpath={.status.phase}=Bound", WAIT)
            known = uids | _uids(api, "pods", namespace) | _uids(api, "pvc", namespace) | _volumes(api, namespace)
            _send(api, namespace, "replace", _replaced(reported, known), "--subresource=status")

    def phases(self) -> dict[str, str]:
        """Return the phase of each user when the version stopped, by name."""
        return {raw["metadata"]["name"]: raw["status"]["phase"] for raw in self.users}


def pods(api: Kubectl, namespace: str) -> dict[str, str]:
    """Return the uids of all pods in the namespace, by name."""
    return {raw["metadata"]["name"]: raw["metadata"]["uid"] for raw in api.list_all("pods", namespace)}


def phases(api: Kubectl, namespace: str) -> dict[str, str]:
    """Return the phase, by name, of each user whose status is about its current generation."""
    return {
        raw["metadata"]["name"]: raw["status"]["phase"]
        for raw in api.list_all("us", namespace)
        if raw["status"].get("observedGeneration") == raw["metadata"]["generation"]
    }


def until_phases(api: Kubectl, namespace: str, expected: dict[str, str]) -> None:
    """Wait until each user has the expected phase."""
    eventually(lambda: phases(api, namespace) == expected, every=0.5)


def _objects(directory: Path, copies: int) -> Iterator[Unstructured]:
    for name in USERS:
        yield from yaml.safe_load_all((directory / f"{name}.yaml").read_text())
    # As JSON: in YAML, some hashes need quotes.
    alice = json.dumps(list(yaml.safe_load_all((directory / "alice.yaml").read_text())))
    hashes = json.loads((directory / "hashes.json").read_text())
    for name in (f"u{number}" for number in range(copies)):
        yield from json.loads(alice.replace("alice", name).replace(hashes["alice"], hashes[name]))


def _uids(api: Kubectl, kind: str, namespace: str) -> dict[str, str]:
    found = api.list_all(kind, namespace)
    return {f"uid-of-{raw['kind']}-{raw['metadata']['name']}": raw["metadata"]["uid"] for raw in found}


def _volumes(api: Kubectl, namespace: str) -> dict[str, str]:
    return {f"volume-of-{raw['metadata']['name']}": raw["spec"]["volumeName"] for raw in api.list_all("pvc", namespace)}


def _replaced(objects: Iterable[Unstructured], uids: dict[str, str]) -> list[Unstructured]:
    def replace(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: replace(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [replace(inner) for inner in value]
        return uids[value] if isinstance(value, str) and value.startswith(_PLACEHOLDERS) else value

    return [replace(raw) for raw in objects]


def _send(api: Kubectl, namespace: str, verb: str, objects: list[Unstructured], *options: str) -> None:
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    api.run(verb, "-n", namespace, "-f", "-", *options, input=listed)
