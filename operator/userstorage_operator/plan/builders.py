"""Builders of the children that a UserStorage should have. They never change their arguments.

Every field that `diff.py` compares is written out, even with the default of the API server, so that the live object equals the
desired one. A value of None means "must be absent": it is left out on creation and removed on repair.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from userstorage_operator.api import names, variables
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.quantities import parse_quantity
from userstorage_operator.api.subpath import directory
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Scheduling, UserStorage
from userstorage_operator.api.userstorageclass import Expose, PolicyMode, UserStorageClass
from userstorage_operator.browsers.browser import FILES_MOUNT, Browser
from userstorage_operator.observed.claim_usage import ClaimUse
from userstorage_operator.plan import class_bounds, exposure

DIRECTORY_IMAGE = "docker.io/library/busybox:1.37.0"
"""The image of the init container that creates the directory `spec.storage.subPath`, unless the class names one."""


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
    former_hashes: frozenset[str]
    """Both hashes as builds before 0.1.0 computed them, with podMetadata: the same pod."""
    sources_hash: str
    """Hash of the sources that may reach the pod: those of its NetworkPolicy, or that it has none."""
    exposure_hash: str
    """Hash of the Ingress or HTTPRoute that the class asks for, also if it cannot be created now."""
    ingress: Unstructured | None
    """None if the class does not ask for an Ingress, or if it cannot be created now."""
    http_route: Unstructured | None
    """None if the class does not ask for an HTTPRoute, or if it cannot be created now."""


BUILT_FROM = frozenset(
    (
        names.ANNOTATION_POD_HASH,
        names.ANNOTATION_SPEC_HASH,
        names.ANNOTATION_SOURCES_HASH,
        names.ANNOTATION_EXPOSURE_HASH,
        names.ANNOTATION_CLASS,
        names.ANNOTATION_BASE_PATH,
    )
)
"""Annotations that record what a pod was built from, and who may reach it, as long as it is outdated."""
_IN_PLACE: list[Any] = [{}, {}]
"""In the hashes in place of labels and annotations, which earlier builds hashed: a pod without podMetadata keeps its hashes."""


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
    pod = _pod(storage, cls, browser)
    annotations = pod["metadata"]["annotations"]
    annotations |= {
        names.ANNOTATION_SOURCES_HASH: _hash([policy["spec"]["ingress"][0]["from"]] if policy is not None else []),
        names.ANNOTATION_EXPOSURE_HASH: _hash([_granted(child) for child in (ingress, route)]),
    }
    return Desired(
        network_policy=policy,
        pvc=_claim(storage, cls) if storage.storage.claim_name is None else None,
        service=_service(storage, cls),
        pod=pod,
        pod_hash=annotations[names.ANNOTATION_POD_HASH],
        spec_hash=annotations[names.ANNOTATION_SPEC_HASH],
        former_hashes=_former_hashes(storage, pod["spec"]),
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


def selector(storage: UserStorage) -> dict[str, str]:
    """Return the labels by which the Service and the NetworkPolicy select the pod."""
    return {names.LABEL_SLUG: storage.slug}


def claim_name(storage: UserStorage) -> str:
    """Return the name of the claim that holds the files."""
    return storage.storage.claim_name or names.child_name(storage.slug)


def claim_use(storage: UserStorage) -> ClaimUse:
    """Return the claim and the directory of it that the UserStorage wants."""
    files = storage.storage
    return ClaimUse(claim_name(storage), directory(files.sub_path, storage.slug), files.read_only)


def _policy(storage: UserStorage, cls: UserStorageClass) -> Unstructured:
    """Build the NetworkPolicy: no egress, and ingress only from `allowedFrom` of the class.

    The default of `allowedFrom` is all namespaces with the gateway label.
    """
    gateways = {"namespaceSelector": {"matchLabels": {names.LABEL_GATEWAY: "true"}}}
    spec = {
        "podSelector": {"matchLabels": selector(storage), "matchExpressions": None},
        "policyTypes": ["Ingress", "Egress"],
        "egress": None,
        "ingress": [
            {
                "from": [_stored_peer(peer) for peer in cls.allowed_from] or [gateways],
                "ports": [{"port": cls.browser.port, "protocol": "TCP"}],
            }
        ],
    }
    metadata = _metadata(storage) | {"finalizers": [names.FINALIZER]}  # keeps it in force until the pod is gone
    return _child("networking.k8s.io/v1", "NetworkPolicy", metadata, spec)


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
    metadata = _metadata(storage)
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
    return _child("v1", "PersistentVolumeClaim", metadata, spec)


def _service(storage: UserStorage, cls: UserStorageClass) -> Unstructured:
    """Build the Service. Its annotation says which class serves the user, also while there is no pod; none for the built-in one."""
    metadata = _metadata(storage)
    if cls.name:
        metadata["annotations"][names.ANNOTATION_CLASS] = cls.name
    spec = {
        "type": "ClusterIP",
        "selector": selector(storage),
        "ports": [{"name": "http", "port": names.SERVICE_PORT, "protocol": "TCP", "targetPort": "http"}],
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "externalIPs": None,
        "publishNotReadyAddresses": None,
    }
    return _child("v1", "Service", metadata, spec)


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
    return _child("networking.k8s.io/v1", "Ingress", _exposed_metadata(storage, cls), spec)


def _route(storage: UserStorage, cls: UserStorageClass, host: exposure.HostPath) -> Unstructured:
    spec = exposure.route_spec(cls.exposure, storage, host)
    return _child("gateway.networking.k8s.io/v1", "HTTPRoute", _exposed_metadata(storage, cls), spec)


def _exposed_metadata(storage: UserStorage, cls: UserStorageClass) -> Unstructured:
    """Return the metadata of an Ingress or HTTPRoute, with the annotations of the class.

    Such annotations configure many ingress controllers, so no tenant may set them.
    """
    metadata = _metadata(storage)
    return metadata | {"annotations": {**variables.annotations(storage, cls), **metadata["annotations"]}}


def _pod(storage: UserStorage, cls: UserStorageClass, browser: Browser) -> Unstructured:
    """Build the pod. The operator adds the annotations BUILT_FROM, of which `build` adds those about access: a hash of the pod
    spec, a hash of what the UserStorage decides about it, the class name (for the admission policy) and the base path (for the
    URL); and after a restart, which one the pod was created for.
    """
    metadata, added = _metadata(storage), class_bounds.pod_metadata(storage, cls)
    metadata["labels"] = {**added.labels, **metadata["labels"]}
    metadata["annotations"] = {**added.annotations, **metadata["annotations"]}
    if storage.meta.restarted_at is not None:
        metadata["annotations"][names.ANNOTATION_RESTARTED_AT] = storage.meta.restarted_at
    spec = _pod_spec(storage, cls, browser)
    metadata["annotations"] |= {
        names.ANNOTATION_POD_HASH: _hash([spec, *_IN_PLACE]),
        names.ANNOTATION_SPEC_HASH: _hash([*_user_controlled(storage), _IN_PLACE]),
        names.ANNOTATION_CLASS: cls.name,
        names.ANNOTATION_BASE_PATH: variables.base_path(storage, cls),
    }
    return _child("v1", "Pod", metadata, spec)


def _user_controlled(storage: UserStorage) -> list[Any]:
    """Return everything about the pod that the spec of the UserStorage decides and that needs a new pod.

    If a new version of the operator changes this list, it treats every pod as changed by its user. It then replaces all
    outdated pods at once, without a rollout.
    """
    files, placed = storage.storage, storage.scheduling
    return [
        storage.class_name,
        [files.claim_name, files.sub_path, files.read_only],
        storage.lifecycle.termination_grace_period,
        [dict(placed.node_selector), [dict(toleration) for toleration in placed.tolerations]] if placed else None,
    ]


def _former_hashes(storage: UserStorage, spec: Unstructured) -> frozenset[str]:
    metadata = [dict(storage.pod_metadata.labels), dict(storage.pod_metadata.annotations)]
    return frozenset((_hash([spec, *metadata]), _hash([*_user_controlled(storage), metadata])))


def _hash(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _pod_spec(storage: UserStorage, cls: UserStorageClass, browser: Browser) -> Unstructured:
    """Build a pod spec that Pod Security `restricted` admits, without a service account token and with a read-only root."""
    files: Unstructured = {"name": names.FILES_VOLUME, "mountPath": FILES_MOUNT}
    if storage.storage.read_only:
        files["readOnly"] = True
    if storage.storage.sub_path is not None:
        files["subPath"] = storage.storage.sub_path.replace("${slug}", storage.slug)
    by_owner = [files | {"mountPath": browser.owner_mount}] if browser.owner_mount is not None else []
    scratch = [{"name": space.name, "mountPath": space.mount_path} for space in browser.scratch]
    container: Unstructured = {
        "name": names.CONTAINER,
        "image": browser.image,
        "command": list(browser.command),
        "args": list(browser.args),
        "ports": [{"name": "http", "containerPort": cls.browser.port, "protocol": "TCP"}],
        "resources": _resources(cls, browser),
        "securityContext": _CONTAINER_SECURITY,
        "volumeMounts": [files, *by_owner, *scratch],
        "startupProbe": dict(browser.startup_probe),
        "readinessProbe": dict(browser.readiness_probe),
        "livenessProbe": dict(browser.liveness_probe),
        "terminationMessagePolicy": _TERMINATION_MESSAGE,
    }
    if browser.env:
        container["env"] = [dict(variable) for variable in browser.env]
    if browser.stop_signal is not None:
        container["lifecycle"] = {"stopSignal": browser.stop_signal}
    spec: Unstructured = {
        "os": {"name": "linux"},  # a stopSignal is valid only with `os`
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": storage.lifecycle.termination_grace_period,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": cls.ids.user,  # a number: the kubelet cannot check that a name is not root
            "runAsGroup": cls.ids.group,
            "fsGroup": cls.ids.fs_group,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {
                "name": names.FILES_VOLUME,
                "persistentVolumeClaim": {"claimName": claim_name(storage), "readOnly": storage.storage.read_only},
            },
            *({"name": space.name, "emptyDir": {"sizeLimit": space.size_limit}} for space in browser.scratch),
        ],
        **_scheduling(class_bounds.placement(storage, cls)),
    }
    init_containers = []
    if storage.storage.sub_path is not None:
        init_containers.append(_directory_container(storage, cls, container["resources"]))
    if browser.init_command:
        init_containers.append(
            {
                "name": names.INIT_CONTAINER,
                "image": browser.image,
                "command": list(browser.init_command),
                "resources": container["resources"],
                "securityContext": _CONTAINER_SECURITY,
                "volumeMounts": scratch,
                "terminationMessagePolicy": _TERMINATION_MESSAGE,
            }
        )
    if init_containers:
        spec["initContainers"] = init_containers
    return spec


def _resources(cls: UserStorageClass, browser: Browser) -> Unstructured:
    """Return the resources of the class or the flavor, with what scratch and logs may take of the node's disk.

    All of it is requested: on a node whose disk is full, the kubelet first evicts the pods that use more than they request.
    """
    resources = dict(cls.browser.resources or browser.default_resources)
    kinds = ("requests", "limits")
    if not browser.scratch or any("ephemeral-storage" in (resources.get(kind) or {}) for kind in kinds):
        return resources
    space = sum(parse_quantity(scratch.size_limit) for scratch in browser.scratch) + parse_quantity(_LOGS)
    storage = {"ephemeral-storage": f"{int(space) >> 20}Mi"}
    return resources | {kind: dict(resources.get(kind) or {}) | storage for kind in kinds}


_LOGS = "128Mi"
"""What the logs of the containers may take: a kubelet keeps 50 MiB of each by default."""


_DIRECTORY_SCRIPT = """\
fail() { echo "spec.storage.subPath: $1" >&2; exit 1; }
cannot() { fail "cannot $1 the directory $at as uid $(id -u), gid $(id -G): ${error##*: }"; }
umask 006
at=$1
error=$(cd "$at" 2>&1) && cd "$at" || cannot enter
shift
while [ $# -gt 0 ]; do
  [ $# -gt 1 ] || umask 007
  at=$at/$1
  [ -d "./$1" ] || error=$(mkdir "./$1" 2>&1) || [ -d "./$1" ] || cannot create
  error=$(cd -P "./$1" 2>&1) && cd -P "./$1" || cannot enter
  [ "$(pwd -P)" = "$at" ] || fail "$at is a symbolic link, which is not followed"
  shift
done
"""
"""Creates a directory, and fails if an element of its path is a link. The arguments are the root and the elements.

The kubelet would follow a link to another directory of the claim, and what it creates belongs to root.
"""


def _directory_container(storage: UserStorage, cls: UserStorageClass, resources: Unstructured) -> Unstructured:
    """Build the init container that creates the directory of the user with the uid and gid of the browser, before the kubelet
    mounts it (docs/decisions/0017-directories-of-a-shared-claim.md). Only this container sees the whole claim. It needs less than
    the `resources` of the browser, but what a LimitRange or ResourceQuota demands of a container, those have.
    """
    return {
        "name": names.DIRECTORY_CONTAINER,
        "image": cls.directory_image or DIRECTORY_IMAGE,
        "command": ["/bin/sh", "-c", _DIRECTORY_SCRIPT, "directory", FILES_MOUNT, *claim_use(storage).directory],
        "resources": resources,
        "securityContext": _CONTAINER_SECURITY,
        "volumeMounts": [{"name": names.FILES_VOLUME, "mountPath": FILES_MOUNT}],
        "terminationMessagePolicy": _TERMINATION_MESSAGE,
    }


_TERMINATION_MESSAGE = "FallbackToLogsOnError"
"""Puts the end of a crashed container's log into the pod's status, where the conditions can quote it."""


_CONTAINER_SECURITY: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "privileged": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def _scheduling(scheduling: Scheduling) -> Unstructured:
    placed: Unstructured = {}
    if scheduling.node_selector:
        placed["nodeSelector"] = dict(scheduling.node_selector)
    if scheduling.tolerations:
        placed["tolerations"] = [dict(toleration) for toleration in scheduling.tolerations]
    return placed


def owner_reference(storage: UserStorage) -> Unstructured:
    """Return the controller ownerReference of the children."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": storage.meta.name,
        "uid": storage.meta.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _metadata(storage: UserStorage) -> Unstructured:
    return {
        "name": names.child_name(storage.slug),
        "namespace": storage.meta.namespace,
        "labels": {
            **selector(storage),
            names.LABEL_APP: names.APP,
            names.LABEL_USER: storage.slug,
            names.LABEL_MANAGED_BY: names.MANAGED_BY,
            names.LABEL_RECOMMENDED_MANAGED_BY: names.MANAGED_BY,
            names.LABEL_OWNER_UID: storage.meta.uid,
        },
        "annotations": {names.ANNOTATION_USER_ID: storage.user_id},
        "ownerReferences": [owner_reference(storage)],
    }


def _child(api_version: str, kind: str, metadata: Unstructured, spec: Unstructured) -> Unstructured:
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}
