"""Builds the pod of a UserStorage: its spec, the hashes of it, and the container that creates its directory."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from userstorage_operator.api import names, variables
from userstorage_operator.api.quantities import parse_quantity
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Scheduling, UserStorage
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.browsers.browser import FILES_MOUNT, Browser
from userstorage_operator.plan import child, class_bounds

DIRECTORY_IMAGE = "docker.io/library/busybox:1.37.0"
"""The image of the init container that creates the directory `spec.storage.subPath`, unless the class names one."""
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


def build_pod(storage: UserStorage, cls: UserStorageClass, browser: Browser) -> Unstructured:
    """Build the pod. The operator adds the annotations BUILT_FROM, of which `build` adds those about access: a hash of the pod
    spec, a hash of what the UserStorage decides about it, the class name (for the admission policy) and the base path (for the
    URL); and after a restart, which one the pod was created for.
    """
    metadata, added = child.metadata(storage), class_bounds.pod_metadata(storage, cls)
    metadata["labels"] = {**added.labels, **metadata["labels"]}
    metadata["annotations"] = {**added.annotations, **metadata["annotations"]}
    if storage.meta.restarted_at is not None:
        metadata["annotations"][names.ANNOTATION_RESTARTED_AT] = storage.meta.restarted_at
    spec = _pod_spec(storage, cls, browser)
    metadata["annotations"] |= {
        names.ANNOTATION_POD_HASH: digest([spec, *_IN_PLACE]),
        names.ANNOTATION_SPEC_HASH: digest([*_user_controlled(storage), _IN_PLACE]),
        names.ANNOTATION_CLASS: cls.name,
        names.ANNOTATION_BASE_PATH: variables.base_path(storage, cls),
    }
    return child.manifest("v1", "Pod", metadata, spec)


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


def formerly_hashed(storage: UserStorage, spec: Unstructured) -> tuple[list[Any], list[Any]]:
    """Return what builds before 0.1.0 put into both hashes, with podMetadata."""
    metadata = [dict(storage.pod_metadata.labels), dict(storage.pod_metadata.annotations)]
    return [spec, *metadata], [*_user_controlled(storage), metadata]


def digest(parts: list[Any]) -> str:
    """Return a hash of what a pod is built from, as an annotation has it."""
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
                "persistentVolumeClaim": {"claimName": child.claim_name(storage), "readOnly": storage.storage.read_only},
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
        "command": ["/bin/sh", "-c", _DIRECTORY_SCRIPT, "directory", FILES_MOUNT, *child.claim_use(storage).directory],
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
