"""An expired login, on the real API server."""

import pytest

from support.kubectl import Kubectl
from support.tls import until_connections_closed
from userstorage_operator.api.errors import Unavailable
from userstorage_operator.api.resources import Kind
from userstorage_operator.kube.client import KubeClient
from userstorage_operator.kube.login import login
from userstorage_operator.runtime.metrics import Metrics


async def test_expired_credential_is_renewed(api: Kubectl, kubeconfig: None, namespace: str) -> None:
    stale = await login()
    stale.cert_file = stale.key_file = None
    stale.api_key["BearerToken"] = "Bearer expired"
    client = KubeClient(stale, Metrics("test"))
    try:
        with pytest.raises(Unavailable) as refused:
            await client.list_all(Kind.POD.resource, namespace)
        assert refused.value.status == 401
        assert await client.list_all(Kind.POD.resource, namespace)
    finally:
        await client.close()
        await until_connections_closed()
