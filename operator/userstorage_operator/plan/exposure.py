"""The way in from outside the cluster: the host and path of a user, and the Ingress or HTTPRoute for them.

Every field that the API server would default is written out, and lists are compared whole: what was made equals what was
asked for, and what somebody slipped in between is seen.
"""

import re
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass

from userstorage_operator.api import names
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import Expose, ExposureSpec, UserStorageClass, choose_class
from userstorage_operator.api.variables import expand
from userstorage_operator.observed.pod_status import Finding

GATEWAY_GROUP = "gateway.networking.k8s.io"
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_MAX = 63
_HOST_MAX = 253


@dataclass(frozen=True, slots=True)
class HostPath:
    """Where a user is reached: one place has one user."""

    host: str
    path: str


def host_path(storage: UserStorage, cls: UserStorageClass) -> HostPath | None:
    """Where the class wants this user to be reached; None for inside the cluster only.

    Raises InvalidSpec where the name does not come out as one that DNS can hold: slugs have up to 50 characters and
    namespaces up to 63, and the API server itself does not look at the length of labels.
    """
    template = cls.exposure.host_template
    if cls.exposure.expose is Expose.CLUSTER_IP:
        return None
    if template is None:
        raise InvalidSpec(f"class spec.network.hostTemplate is required with spec.network.expose {cls.exposure.expose}")
    host = expand(template, storage)
    if (fault := _host_error(host)) is not None:
        raise InvalidSpec(f"class spec.network.hostTemplate makes {host!r} of spec.userID {storage.user_id!r}: {fault}")
    return HostPath(host, expand(cls.browser.base_path, storage))


def _host_error(host: str) -> str | None:
    if len(host) > _HOST_MAX:
        return f"a DNS name has at most {_HOST_MAX} characters, this one {len(host)}"
    for label in host.split("."):
        if len(label) > _LABEL_MAX:
            return f"a label of a DNS name has at most {_LABEL_MAX} characters, {label!r} has {len(label)}"
        if not _LABEL.fullmatch(label):
            return f"{label!r} is no label of a DNS name"
    return None


def wanted_host(raw: Unstructured, classes: Iterable[Unstructured]) -> HostPath | None:
    """The place of a raw UserStorage; None also for one that cannot be read, and so gets nowhere."""
    spec = raw.get("spec") or {}
    chosen = choose_class(spec.get("className"), classes)
    network = (chosen.get("spec") or {}).get("network") if chosen is not None else None
    if chosen is None or not isinstance(network, dict) or network.get("expose", Expose.CLUSTER_IP) == Expose.CLUSTER_IP:
        return None  # the usual case, told apart cheaply: this is asked on every event
    try:
        return host_path(UserStorage.parse(raw), UserStorageClass.parse(chosen))
    except InvalidSpec:
        return None


def ingress_spec(exposure: ExposureSpec, at: HostPath, service: str) -> Unstructured:
    """Spec of the Ingress. Where the class names no IngressClass the field is the cluster's, which fills it in once."""
    backend = {"service": {"name": service, "port": {"number": names.SERVICE_PORT}}}
    spec: Unstructured = {
        "rules": [{"host": at.host, "http": {"paths": [{"path": at.path, "pathType": "Prefix", "backend": backend}]}}],
        "tls": [{"hosts": [at.host], "secretName": exposure.tls_secret_name}] if exposure.tls_secret_name else None,
        "defaultBackend": None,
    }
    if exposure.ingress_class_name is not None:
        spec["ingressClassName"] = exposure.ingress_class_name
    return spec


def route_spec(exposure: ExposureSpec, at: HostPath, service: str) -> Unstructured:
    """Spec of the HTTPRoute, with the defaults of its definition: defaulting there reaches into lists."""
    backend = {"group": "", "kind": "Service", "name": service, "port": names.SERVICE_PORT, "weight": 1}
    match = {"path": {"type": "PathPrefix", "value": at.path}}
    return {
        "parentRefs": [{"group": GATEWAY_GROUP, "kind": "Gateway", "name": exposure.gateway_name}],
        "hostnames": [at.host],
        "rules": [{"matches": [match], "backendRefs": [backend]}],
    }


def served_host(child: Unstructured) -> HostPath | None:
    """Where a live Ingress or HTTPRoute of ours leads in; None for one that was edited beyond that."""
    spec = child["spec"]
    try:
        [rule] = spec["rules"]
        if "hostnames" not in spec:
            [path] = rule["http"]["paths"]
            return HostPath(rule["host"], path["path"])
        [_], [host], [match] = spec["parentRefs"], spec["hostnames"], rule["matches"]
        return HostPath(host, match["path"]["value"])
    except (KeyError, ValueError):
        return None


def with_path(child: Unstructured, path: str) -> Unstructured:
    """An Ingress or HTTPRoute as we make it, but for another path."""
    moved = deepcopy(child)
    [rule] = moved["spec"]["rules"]
    if "hostnames" in moved["spec"]:
        rule["matches"][0]["path"]["value"] = path
    else:
        rule["http"]["paths"][0]["path"] = path
    return moved


def route_rejection(route: Unstructured) -> Finding | None:
    """What keeps a live HTTPRoute with a `served_place` from leading in, by the word of the Gateway's controller; None where nothing does.

    Without a word there is no way in: a Gateway that does not exist, or that no controller serves, gets no answer.
    """
    wanted = route["spec"]["parentRefs"][0]
    answers = [
        condition
        for parent in route.get("status", {}).get("parents") or ()
        if _is_parent(parent["parentRef"], wanted, route["metadata"]["namespace"])
        for condition in parent.get("conditions") or ()
        if condition.get("observedGeneration", 0) in (0, route["metadata"].get("generation", 0))
    ]
    for condition in answers:
        if condition["type"] in ("Accepted", "ResolvedRefs") and condition["status"] == "False":
            said = f"{condition['type']} is False ({condition['reason']}): {condition['message']}"
            return Finding("RouteNotAccepted", f"Gateway {wanted['name']!r}: {said}")
    if not any(condition["type"] == "Accepted" and condition["status"] == "True" for condition in answers):
        return Finding(
            "RoutePending", f"Gateway {wanted['name']!r} has not accepted the HTTPRoute yet; is there such a Gateway?"
        )
    return None


def _is_parent(named: Unstructured, wanted: Unstructured, namespace: str) -> bool:
    defaults = {"group": GATEWAY_GROUP, "kind": "Gateway", "namespace": namespace}
    return all((defaults | named)[key] == (defaults | wanted)[key] for key in ("group", "kind", "namespace", "name"))
