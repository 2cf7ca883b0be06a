"""What `uninstall` deletes, in which order, and what it keeps. The order, and its reasons: docs/install.md#uninstall."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from kubectl_userstorage.api import (
    ADMISSION_BINDINGS,
    ADMISSION_POLICIES,
    CRDS,
    FINALIZER,
    GATE,
    LEASES,
    NAMESPACES,
    NETWORK_POLICIES,
    OPERATOR,
    PODS,
    SERVICES,
    USER_STORAGES,
    Raw,
    Resource,
    claim_of,
)

_RBAC = "rbac.authorization.k8s.io/v1"
_ADMISSION = "admissionregistration.k8s.io/v1"
_MONITORING = "monitoring.coreos.com/v1"

LABEL_NAME = "app.kubernetes.io/name"
SELECTOR = f"{LABEL_NAME} in ({OPERATOR},{GATE},userstorage-uninstall,userstorage-redis)"
"""Objects of an installation, however it was made: each manifest and the chart label them so."""
SECRETS = Resource("v1", "secrets", "Secret")
CLUSTER_BINDINGS = Resource(_RBAC, "clusterrolebindings", "ClusterRoleBinding", namespaced=False)
ROLE_BINDINGS = Resource(_RBAC, "rolebindings", "RoleBinding")
FINALIZER_SETTERS = (
    Resource(_ADMISSION, "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", namespaced=False),
    Resource(_ADMISSION, "mutatingadmissionpolicies", "MutatingAdmissionPolicy", namespaced=False),
)
REST = (
    Resource("batch/v1", "jobs", "Job"),
    Resource(_MONITORING, "podmonitors", "PodMonitor"),
    Resource(_MONITORING, "servicemonitors", "ServiceMonitor"),
    Resource(_MONITORING, "prometheusrules", "PrometheusRule"),
    Resource("v1", "configmaps", "ConfigMap"),
    Resource("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    SERVICES,
    NETWORK_POLICIES,
    ADMISSION_BINDINGS,
    ADMISSION_POLICIES,
    CRDS,
    CLUSTER_BINDINGS,
    Resource(_RBAC, "clusterroles", "ClusterRole", namespaced=False),
    ROLE_BINDINGS,
    Resource(_RBAC, "roles", "Role"),
    LEASES,
    SECRETS,
    Resource("v1", "serviceaccounts", "ServiceAccount"),
)
"""Deleted last, in this order: the CRDs after all that uses them, and what names a Helm release after the record of the release."""
HTTP_ROUTES = Resource("gateway.networking.k8s.io/v1", "httproutes", "HTTPRoute")
CHILDREN = (
    PODS,
    SERVICES,
    Resource("networking.k8s.io/v1", "ingresses", "Ingress"),
    HTTP_ROUTES,
)
"""What the garbage collector deletes after its UserStorage, and only while the CRDs exist."""
_SHOWN = 10
"""Names in one message."""


class Item(NamedTuple):
    """An object of the installation."""

    resource: Resource
    raw: Raw

    def __str__(self) -> str:
        return f"{self.resource.full_name}/{self.raw['metadata']['name']}"


class Found(NamedTuple):
    """What there is to uninstall. `setters`, `workloads` and `rest` are in the order of deletion."""

    storages: list[Raw]
    claims: list[Raw]
    """Claims that the operator made."""
    setters: list[Item]
    """What gives new UserStorages the finalizer."""
    workloads: list[Item]
    rest: list[Item]
    namespace: Raw | None
    """The namespace of the operator."""
    namespace_kept: str
    """Why the namespace is kept; empty if it is deleted."""


class Right(NamedTuple):
    """A right of the caller. `namespace` None: in all namespaces."""

    verb: str
    resource: Resource
    namespace: str | None

    def __str__(self) -> str:
        name = f"{self.resource.plural}.{self.resource.group}".rstrip(".")
        where = "" if not self.resource.namespaced else f" in {self.namespace or 'all namespaces'}"
        return f"{self.verb} {name}{where}"


def scope(resource: Resource, system: str) -> str | None:
    """Return where to look for objects of an installation in the namespace `system`; None: in the whole cluster.

    An operator for listed namespaces has a RoleBinding in each of them.
    """
    return system if resource.namespaced and resource is not ROLE_BINDINGS else None


def other_namespace(rest: Iterable[Item], system: str) -> str | None:
    """Return the namespace of the operator's account, if it is another one than `system`."""
    for resource, raw in rest:
        if resource is CLUSTER_BINDINGS:
            for subject in raw.get("subjects") or ():
                if subject.get("name") == OPERATOR and subject.get("namespace", system) != system:
                    return str(subject["namespace"])
    return None


def why_kept(namespace: Raw | None, claims: list[Raw]) -> str:
    """Return why the namespace of the operator, with these claims in it, is kept; empty if it is deleted."""
    if namespace is None:
        return "it does not exist"
    if (namespace["metadata"].get("labels") or {}).get(LABEL_NAME) != OPERATOR:
        return "no manifest of the operator made it"
    return "there are claims in it" if claims else ""


def helm_releases(items: Iterable[Item]) -> list[str]:
    """Return the names of the Helm releases that the objects belong to."""
    annotations = (item.raw["metadata"].get("annotations") or {} for item in items)
    return sorted({name for each in annotations if (name := each.get("meta.helm.sh/release-name"))})


def claims_with_their_user(storages: list[Raw]) -> list[tuple[str, str]]:
    """Return namespace and name of the claims that the operator deletes with their UserStorage, by `reclaimPolicy: Delete`."""
    specs = ((raw, (raw.get("spec") or {}).get("storage") or {}) for raw in storages)
    return [
        (raw["metadata"]["namespace"], claim_of(raw))
        for raw, storage in specs
        if storage.get("reclaimPolicy") == "Delete" and not storage.get("claimName")
    ]


def rights(found: Found, system: str) -> list[Right]:
    """Return the rights that the uninstallation needs, without those that finding the objects has shown."""
    needed = [Right("delete", item.resource, scope(item.resource, system)) for item in (*found.setters, *found.workloads)]
    if found.storages:
        needed += [Right(verb, USER_STORAGES, None) for verb in ("deletecollection", "patch")]
    needed += [Right(verb, NETWORK_POLICIES, None) for verb in ("list", "patch", "delete")]
    needed += [Right("list", resource, None) for resource in CHILDREN if resource is not HTTP_ROUTES]
    needed += [Right("delete", item.resource, scope(item.resource, system)) for item in found.rest]
    needed += [Right("delete", NAMESPACES, None)] if not found.namespace_kept else []
    return list(dict.fromkeys(needed))


def summary(found: Found) -> Iterator[str]:
    """Yield lines that say what is deleted, in order, and what is kept."""
    is_installed = bool(found.storages or found.setters or found.workloads or found.rest or not found.namespace_kept)
    if not is_installed:
        yield "nothing of UserStorage is installed"
    if found.storages:
        yield f"deleted first, with their pods: {names('UserStorage', map(full_name, found.storages))}"
    lost = set(claims_with_their_user(found.storages))
    if lost:
        yield f"deleted with their files, by reclaimPolicy Delete: {names('claim', map('/'.join, sorted(lost)))}"
    for item in (*found.setters, *found.workloads, *found.rest):
        yield f"deleted: {item}{', with all objects of its kind' if item.resource is CRDS else ''}"
    if found.namespace and is_installed:
        item = Item(NAMESPACES, found.namespace)
        yield (
            f"kept: {item}: {found.namespace_kept}" if found.namespace_kept else f"deleted: {item}, with all that is left in it"
        )
    kept = [full_name(raw) for raw in found.claims if (raw["metadata"]["namespace"], raw["metadata"]["name"]) not in lost]
    if kept:
        yield f"kept: {names('claim', kept)}"


def names(what: str, found: Iterable[str]) -> str:
    """Return the number of objects and the first names, such as `2 claims: a/x, a/y`."""
    listed = list(found)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return f"{len(listed)} {what}{'' if len(listed) == 1 else 's'}: {', '.join(listed[:_SHOWN])}{more}"


def is_led(lease: Raw | None, now: datetime) -> bool:
    """Whether an operator leads: it holds the Lease and has renewed it in time."""
    spec = (lease or {}).get("spec") or {}
    if not spec.get("holderIdentity"):
        return False
    silent = (now - datetime.fromisoformat(spec["renewTime"])).total_seconds()
    return bool(silent <= spec["leaseDurationSeconds"])


def is_owned(child: Raw) -> bool:
    """Whether the garbage collector deletes an object after its UserStorage."""
    return any(_is_ours(owner) for owner in child["metadata"].get("ownerReferences") or ())


def release_patch(raw: Raw) -> Raw | None:
    """Return the merge patch that removes our finalizer of a UserStorage or NetworkPolicy, and the owner of a NetworkPolicy, so that
    it outlives the pod; None if there is nothing to remove.
    """
    meta = raw["metadata"]
    finalizers, owners = meta.get("finalizers") or [], meta.get("ownerReferences") or []
    kept = {
        "finalizers": [name for name in finalizers if name != FINALIZER],
        # An owner of an object that is being deleted makes no difference any more.
        "ownerReferences": owners if "deletionTimestamp" in meta else [each for each in owners if not _is_ours(each)],
    }
    if kept == {"finalizers": finalizers, "ownerReferences": owners}:
        return None
    return {"metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"], **kept}}


def _is_ours(owner: Raw) -> bool:
    return bool(owner.get("controller") and owner["kind"] == USER_STORAGES.kind)


def full_name(raw: Raw) -> str:
    """Return `namespace/name`."""
    return f"{raw['metadata']['namespace']}/{raw['metadata']['name']}"
