"""Where the API server is and who we are."""

import os
from pathlib import Path

from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from userstorage_operator.api.errors import OperatorError
from userstorage_operator.runtime.credentials import Credentials

_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


async def login() -> Configuration:
    """The kubeconfig that KUBECONFIG names, else the pod's service account, else the user's default kubeconfig.

    Raises OperatorError, with what was tried, where none of them works.
    """
    configuration = Configuration()
    try:
        if kubeconfig := os.environ.get("KUBECONFIG"):  # read now: the library reads it when it is imported
            await load_kube_config(kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
        elif in_cluster():
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        raise OperatorError(f"no login: {error}; set KUBECONFIG, or run in a cluster with a service account") from error
    configuration.client_session_kwargs = {"trust_env": False}  # else aiohttp reads .netrc on every request
    configuration.connection_pool_maxsize = 0  # no limit: every watch holds a connection for good
    configuration.retries = None  # a failed call goes back to the queue, which knows how long to wait
    return configuration


def in_cluster() -> bool:
    """Whether the login is that of the pod in which we run."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and not os.environ.get("KUBECONFIG")


def own_namespace() -> str | None:
    """The namespace of the pod in which we run; None outside of one."""
    return _NAMESPACE.read_text().strip() if in_cluster() and _NAMESPACE.exists() else None


async def credentials() -> Credentials:
    """A fresh login for a client of another make. Raises OperatorError."""
    configuration = await login()
    token = await configuration.get_api_key_with_prefix("BearerToken", "authorization")
    return Credentials(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        token=token.split(" ", 1)[-1] if token else None,
        insecure=not configuration.verify_ssl,
    )
