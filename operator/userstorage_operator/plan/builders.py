"""Builders of the children that a UserStorage should have. They never change their arguments.

Every field that `diff.py` compares is written out, even with the default of the API server, so that the live object equals the
desired one. A value of None means "must be absent": it is left out on creation and removed on repair.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from userstorage_operator.api import names, variables
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.quantities import parse_quantity
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import Expose, PolicyMode, UserStorageClass
from userstorage_operator.browsers.browser import Browser
from userstorage_operator.observed.kept import MAP_MAX, SPEC_MAX
from userstorage_operator.plan import child, class_bounds, exposure
from userstorage_operator.plan.pod_builder import build_pod, digest, formerly_hashed


@dataclass(frozen=True, slots=True)
class Desired:
    """The desired children, in the order of their creation: the NetworkPolicy comes before the pod that it protects."""

    network_policy: Unstructured | None
    """None if the class does not manage NetworkPolicies (`network.policy: None`)."""
    pvc: Unstructured | None
    """None if the spec names an existing claim."""
    service: Unstructured
    pod: Unstructured
    pod_hash: str
    """Hash of everything whose change requires a new pod. Labels and annotations change in place."""
    spec_hash: str
    """Hash of what the spec of the UserStorage decides. If only `pod_hash` changes, the class or the operator has changed."""
    formerly_hashed: tuple[list[Any], list[Any]]
    """What builds before 0.1.0 put into both hashes, podMetadata included: the same pod."""
    sources_hash: str
    """Hash of the sources that may reach the pod: those of its NetworkPolicy, or that it has none."""
    exposure_hash: str
    """Hash of the Ingress or HTTPRoute that the class asks for, also if it cannot be created now."""
    ingress: Unstructured | None
    """None if the class does not ask for an Ingress, or if it cannot be created now."""
    http_route: Unstructured | None
    """None if the class does not ask for an HTTPRoute, or if it cannot be created now."""

    @property
    def former_hashes(self) -> frozenset[str]:
        """Both hashes as builds before 0.1.0 computed them."""
        return frozenset(map(digest, self.formerly_hashed))


def build(
    storage: UserStorage, cls: UserStorageClass, browser: Browser, *, exposed: bool = True, granted: str | None = None
) -> Desired:
    """Build the desired children of one UserStorage. Ingress or HTTPRoute is left out if `exposed` is False.

    `granted` is the size that the existing claim requests: it stays allowed if the class lowers `storage.maxSize`. Raises
    InvalidSpec, naming the field, if spec or class has a value that is not supported.
    """
    _raise_if_unsupported(storage, cls, granted)
    class_bounds.raise_if_not_allowed(storage, cls)
    policy = _policy(storage, cls) if cls.policy is PolicyMode.MANAGED else None
    ingress, route = _exposure(storage, cls)
    pod = build_pod(storage, cls, browser)
    annotations = pod["metadata"]["annotations"]
    annotations |= {
        names.ANNOTATION_SOURCES_HASH: digest([policy["spec"]["ingress"][0]["from"]] if policy is not None else []),
        names.ANNOTATION_EXPOSURE_HASH: digest([_granted(child) for child in (ingress, route)]),
    }
    return Desired(
        network_policy=policy,
        pvc=_claim(storage, cls) if storage.storage.claim_name is None else None,
        service=_service(storage, cls),
        pod=pod,
        pod_hash=annotations[names.ANNOTATION_POD_HASH],
        spec_hash=annotations[names.ANNOTATION_SPEC_HASH],
        formerly_hashed=formerly_hashed(storage, pod["spec"]),
        sources_hash=annotations[names.ANNOTATION_SOURCES_HASH],
        exposure_hash=annotations[names.ANNOTATION_EXPOSURE_HASH],
        ingress=ingress if exposed else None,
        http_route=route if exposed else None,
    )


def _raise_if_unsupported(storage: UserStorage, cls: UserStorageClass, granted: str | None) -> None:
    if not names.is_user_id(storage.user_id):
        raise InvalidSpec(f"spec.userID: must be {names.USER_ID_RULE}")
    size = storage.storage.size
    if size is None or cls.max_size is None:
        return
    allowed = max(parse_quantity(allowed) for allowed in (cls.max_size, granted) if allowed is not None)
    if parse_quantity(size) > allowed:
        raise InvalidSpec(f"spec.storage.size: {size} exceeds storage.maxSize {cls.max_size} of class {cls.name!r}")


def _policy(storage: UserStorage, cls: UserStorageClass) -> Unstructured:
    """Build the NetworkPolicy: no egress, and ingress only from `allowedFrom` of the class.

    The default of `allowedFrom` is all namespaces with the gateway label.
    """
    gateways = {"namespaceSelector": {"matchLabels": {names.LABEL_GATEWAY: "true"}}}
    spec = {
        "podSelector": {"matchLabels": child.selector(storage), "matchExpressions": None},
        "policyTypes": ["Ingress", "Egress"],
        "egress": None,
        "ingress": [
            {
                "from": [_stored_peer(peer) for peer in cls.allowed_from] or [gateways],
                "ports": [{"port": cls.browser.port, "protocol": "TCP"}],
            }
        ],
    }
    if len(json.dumps(spec)) > SPEC_MAX // 2:  # the live one may have more
        raise InvalidSpec(
            f"class spec.network.allowedFrom: the NetworkPolicy would have more than {SPEC_MAX // 2} characters of JSON"
        )
    metadata = child.metadata(storage) | {"finalizers": [names.FINALIZER]}  # keeps it in force until the pod is gone
    return child.manifest("networking.k8s.io/v1", "NetworkPolicy", metadata, spec)


def _stored_peer(peer: Mapping[str, Any]) -> Unstructured:
    """Return the peer as the API server stores it: without empty lists and maps, which would look like a difference.

    An empty selector stays: it selects everything.
    """
    return {field: _without_empty(value) for field, value in peer.items()}


def _without_empty(value: Any) -> Any:
    """Return `value` without the fields that are empty lists or maps, at every depth."""
    if isinstance(value, Mapping):
        return {key: _without_empty(inner) for key, inner in value.items() if inner not in ([], {})}
    return [_without_empty(inner) for inner in value] if isinstance(value, list) else value


def _claim(storage: UserStorage, cls: UserStorageClass) -> Unstructured:
    """Build the claim. It has no owner: only a deletion gives it one, at its end (docs/semantics.md#claims-and-data)."""
    metadata = child.metadata(storage)
    del metadata["ownerReferences"]
    del metadata["labels"][names.LABEL_OWNER_UID]  # a claim outlives its UserStorage and serves the next one
    metadata["annotations"][names.ANNOTATION_RUN_AS] = str(cls.ids)
    if storage.storage.size is not None:
        metadata["annotations"][names.ANNOTATION_REQUESTED_SIZE] = storage.storage.size
    spec = {
        "accessModes": list(cls.access_modes),
        "resources": {"requests": {"storage": storage.storage.size or cls.default_size}},
        "storageClassName": cls.storage_class_name,
    }
    return child.manifest("v1", "PersistentVolumeClaim", metadata, spec)


def _service(storage: UserStorage, cls: UserStorageClass) -> Unstructured:
    """Build the Service. Its annotation says which class serves the user, also while there is no pod; none for the built-in one."""
    metadata = child.metadata(storage)
    if cls.name:
        metadata["annotations"][names.ANNOTATION_CLASS] = cls.name
    spec = {
        "type": "ClusterIP",
        "selector": child.selector(storage),
        "ports": [{"name": "http", "port": names.SERVICE_PORT, "protocol": "TCP", "targetPort": "http"}],
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "externalIPs": None,
        "publishNotReadyAddresses": None,
    }
    return child.manifest("v1", "Service", metadata, spec)


def _exposure(storage: UserStorage, cls: UserStorageClass) -> tuple[Unstructured | None, Unstructured | None]:
    """Return the Ingress and the HTTPRoute, of which a class asks for at most one."""
    host, expose = exposure.host_path(storage, cls), cls.exposure.expose
    ingress = _ingress(storage, cls, host) if host is not None and expose is Expose.INGRESS else None
    return ingress, _route(storage, cls, host) if host is not None and expose is Expose.GATEWAY else None


def _granted(child: Unstructured | None) -> list[Any]:
    """Return what decides who reaches the pod through an Ingress or HTTPRoute: annotations may ask for a login, too. Its
    certificate decides nothing.
    """
    if child is None:
        return []
    return [{field: value for field, value in child["spec"].items() if field != "tls"}, child["metadata"]["annotations"]]


def _ingress(storage: UserStorage, cls: UserStorageClass, host: exposure.HostPath) -> Unstructured:
    spec = exposure.ingress_spec(cls.exposure, storage, host)
    return child.manifest("networking.k8s.io/v1", "Ingress", _exposed_metadata(storage, cls), spec)


def _route(storage: UserStorage, cls: UserStorageClass, host: exposure.HostPath) -> Unstructured:
    spec = exposure.route_spec(cls.exposure, storage, host)
    return child.manifest("gateway.networking.k8s.io/v1", "HTTPRoute", _exposed_metadata(storage, cls), spec)


def _exposed_metadata(storage: UserStorage, cls: UserStorageClass) -> Unstructured:
    """Return the metadata of an Ingress or HTTPRoute, with the annotations of the class.

    Such annotations configure many ingress controllers, so no tenant may set them.
    """
    metadata = child.metadata(storage)
    annotations = {**variables.annotations(storage, cls), **metadata["annotations"]}
    if sum(len(key) + len(text) for key, text in annotations.items()) > MAP_MAX:
        raise InvalidSpec(f"class spec.network.annotations: more than {MAP_MAX} characters, keys and expanded values together")
    return metadata | {"annotations": annotations}
