"""The Kubernetes resources that the operator uses, and their URL paths."""

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from userstorage_operator.api import names


@dataclass(frozen=True, slots=True)
class Resource:
    """A Kubernetes resource, as the API server addresses it: group, version, plural and kind."""

    group: str
    """Empty for the core group."""
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    optional: bool = False
    """Whether a cluster may lack the resource, because its CRD is installed separately."""
    graceful: bool = False
    """Whether each object has a deletionTimestamp before it is gone: its kind or a finalizer sees to that."""

    @property
    def api_version(self) -> str:
        """`apiVersion` as in a manifest."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the URL path on the API server: of the collection, of the object `name`, or of its `subresource`.

        If `namespace` is None, the collection is that of all namespaces.
        """
        parts = ["/apis" if self.group else "/api", self.api_version]
        if namespace is not None and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part is not None]
        return "/".join(parts)

    def within(self, namespace: str | None) -> str:
        """Return plural and namespace for a message: `pods in team-b`, or `pods` if `namespace` is None."""
        return self.plural if namespace is None else f"{self.plural} in {namespace}"


USER_STORAGES = Resource(names.GROUP, names.VERSION, "userstorages", names.KIND)
USER_STORAGE_CLASSES = Resource(names.GROUP, names.VERSION, "userstorageclasses", names.CLASS_KIND, namespaced=False)
STORAGE_CLASSES = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
CORE_EVENTS = Resource("", "v1", "events", "Event")
"""The same Events in the core API group. Only this group can list the Events about one object (`involvedObject`)."""
TOKEN_REVIEWS = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False)


class Kind(Enum):
    """The kinds of children. A member's name in lower case is the field of `Children` that has the child of this kind."""

    NETWORK_POLICY = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", graceful=True)
    PVC = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", graceful=True)
    SERVICE = Resource("", "v1", "services", "Service")
    POD = Resource("", "v1", "pods", "Pod", graceful=True)
    INGRESS = Resource("networking.k8s.io", "v1", "ingresses", "Ingress")
    HTTP_ROUTE = Resource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute", optional=True)

    @cached_property  # like `field`, read some sixty times in a reconcile
    def resource(self) -> Resource:
        """The Kubernetes resource of this kind."""
        return self.value

    @cached_property
    def field(self) -> str:
        """The name of the field of `Children` that has the child of this kind."""
        return self.name.lower()


EXPOSURE = (Kind.INGRESS, Kind.HTTP_ROUTE)
"""The kinds that expose the file browser outside the cluster."""
