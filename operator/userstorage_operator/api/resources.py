"""The Kubernetes resources that the operator knows, and where the API server has them."""

from dataclasses import dataclass
from enum import Enum

from userstorage_operator.api import names
from userstorage_operator.api.unstructured import Unstructured


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of the API server."""

    group: str
    """Empty for the core group."""
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    optional: bool = False
    """Served only where somebody has installed its definition."""
    unread: frozenset[str] = frozenset()
    """Fields of the metadata that nobody here looks at."""

    @property
    def api_version(self) -> str:
        """As in manifests."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of the collection (in all namespaces, or one), of an object, or of its subresource."""
        parts = ["/apis" if self.group else "/api", self.api_version]
        if namespace is not None and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part is not None]
        return "/".join(parts)

    def transform(self, obj: Unstructured) -> Unstructured:
        """The object without what is `unread`."""
        if self.unread.isdisjoint(obj["metadata"]):
            return obj
        return obj | {"metadata": {field: value for field, value in obj["metadata"].items() if field not in self.unread}}

    def within(self, namespace: str | None) -> str:
        """For people: `pods in team-b`."""
        return self.plural if namespace is None else f"{self.plural} in {namespace}"


# What a tenant may fill, up to 256 KiB an object, and the memory of the operator with it.
_TENANTS = frozenset({"annotations", "managedFields"})

USER_STORAGES = Resource(names.GROUP, names.VERSION, "userstorages", names.KIND, unread=_TENANTS)
USER_STORAGE_CLASSES = Resource(names.GROUP, names.VERSION, "userstorageclasses", names.CLASS_KIND, namespaced=False)
STORAGE_CLASSES = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
CORE_EVENTS = Resource("", "v1", "events", "Event")
"""The same events in the older form, which alone can be listed by the object they are about."""
TOKEN_REVIEWS = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False)


class Kind(Enum):
    """The kinds of children; the name in lower case is the field of `Children`."""

    NETWORK_POLICY = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
    PVC = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
    SERVICE = Resource("", "v1", "services", "Service")
    POD = Resource("", "v1", "pods", "Pod")
    INGRESS = Resource("networking.k8s.io", "v1", "ingresses", "Ingress")
    HTTP_ROUTE = Resource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute", optional=True)

    @property
    def resource(self) -> Resource:
        """Where the API server has them."""
        return self.value

    @property
    def field(self) -> str:
        """Name of the field of `Children`."""
        return self.name.lower()


EXPOSURE = (Kind.INGRESS, Kind.HTTP_ROUTE)
"""The kinds that lead in from outside the cluster."""
