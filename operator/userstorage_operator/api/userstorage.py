"""The typed UserStorage. The CRD in deploy/crds is the source of its fields and defaults."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from userstorage_operator.api import names
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.quantities import parse_duration
from userstorage_operator.api.subpath import parse_sub_path
from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Fields, Unstructured

POD_METADATA_MAX = 4096
"""Bytes that the labels and annotations of `podMetadata` may have together, keys and values."""


class ReclaimPolicy(StrEnum):
    """What happens to the claim when its UserStorage is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class UpdateStrategy(StrEnum):
    """When the pod is replaced after a change that needs a new pod."""

    IMMEDIATE = "Immediate"
    WHEN_SUSPENDED = "WhenSuspended"


@dataclass(frozen=True, slots=True)
class Key:
    """Namespace and name of a UserStorage: the key of the work queue."""

    namespace: str
    name: str

    @classmethod
    def of(cls, raw: Unstructured) -> "Key":
        """Return namespace and name of a raw UserStorage."""
        return cls(raw["metadata"]["namespace"], raw["metadata"]["name"])

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def named_claim(raw: Unstructured) -> str | None:
    """Return `spec.storage.claimName` of a raw UserStorage; None if the field is not set."""
    name: str | None = (raw["spec"].get("storage") or {}).get("claimName")
    return name


def _sub_path(storage: Fields) -> str | None:
    if storage.raw.get("subPath") is None:
        return None
    if storage.raw.get("claimName") is None:
        raise InvalidSpec(f"{storage.path}.subPath is only allowed with {storage.path}.claimName")
    return storage.parsed("subPath", parse_sub_path, "")


@dataclass(frozen=True, slots=True)
class StorageSpec:
    """`spec.storage`."""

    size: str | None
    claim_name: str | None
    sub_path: str | None
    read_only: bool
    reclaim_policy: ReclaimPolicy
    accepted_claim_loss: str | None
    """UID of a lost claim."""


@dataclass(frozen=True, slots=True)
class LifecycleSpec:
    """`spec.lifecycle`; `termination_grace_period` is in seconds."""

    start_timeout: timedelta
    deletion_timeout: timedelta
    termination_grace_period: int
    update_strategy: UpdateStrategy

    @classmethod
    def parse(cls, fields: Fields) -> "LifecycleSpec":
        """Parse `spec.lifecycle`. Raises InvalidSpec if a field has a wrong type or value."""
        return cls(
            start_timeout=fields.parsed("startTimeout", parse_duration, "5m"),
            deletion_timeout=fields.parsed("deletionTimeout", parse_duration, "10m"),
            termination_grace_period=fields.get("terminationGracePeriodSeconds", int, 30),
            update_strategy=fields.choice("updateStrategy", UpdateStrategy, UpdateStrategy.IMMEDIATE),
        )


@dataclass(frozen=True, slots=True)
class Scheduling:
    """`spec.scheduling` of a UserStorage or of a class: where its pods may run."""

    node_selector: Mapping[str, str]
    tolerations: tuple[Mapping[str, Any], ...]

    @classmethod
    def parse(cls, fields: Fields) -> "Scheduling":
        """Parse the section `scheduling`. Raises InvalidSpec if a field has a wrong type or value."""
        tolerations = fields.get("tolerations", list, [])
        if not all(isinstance(toleration, dict) for toleration in tolerations):
            raise InvalidSpec(f"{fields.path}.tolerations must hold tolerations only")
        return cls(node_selector=fields.texts("nodeSelector"), tolerations=tuple(tolerations))


@dataclass(frozen=True, slots=True)
class PodMetadata:
    """Labels and annotations for the pod: `spec.podMetadata` of a UserStorage or of a class."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @classmethod
    def parse(cls, fields: Fields) -> "PodMetadata":
        """Parse the section `podMetadata`. Raises InvalidSpec if a value is no text, or if they are too large together."""
        labels, annotations = fields.texts("labels"), fields.texts("annotations")
        size = sum(len(f"{key}{value}".encode()) for part in (labels, annotations) for key, value in part.items())
        if size > POD_METADATA_MAX:
            raise InvalidSpec(f"{fields.path}: labels and annotations have {size} bytes together; at most {POD_METADATA_MAX}")
        return cls(labels, annotations)


@dataclass(frozen=True, slots=True)
class Metadata:
    """The metadata of a UserStorage. Parsing never fails, because the API server validates metadata."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    deleted_at: datetime | None
    finalizers: tuple[str, ...]
    paused: str | None
    """The annotation `userstorage.dev/paused`."""
    restarted_at: str | None
    """The annotation `userstorage.dev/restartedAt`, the first 64 characters of it."""

    @classmethod
    def parse(cls, raw: Unstructured) -> "Metadata":
        """Parse the metadata of a raw UserStorage."""
        meta = raw["metadata"]
        deleted_at, annotations = meta.get("deletionTimestamp"), meta.get("annotations") or {}
        return cls(
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta["uid"],
            generation=meta.get("generation", 0),
            resource_version=meta["resourceVersion"],
            deleted_at=parse_time(deleted_at) if deleted_at else None,
            finalizers=tuple(meta.get("finalizers", ())),
            paused=annotations.get(names.ANNOTATION_PAUSED),
            restarted_at=annotations.get(names.ANNOTATION_RESTARTED_AT),
        )

    @property
    def key(self) -> Key:
        """Namespace and name of the UserStorage: its key in the work queue."""
        return Key(self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class UserStorage:
    """A parsed UserStorage: a field that the object lacks has its default."""

    meta: Metadata
    user_id: str
    class_name: str | None
    replicas: int
    storage: StorageSpec
    lifecycle: LifecycleSpec
    scheduling: Scheduling | None
    pod_metadata: PodMetadata

    @classmethod
    def parse(cls, raw: Unstructured) -> "UserStorage":
        """Parse a raw UserStorage. Raises InvalidSpec, naming the field, if a field of its spec has a wrong type or value."""
        spec = Fields(raw.get("spec") or {}, "spec")
        storage = spec.section("storage")
        return cls(
            meta=Metadata.parse(raw),
            user_id=spec.get("userID", str, ""),
            class_name=spec.optional("className", str),
            replicas=spec.get("replicas", int, 1),
            storage=StorageSpec(
                size=storage.quantity("size"),
                claim_name=storage.optional("claimName", str),
                sub_path=_sub_path(storage),
                read_only=storage.get("readOnly", bool, False),
                reclaim_policy=storage.choice("reclaimPolicy", ReclaimPolicy, ReclaimPolicy.RETAIN),
                accepted_claim_loss=storage.optional("acceptedClaimLoss", str),
            ),
            lifecycle=LifecycleSpec.parse(spec.section("lifecycle")),
            scheduling=Scheduling.parse(spec.section("scheduling")) if "scheduling" in spec.raw else None,
            pod_metadata=PodMetadata.parse(spec.section("podMetadata")),
        )

    @property
    def slug(self) -> str:
        """The part of child names that represents the user; see `names.slug`."""
        return names.slug(self.user_id)

    @property
    def own_size(self) -> str | None:
        """`spec.storage.size`; None if it is not set, or has no effect because the spec names a claim."""
        return self.storage.size if self.storage.claim_name is None else None

    @property
    def is_deleting(self) -> bool:
        """Whether the UserStorage has a deletionTimestamp."""
        return self.meta.deleted_at is not None

    @property
    def paused(self) -> bool:
        """Whether the annotation `userstorage.dev/paused` freezes the UserStorage. Only "true" does, and no deletion is paused."""
        return self.meta.paused == "true" and not self.is_deleting

    @property
    def suspended(self) -> bool:
        """Whether `spec.replicas` is 0, so that there should be no pod."""
        return self.replicas == 0
