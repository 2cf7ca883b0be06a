"""What the plugin knows of the Kubernetes API: resources, labels, annotations, and how to read a UserStorage."""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Raw = dict[str, Any]
"""An object as the API server sent it."""

GROUP = "userstorage.dev"
API_VERSION = f"{GROUP}/v1"
LABEL_MANAGED_BY = f"{GROUP}/managed-by"
CHILD_SELECTOR = f"{LABEL_MANAGED_BY}=userstorage-operator"
LABEL_SHAREABLE = f"{GROUP}/shareable"
SHARE_DIRECTORIES = "Directories"
LABEL_GATEWAY = f"{GROUP}/gateway"
ANNOTATION_USER_ID = f"{GROUP}/user-id"
ANNOTATION_PAUSED = f"{GROUP}/paused"
ANNOTATION_RESTARTED_AT = f"{GROUP}/restartedAt"
ANNOTATION_CLASS = f"{GROUP}/class"
ANNOTATION_BASE_PATH = f"{GROUP}/base-path"
ANNOTATION_DEFAULT_CLASS = f"{GROUP}/is-default-class"
FINALIZER = f"{GROUP}/pod-gone"
CONTAINER = "filebrowser"
DEFAULT_HEADER = "X-Forwarded-User"
FIELD_MANAGER = "kubectl-userstorage"
OPERATOR_NAMESPACE = "userstorage-system"
OPERATOR = "userstorage-operator"
OPERATOR_SELECTOR = f"app.kubernetes.io/name={OPERATOR}"
GATE = "userstorage-gate"


@dataclass(frozen=True)
class Resource:
    """A resource of the API server."""

    api_version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def base(self) -> str:
        """The path of the group and version."""
        return f"/{'apis' if self.group else 'api'}/{self.api_version}"

    @property
    def full_name(self) -> str:
        """The name as kubectl prints it before a slash, such as `userstorage.userstorage.dev`."""
        singular = self.kind.lower()
        return f"{singular}.{self.group}" if self.group else singular


USER_STORAGES = Resource(API_VERSION, "userstorages", "UserStorage")
CLASSES = Resource(API_VERSION, "userstorageclasses", "UserStorageClass", namespaced=False)
PODS = Resource("v1", "pods", "Pod")
CLAIMS = Resource("v1", "persistentvolumeclaims", "PersistentVolumeClaim")
NAMESPACES = Resource("v1", "namespaces", "Namespace", namespaced=False)
SERVICES = Resource("v1", "services", "Service")
EVENTS = Resource("v1", "events", "Event")
DEPLOYMENTS = Resource("apps/v1", "deployments", "Deployment")
LEASES = Resource("coordination.k8s.io/v1", "leases", "Lease")
CRDS = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
NETWORK_POLICIES = Resource("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy")
ADMISSION_POLICIES = Resource(
    "admissionregistration.k8s.io/v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", namespaced=False
)
ADMISSION_BINDINGS = Resource(
    "admissionregistration.k8s.io/v1",
    "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBinding",
    namespaced=False,
)

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SLUG_MAX, _PREFIX_MIN, _PREFIX_MAX = 50, 3, 39


def slug(user_id: str) -> str:
    """Return the DNS label that represents a user in the names of children, by the rule of docs/semantics.md#slug."""
    if len(user_id) <= _SLUG_MAX and "--" not in user_id and _DNS_LABEL.fullmatch(user_id):
        return user_id
    readable = re.sub(r"[^a-z0-9]+", "-", user_id.lower()).strip("-")[:_PREFIX_MAX].rstrip("-")
    if len(readable) < _PREFIX_MIN:
        readable = f"user-{readable}".rstrip("-")
    return f"{readable}---{hashlib.sha256(user_id.encode()).hexdigest()[:8]}"


def child_name(user_id: str) -> str:
    """Return the name of a user's pod, claim, Service and NetworkPolicy."""
    return f"user-storage-{slug(user_id)}"


def conditions(raw: Raw) -> dict[str, Raw]:
    """Return the conditions of an object by type."""
    return {entry["type"]: entry for entry in (raw.get("status") or {}).get("conditions") or ()}


def is_true(raw: Raw, condition: str) -> bool:
    """Whether a condition of an object is True."""
    return conditions(raw).get(condition, {}).get("status") == "True"


def user_id_of(raw: Raw) -> str:
    """Return the user id of a UserStorage."""
    return str((raw.get("spec") or {}).get("userID", ""))


def claim_of(raw: Raw) -> str:
    """Return the name of the claim that a UserStorage uses, or would use."""
    named = ((raw.get("spec") or {}).get("storage") or {}).get("claimName")
    return str(named or ((raw.get("status") or {}).get("storage") or {}).get("claimName") or child_name(user_id_of(raw)))


def is_up_to_date(raw: Raw) -> bool:
    """Whether the status describes the current spec."""
    return bool((raw.get("status") or {}).get("observedGeneration") == raw["metadata"].get("generation"))


def is_as_asked(raw: Raw) -> bool:
    """Whether a UserStorage is what its spec asks for: Ready, or suspended if `replicas` is 0."""
    if not is_up_to_date(raw) or "deletionTimestamp" in raw["metadata"]:
        return False
    return is_true(raw, "Suspended" if (raw.get("spec") or {}).get("replicas", 1) == 0 else "Ready")


def age(timestamp: str | None, now: datetime | None = None) -> str:
    """Return the time since an RFC 3339 timestamp in kubectl's form, such as `5m` or `3d`; `<unknown>` without one."""
    if not timestamp:
        return "<unknown>"
    seconds = int(((now or datetime.now(UTC)) - datetime.fromisoformat(timestamp)).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit}"
    return f"{max(seconds, 0)}s"


def _shown(char: str) -> str:
    return char if char.isprintable() else " " if char.isspace() else "?"


def printable(text: str) -> str:
    """Return `text` on one line, without control characters: tenants write parts of it, and it is printed on a terminal.

    White space becomes a space, any other one a question mark.
    """
    return text if text.isprintable() else "".join(map(_shown, text))
