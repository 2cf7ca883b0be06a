"""The typed UserStorageClass, and the choice of the class of a UserStorage."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from userstorage_operator.api import names
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.unstructured import Fields, Unstructured
from userstorage_operator.api.userstorage import PodMetadata, Scheduling


class Flavor(StrEnum):
    """The program that serves the files."""

    FILE_BROWSER = "FileBrowser"
    QUANTUM = "Quantum"
    COPYPARTY = "Copyparty"
    DUFS = "Dufs"
    CUSTOM = "Custom"


class AuthMode(StrEnum):
    """How the file browser authenticates a request."""

    PROXY_HEADER = "ProxyHeader"
    NONE = "None"


class Expose(StrEnum):
    """How the Service is reached from outside the cluster; with ClusterIP not at all."""

    CLUSTER_IP = "ClusterIP"
    INGRESS = "Ingress"
    GATEWAY = "Gateway"


class PolicyMode(StrEnum):
    """Whether the operator manages a NetworkPolicy for each user."""

    MANAGED = "Managed"
    NONE = "None"


class OnClaimLoss(StrEnum):
    """What happens if a user's claim no longer exists."""

    RECREATE = "Recreate"
    WAIT = "Wait"


_ID_MAX = 2**31 - 1
_IDS = re.compile(r"[1-9][0-9]{0,9}(:[1-9][0-9]{0,9}){2}")
_MAX_UNAVAILABLE = re.compile(r"[1-9][0-9]{0,5}|([1-9][0-9]?|100)%")


@dataclass(frozen=True, slots=True)
class Permissions:
    """What the user may do in the browser."""

    create: bool
    modify: bool
    rename: bool
    delete: bool
    download: bool
    share: bool

    @classmethod
    def parse(cls, fields: Fields) -> "Permissions":
        """Parse `spec.browser.permissions`. By default everything but sharing is allowed.

        Raises InvalidSpec if a field is not a boolean.
        """
        return cls(**{name: fields.get(name, bool, name != "share") for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class BrowserSpec:
    """`spec.browser`. If `image` is None, the flavor's own image is used."""

    flavor: Flavor
    image: str | None
    port: int
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: tuple[Mapping[str, str], ...]
    health_path: str | None
    base_path: str
    permissions: Permissions
    resources: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ExposureSpec:
    """The part of `spec.network` about access from outside the cluster."""

    expose: Expose
    host_template: str | None
    ingress_class_name: str | None
    gateway: Mapping[str, str] | None
    """`name`, and if set, `namespace` and `sectionName` (a listener) of the Gateway: as a parentRef has them."""
    tls_secret_name: str | None
    annotations: Mapping[str, str]

    @classmethod
    def parse(cls, network: Fields) -> "ExposureSpec":
        """Parse the part of `spec.network` about exposure. Raises InvalidSpec if a field has a wrong type or value."""
        return cls(
            expose=network.choice("expose", Expose, Expose.CLUSTER_IP),
            host_template=network.optional("hostTemplate", str),
            ingress_class_name=network.optional("ingressClassName", str),
            gateway=_gateway(network.section("gateway")),
            tls_secret_name=network.optional("tlsSecretName", str),
            annotations=network.get("annotations", dict, {}),
        )


@dataclass(frozen=True, slots=True)
class Ids:
    """`spec.security`: the numbers of user and group as which the container runs, and of the group that owns the files."""

    user: int
    group: int
    fs_group: int

    def __str__(self) -> str:
        return f"{self.user}:{self.group}:{self.fs_group}"

    @classmethod
    def read(cls, text: str) -> "Ids | None":
        """Return the ids in the text form of an Ids; None if `text` is none, or names root."""
        if _IDS.fullmatch(text) is None:
            return None
        numbers = [int(part) for part in text.split(":")]
        return cls(*numbers) if max(numbers) <= _ID_MAX else None


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a UserStorage of the class may set: `podMetadata.allowed` and `scheduling.allowed`. By default nothing."""

    pod_metadata: tuple[str, ...]
    """Keys of labels and annotations; an entry that ends with `/` is the prefix of keys."""
    node_selector: tuple[str, ...]
    """Keys of node labels."""
    tolerations: tuple[str, ...]
    """Keys of taints."""

    @classmethod
    def parse(cls, spec: Fields) -> "Allowed":
        """Parse both sections of a class. Raises InvalidSpec if a field has a wrong type."""
        scheduling = spec.section("scheduling").section("allowed")
        return cls(
            pod_metadata=spec.section("podMetadata").keys("allowed"),
            node_selector=scheduling.keys("nodeSelector"),
            tolerations=scheduling.keys("tolerations"),
        )


@dataclass(frozen=True, slots=True)
class UserStorageClass:
    """A parsed UserStorageClass: a field that the object lacks has its default."""

    name: str
    """Empty for the built-in class."""
    generation: int
    browser: BrowserSpec
    storage_class_name: str | None
    access_modes: tuple[str, ...]
    default_size: str
    max_size: str | None
    on_claim_loss: OnClaimLoss
    directory_image: str | None
    auth_mode: AuthMode
    auth_header: str
    exposure: ExposureSpec
    policy: PolicyMode
    allowed_from: tuple[Mapping[str, Any], ...]
    ids: Ids
    pod_metadata: PodMetadata
    scheduling: Scheduling
    allowed: Allowed
    max_per_namespace: int | None
    max_unavailable: str
    """`spec.rollout.maxUnavailable`: a number of pods such as "5", or a percentage of the running ones such as "10%"."""
    rollout_paused: bool

    @classmethod
    def parse(cls, raw: Unstructured) -> "UserStorageClass":
        """Parse a raw class. Raises InvalidSpec, naming the field, if a field of its spec has a wrong type or value."""
        spec = Fields(raw.get("spec") or {}, "class spec")
        browser, storage, auth = spec.section("browser"), spec.section("storage"), spec.section("auth")
        network, security = spec.section("network"), spec.section("security")
        return cls(
            name=raw["metadata"]["name"],
            generation=raw["metadata"].get("generation", 0),
            browser=BrowserSpec(
                flavor=browser.choice("flavor", Flavor, Flavor.COPYPARTY),
                image=browser.optional("image", str),
                port=browser.get("port", int, 8080),
                command=tuple(browser.get("command", list, [])),
                args=tuple(browser.get("args", list, [])),
                env=tuple(browser.get("env", list, [])),
                health_path=browser.optional("healthPath", str),
                base_path=browser.get("basePath", str, "/"),
                permissions=Permissions.parse(browser.section("permissions")),
                resources=browser.get("resources", dict, {}),
            ),
            storage_class_name=storage.optional("storageClassName", str),
            access_modes=tuple(storage.get("accessModes", list, ["ReadWriteOnce"])),
            default_size=storage.quantity("defaultSize") or "10Gi",
            max_size=storage.quantity("maxSize"),
            on_claim_loss=storage.choice("onClaimLoss", OnClaimLoss, OnClaimLoss.RECREATE),
            directory_image=storage.optional("directoryImage", str),
            auth_mode=auth.choice("mode", AuthMode, AuthMode.PROXY_HEADER),
            auth_header=_header_name(auth),
            exposure=ExposureSpec.parse(network),
            policy=network.choice("policy", PolicyMode, PolicyMode.MANAGED),
            allowed_from=tuple(network.get("allowedFrom", list, [])),
            ids=Ids(*(security.get(field, int, 1000) for field in ("runAsUser", "runAsGroup", "fsGroup"))),
            pod_metadata=PodMetadata.parse(spec.section("podMetadata")),
            scheduling=Scheduling.parse(spec.section("scheduling")),
            allowed=Allowed.parse(spec),
            max_per_namespace=spec.section("limits").optional("maxPerNamespace", int),
            max_unavailable=_max_unavailable(spec.section("rollout")),
            rollout_paused=spec.section("rollout").get("paused", bool, False),
        )


_RESERVED_HEADERS = frozenset(
    {
        *("accept", "authorization", "connection", "content-encoding", "content-length", "content-type", "cookie", "expect"),
        *("host", "keep-alive", "origin", "proxy-authenticate", "proxy-authorization", "proxy-connection", "range", "referer"),
        *("set-cookie", "te", "trailer", "transfer-encoding", "upgrade", "user-agent", "via", "www-authenticate"),
    }
)
"""Headers of HTTP itself and of logins, in lower case: proxies act on them, or every client sends them."""


def _header_name(auth: Fields) -> str:
    header = auth.get("headerName", str, "X-Forwarded-User")
    if header.lower() in _RESERVED_HEADERS:
        raise InvalidSpec(f"{auth.path}.headerName: {header!r} is a header of HTTP itself or of logins")
    return header


def _gateway(gateway: Fields) -> Mapping[str, str] | None:
    """Return the fields of `spec.network.gateway` that are set; None without a name."""
    fields = {field: gateway.optional(field, str) for field in ("name", "namespace", "sectionName")}
    return {field: value for field, value in fields.items() if value is not None} if fields["name"] is not None else None


def _max_unavailable(rollout: Fields) -> str:
    """Return `maxUnavailable` as text: the schema admits 5, "5" and "5%"."""
    text = str(rollout.raw.get("maxUnavailable", "10%"))
    if _MAX_UNAVAILABLE.fullmatch(text) is None:
        raise InvalidSpec(f"{rollout.path}.maxUnavailable: {text!r} is neither a number nor a percentage up to 100%")
    return text


BUILT_IN = UserStorageClass.parse({"metadata": {"name": ""}})
"""The built-in class, for UserStorages without a className if no class is marked as default. Every field has its default."""


def default_classes(classes: Iterable[Unstructured]) -> list[Unstructured]:
    """Return the raw classes that are marked as default, the oldest first.

    Only the oldest is in effect, so marking another class by mistake affects no user.
    """
    marked = (raw for raw in classes if _is_default(raw))
    return sorted(marked, key=lambda raw: (raw["metadata"]["creationTimestamp"], raw["metadata"]["uid"]))


def choose_class(class_name: str | None, classes: Iterable[Unstructured]) -> Unstructured | None:
    """Return the raw class named `class_name`; if `class_name` is None, return the raw default class.

    Return None if that class does not exist. With a `class_name` this is an error; otherwise the built-in class applies.
    """
    if class_name is not None:
        return next((raw for raw in classes if raw["metadata"]["name"] == class_name), None)
    return next(iter(default_classes(classes)), None)


def class_in_effect(class_name: str | None, classes: Iterable[Unstructured]) -> UserStorageClass | None:
    """Return the class of a UserStorage with this `spec.className`, which may be the built-in one; None if it does not exist.

    Raises InvalidSpec if the class has a wrong type or value.
    """
    chosen = choose_class(class_name, classes)
    if chosen is not None:
        return UserStorageClass.parse(chosen)
    return BUILT_IN if class_name is None else None


def _is_default(raw: Unstructured) -> bool:
    return (raw["metadata"].get("annotations") or {}).get(names.ANNOTATION_DEFAULT_CLASS) == "true"
