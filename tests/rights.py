"""What an account may do, by the cluster's own roles and bindings, one right at a time."""

import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kubectl import Kubectl
from userstorage_operator.domain.fields import Object


class Right(NamedTuple):
    """One verb on one resource, wherever it is granted."""

    group: str
    resource: str
    """With the subresource behind a slash."""
    verb: str


def rights_of(rules: Iterable[Object]) -> Iterator[Right]:
    """Every combination that the rules grant."""
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                yield from (Right(group, resource, verb) for verb in rule["verbs"])


def granted(api: Kubectl, account: str) -> set[Right]:
    """All that our manifests bind to the service account; tests bind it more, for a moment, in namespaces of their own."""
    ours = ["-A", "-l", "app.kubernetes.io/name=userstorage-operator", "-o", "json"]
    bindings = json.loads(api.run("get", "clusterrolebindings,rolebindings", *ours).stdout)["items"]
    found = set[Right]()
    for binding in bindings:
        names = [f"system:serviceaccount:{by.get('namespace')}:{by['name']}" for by in binding.get("subjects", ())]
        if account in names:
            role = binding["roleRef"]
            where = ["-n", binding["metadata"]["namespace"]] if role["kind"] == "Role" else []
            rules = json.loads(api.run("get", role["kind"], role["name"], *where, "-o", "json").stdout)["rules"]
            found |= set(rights_of(rules))
    return found
