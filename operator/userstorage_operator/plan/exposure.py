"""Access from outside the cluster: host name and URL path of a user, and the spec of the Ingress or HTTPRoute for them.

Every field that the API server would default is written out, and lists are compared whole, so that an entry that another
writer adds is a difference. The exception are paths beside ours in the rule of an Ingress: certificate managers answer their
challenges there.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from userstorage_operator.api import names
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import Expose, ExposureSpec, UserStorageClass, choose_class
from userstorage_operator.api.variables import base_path, dns_name
from userstorage_operator.observed.pod_status import Finding

GATEWAY_GROUP = "gateway.networking.k8s.io"
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_MAX = 63
_HOST_MAX = 253


@dataclass(frozen=True, slots=True)
class HostPath:
    """The host name and URL path at which the file browser of one user is reached."""

    host: str
    path: str


def host_path(storage: UserStorage, cls: UserStorageClass) -> HostPath | None:
    """Return host name and URL path outside the cluster; None if the class exposes its users only inside the cluster.

    Raises InvalidSpec if the class has no hostTemplate, if the host is not a valid DNS name: slugs have up to 50 characters
    and namespaces up to 63, and the API server itself does not check the length of labels; or if the path is not valid.
    """
    template = cls.exposure.host_template
    if cls.exposure.expose is Expose.CLUSTER_IP:
        return None
    if template is None:
        raise InvalidSpec(f"class spec.network.hostTemplate is required with spec.network.expose {cls.exposure.expose}")
    host = dns_name("network.hostTemplate", template, storage)
    if (error := _host_error(host, template)) is not None:
        raise InvalidSpec(f"class spec.network.hostTemplate makes {host!r} of spec.userID {storage.user_id!r}: {error}")
    return HostPath(host, base_path(storage, cls))


def _host_error(host: str, template: str) -> str | None:
    """Return why `host` is no DNS name for which clients accept a certificate; None if it is one.

    Labels with hyphens in the third and fourth place are reserved (RFC 5891, 4.2.3.1). Only an internationalised label that the
    administrator wrote into the template is one of these.
    """
    if len(host) > _HOST_MAX:
        return f"a DNS name has at most {_HOST_MAX} characters, this one {len(host)}"
    for label in host.split("."):
        if len(label) > _LABEL_MAX:
            return f"a label of a DNS name has at most {_LABEL_MAX} characters, {label!r} has {len(label)}"
        if not _LABEL.fullmatch(label):
            return f"{label!r} is not a label of a DNS name"
        if label[2:4] == "--" and not (label.startswith("xn--") and label in template.split(".")):
            return f"{label!r} has hyphens in the third and fourth place, which is reserved"
    return None


def wanted_host(raw: Unstructured, classes: Iterable[Unstructured]) -> HostPath | None:
    """Return the host name and URL path that a raw UserStorage gets from its class, which is one of `classes`.

    None if the class exposes its users only inside the cluster, if the class does not exist, or if either object is invalid.
    """
    spec = raw.get("spec") or {}
    chosen = choose_class(spec.get("className"), classes)
    network = (chosen.get("spec") or {}).get("network") if chosen is not None else None
    if chosen is None or not isinstance(network, dict) or network.get("expose", Expose.CLUSTER_IP) == Expose.CLUSTER_IP:
        return None  # the usual case, decided without parsing: this runs on every event
    try:
        return host_path(UserStorage.parse(raw), UserStorageClass.parse(chosen))
    except InvalidSpec:
        return None


def ingress_spec(exposure: ExposureSpec, storage: UserStorage, at: HostPath) -> Unstructured:
    """Build the spec of the Ingress. If the class names no IngressClass, the API server sets the default one on creation.

    Raises InvalidSpec if the Secret of the certificate has no valid name.
    """
    backend = {"service": {"name": names.child_name(storage.slug), "port": {"number": names.SERVICE_PORT}}}
    secret = _tls_secret(exposure, storage)
    spec: Unstructured = {
        "rules": [{"host": at.host, "http": {"paths": [{"path": at.path, "pathType": "Prefix", "backend": backend}]}}],
        "tls": [{"hosts": [at.host], "secretName": secret}] if secret is not None else None,
        "defaultBackend": None,
    }
    if exposure.ingress_class_name is not None:
        spec["ingressClassName"] = exposure.ingress_class_name
    return spec


def _tls_secret(exposure: ExposureSpec, storage: UserStorage) -> str | None:
    template = exposure.tls_secret_name
    if template is None:
        return None
    secret = dns_name("network.tlsSecretName", template, storage)
    if len(secret) > _HOST_MAX or not all(_LABEL.fullmatch(part) for part in secret.split(".")):
        raise InvalidSpec(f"class spec.network.tlsSecretName makes {secret!r}, which is not a valid name of a Secret")
    return secret


def route_spec(exposure: ExposureSpec, storage: UserStorage, at: HostPath) -> Unstructured:
    """Build the spec of the HTTPRoute, including the defaults of its CRD inside lists, because lists are compared whole.

    Raises InvalidSpec if the class names no Gateway.
    """
    if exposure.gateway is None:
        raise InvalidSpec("class spec.network.gateway is required with spec.network.expose Gateway")
    service = names.child_name(storage.slug)
    backend = {"group": "", "kind": "Service", "name": service, "port": names.SERVICE_PORT, "weight": 1}
    match = {"path": {"type": "PathPrefix", "value": at.path}}
    return {
        "parentRefs": [{"group": GATEWAY_GROUP, "kind": "Gateway", **exposure.gateway}],
        "hostnames": [at.host],
        "rules": [{"matches": [match], "backendRefs": [backend]}],
    }


def served_host(child: Unstructured) -> HostPath | None:
    """Return host name and URL path of our live Ingress or HTTPRoute; None if an edit left not exactly one of each."""
    spec = child["spec"]
    try:
        [rule] = spec["rules"]
        if "hostnames" not in spec:
            [path] = (path for path in rule["http"]["paths"] if not _is_foreign(path, child["metadata"]["name"]))
            return HostPath(rule["host"], path["path"])
        [_], [host], [match] = spec["parentRefs"], spec["hostnames"], rule["matches"]
        return HostPath(host, match["path"]["value"])
    except (KeyError, ValueError):
        return None


def leads_to(child: Unstructured, service: str) -> bool:
    """Whether a live Ingress or HTTPRoute that has a `served_host` sends all visitors of it to that Service."""
    if "hostnames" not in child["spec"]:  # the path of an Ingress that counts as its `served_host` leads there
        return "defaultBackend" not in child["spec"]
    [rule] = child["spec"]["rules"]
    return [backend.get("name") for backend in rule.get("backendRefs") or ()] == [service] and not rule.get("filters")


def without_foreign_paths(child: Unstructured) -> Unstructured:
    """Return the spec of a live Ingress or HTTPRoute that has a `served_host`, without the paths of other controllers."""
    spec: Unstructured = child["spec"]
    if "hostnames" in spec:
        return spec
    [rule] = spec["rules"]
    paths = [path for path in rule["http"]["paths"] if not _is_foreign(path, child["metadata"]["name"])]
    return spec | {"rules": [rule | {"http": rule["http"] | {"paths": paths}}]}


def with_foreign_paths(desired: Unstructured, live: Unstructured) -> Unstructured:
    """Return the desired child with the paths that other controllers have added to the rule of its Ingress, in their order.

    A path is not foreign if it leads to our Service, or if it is the desired path with another backend. A child that is no
    Ingress, or whose live rule has another host, is returned as it is.
    """
    if desired["kind"] != "Ingress":
        return desired
    [rule], name = desired["spec"]["rules"], desired["metadata"]["name"]
    [ours] = rule["http"]["paths"]
    found = next((old for old in live["spec"].get("rules") or () if old.get("host") == rule["host"]), None)
    live_paths = ((found or {}).get("http") or {}).get("paths") or []
    paths: list[Unstructured] = []
    for path in live_paths:
        if _is_foreign(path, name) and path.get("path") != ours["path"]:
            paths.append(path)
        elif ours not in paths:
            paths.append(ours)
    if ours not in paths:
        paths.append(ours)
    return desired | {"spec": desired["spec"] | {"rules": [rule | {"http": {"paths": paths}}]}}


def _is_foreign(path: Unstructured, service: str) -> bool:
    """Whether a path of an Ingress leads elsewhere than to that Service of ours."""
    return bool((path["backend"].get("service") or {}).get("name") != service)


def route_rejection(route: Unstructured) -> Finding | None:
    """Return why the controller of the Gateway does not serve our live HTTPRoute; None if the controller serves it.

    `served_host(route)` must not be None. An HTTPRoute without a status counts as not served: no controller
    writes a status if the Gateway does not exist.
    """
    gateway = route["spec"]["parentRefs"][0]
    name = _gateway_name(gateway)
    conditions = [
        condition
        for parent in route.get("status", {}).get("parents") or ()
        if _is_parent(parent["parentRef"], gateway, route["metadata"]["namespace"])
        for condition in parent.get("conditions") or ()
        if condition.get("observedGeneration", 0) in (0, route["metadata"].get("generation", 0))
    ]
    for condition in conditions:
        if condition["type"] in ("Accepted", "ResolvedRefs") and condition["status"] == "False":
            answer = f"{name}: {condition['type']} is False ({condition['reason']}): {condition['message']}"
            remedy = _REMEDIES.get(condition["reason"], "").format(namespace=route["metadata"]["namespace"])
            return Finding("RouteNotAccepted", f"{answer}; {remedy}" if remedy else answer)
    if not any(condition["type"] == "Accepted" and condition["status"] == "True" for condition in conditions):
        return Finding(
            "RoutePending",
            f"{name} has not accepted the HTTPRoute yet; check that the Gateway exists and has a controller",
        )
    return None


_REMEDIES = {
    "NotAllowedByListeners": (
        "the owner of the Gateway must allow HTTPRoutes of namespace {namespace!r} in its listener:"
        " allowedRoutes.namespaces.from All, or Selector with a label of that namespace"
    ),
    "NoMatchingListenerHostname": (
        "the hostname of the listener must cover network.hostTemplate of the class, for example *.files.example.org"
    ),
    "NoMatchingParent": "network.gateway.sectionName of the class must be the name of a listener of the Gateway",
}
"""Reason of a condition in the status of an HTTPRoute -> what has to change."""


def _gateway_name(parent: Unstructured) -> str:
    """Return a parentRef in words for people."""
    name = f"Gateway {parent['name']!r}" + (f" of namespace {parent['namespace']!r}" if "namespace" in parent else "")
    return name + (f", listener {parent['sectionName']!r}" if "sectionName" in parent else "")


def _is_parent(reference: Unstructured, gateway: Unstructured, namespace: str) -> bool:
    defaults = {"group": GATEWAY_GROUP, "kind": "Gateway", "namespace": namespace, "sectionName": None}
    return all((defaults | reference)[key] == (defaults | gateway)[key] for key in (*defaults, "name"))
