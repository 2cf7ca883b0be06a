"""Whether the cluster can expose a UserStorage through a Gateway."""

from userstorage_operator.api.userstorageclass import Expose, UserStorageClass
from userstorage_operator.observed.pod_status import Finding


def gateway_api_missing(cls: UserStorageClass, *, served: bool) -> Finding | None:
    """Return GatewayAPIMissing if the class asks for an HTTPRoute, but the API server does not serve the kind; else None."""
    if cls.exposure.expose is not Expose.GATEWAY or served:
        return None
    message = "the cluster does not serve HTTPRoutes (gateway.networking.k8s.io/v1): the Gateway API is not installed"
    return Finding("GatewayAPIMissing", message)
