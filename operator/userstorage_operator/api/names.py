"""Names, labels and annotations: the only definition of every string that other programs match on."""

import hashlib
import re
from functools import lru_cache

GROUP = "userstorage.dev"
VERSION = "v1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "UserStorage"
CLASS_KIND = "UserStorageClass"

FINALIZER = f"{GROUP}/pod-gone"
ORPHAN_FINALIZER = "orphan"
"""Kubernetes sets it in a deletion with propagation policy Orphan, until the garbage collector has removed the owner from all children."""
FOREGROUND_FINALIZER = "foregroundDeletion"
"""Set by a foreground deletion, which is how the operator deletes pods. The garbage collector removes it."""
FIELD_MANAGER = "userstorage-operator"

LABEL_APP = "app"
LABEL_USER = "userId"
"""With `app`, for people. Policies of a platform may change both, so nothing selects by them."""
LABEL_SLUG = f"{GROUP}/slug"
"""By which the Service and the NetworkPolicy select the pod."""
LABEL_MANAGED_BY = f"{GROUP}/managed-by"
LABEL_RECOMMENDED_MANAGED_BY = "app.kubernetes.io/managed-by"
"""Kubernetes' recommended label. Policies of a platform set it too, so nothing depends on its value."""
LABEL_OWNER_UID = f"{GROUP}/uid"
LABEL_SHAREABLE = f"{GROUP}/shareable"
SHARE_ONE = "true"
"""Value of the label on a claim that one UserStorage at a time may use."""
SHARE_DIRECTORIES = "Directories"
"""Value of the label on a claim that many UserStorages may use, each with a directory of its own."""
LABEL_GATEWAY = f"{GROUP}/gateway"

ANNOTATION_USER_ID = f"{GROUP}/user-id"
ANNOTATION_POD_HASH = f"{GROUP}/pod-hash"
ANNOTATION_SPEC_HASH = f"{GROUP}/spec-hash"
ANNOTATION_SOURCES_HASH = f"{GROUP}/sources-hash"
ANNOTATION_EXPOSURE_HASH = f"{GROUP}/exposure-hash"
ANNOTATION_CLASS = f"{GROUP}/class"
ANNOTATION_BASE_PATH = f"{GROUP}/base-path"
ANNOTATION_REQUESTED_SIZE = f"{GROUP}/requested-size"
ANNOTATION_RUN_AS = f"{GROUP}/run-as"
ANNOTATION_DEFAULT_CLASS = f"{GROUP}/is-default-class"
ANNOTATION_PAUSED = f"{GROUP}/paused"
ANNOTATION_RESTARTED_AT = f"{GROUP}/restartedAt"
"""On a UserStorage, the last restart that was asked for; on a pod, the value with which it was created. The name is that of
`kubectl rollout restart`."""

CONTROL_PLANE_KEYS = frozenset({"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"})
"""Labels and taints of control-plane nodes."""

SERVICE_PORT = 80

APP = "filebrowser"
CONTAINER = "filebrowser"
FILES_VOLUME = "files"
INIT_CONTAINER = "configure"
DIRECTORY_CONTAINER = "directory"
MANAGED_BY = "userstorage-operator"
CHILD_SELECTOR = f"{LABEL_MANAGED_BY}={MANAGED_BY}"
"""The children that the watches see."""
UNLABELLED_SELECTOR = f"{LABEL_APP}={APP},{LABEL_USER},{LABEL_MANAGED_BY}!={MANAGED_BY}"
"""The children that have lost their label, or were created by a version that did not set it."""

_CHILD_PREFIX = "user-storage-"
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SLUG_MAX = 50
_PREFIX_MIN, _PREFIX_MAX = 3, 39
_USER_ID = re.compile(r"(?=.{1,255}\Z)[!-~]([ -~]*[!-~])?")
USER_ID_RULE = "1 to 255 printable ASCII characters, as an HTTP header carries them, without spaces at its ends"


def is_user_id(text: str) -> bool:
    """Whether `text` is a user id that a UserStorage can have: USER_ID_RULE."""
    return _USER_ID.fullmatch(text) is not None


@lru_cache(maxsize=1024)  # asked some twenty times in a reconcile
def slug(user_id: str) -> str:
    """Return the DNS label of at most 50 characters that represents a user in child names and in the label `userId`.

    A user id that is such a label already, and has no `--`, is its own slug. Any other user id becomes a readable prefix,
    `---` and 8 hex digits of its SHA-256. The `---` keeps the two forms apart: no user can choose an id whose slug equals
    the hashed slug of another user (docs/semantics.md#slug). A prefix of less than 3 characters gets `user` in front, so that
    the third and fourth character of a label are never both hyphens, which is reserved (RFC 5891, 4.2.3.1).
    """
    if len(user_id) <= _SLUG_MAX and "--" not in user_id and _DNS_LABEL.fullmatch(user_id):
        return user_id
    readable = re.sub(r"[^a-z0-9]+", "-", user_id.lower()).strip("-")[:_PREFIX_MAX].rstrip("-")
    if len(readable) < _PREFIX_MIN:
        readable = f"user-{readable}".rstrip("-")
    return f"{readable}---{hashlib.sha256(user_id.encode()).hexdigest()[:8]}"


def child_name(slug: str) -> str:
    """Return the name that a user's pod, claim, Service, NetworkPolicy, Ingress and HTTPRoute all have."""
    return _CHILD_PREFIX + slug


def slug_of_child(name: str) -> str | None:
    """Return the slug in `name`, such as `alice` in `user-storage-alice`; None if `name` has another form."""
    return name.removeprefix(_CHILD_PREFIX) if name.startswith(_CHILD_PREFIX) else None
