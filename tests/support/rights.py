"""The rights of an account, from the cluster's roles and bindings or from the API server's reviews."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from support.kubectl import Kubectl
from userstorage_operator.api.unstructured import Unstructured


class Right(NamedTuple):
    """One verb on one resource, in whatever scope it is granted."""

    group: str
    resource: str
    """The resource, followed by a slash and the subresource if there is one."""
    verb: str


def rights_of(rules: Iterable[Unstructured]) -> Iterator[Right]:
    """Yield every combination of group, resource and verb that the rules grant."""
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                yield from (Right(group, resource, verb) for verb in rule["verbs"])


def granted(api: Kubectl, account: str, app: str = "userstorage-operator") -> set[Right]:
    """Return the rights that our manifests bind to the service account, without bindings that tests create temporarily. `app`
    is the label that the manifests have.
    """
    selector = ["-A", "-l", f"app.kubernetes.io/name={app}", "-o", "json"]
    bindings = json.loads(api.run("get", "clusterrolebindings,rolebindings", *selector).stdout)["items"]
    found = set[Right]()
    for binding in bindings:
        names = [f"system:serviceaccount:{by.get('namespace')}:{by['name']}" for by in binding.get("subjects", ())]
        if account in names:
            role = binding["roleRef"]
            scope = ["-n", binding["metadata"]["namespace"]] if role["kind"] == "Role" else []
            rules = json.loads(api.run("get", role["kind"], role["name"], *scope, "-o", "json").stdout)["rules"]
            found |= set(rights_of(rules))
    return found


def attributes(right: Right, namespace: str) -> Unstructured:
    """Return the attributes of an access review for the right in a namespace."""
    resource, _, subresource = right.resource.partition("/")
    scope = {"namespace": namespace, "group": right.group, "resource": resource, "subresource": subresource}
    return scope | {"verb": right.verb}


def allowed(api: Kubectl, account: str, questions: Sequence[Unstructured]) -> list[bool]:
    """Return for each question whether the API server allows it: one batch of what `kubectl auth can-i` asks one by one.

    A service account is in the groups of all accounts of its namespace.
    """
    namespace = account.split(":")[2]
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    meta = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
    reviews = [meta | {"spec": {"user": account, "groups": groups, "resourceAttributes": question}} for question in questions]
    asked = json.dumps({"apiVersion": "v1", "kind": "List", "items": reviews})
    answers = api.run("create", "-f", "-", "-o", 'jsonpath={.status.allowed}{"\\n"}', input=asked).stdout.splitlines()
    assert len(answers) == len(questions)
    return [answer == "true" for answer in answers]
