"""Finds the API server and the credentials of this process, in a kubeconfig or in the service account of the pod."""

import os
from pathlib import Path

from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from userstorage_operator.api.errors import OperatorError
from userstorage_operator.runtime.credentials import Credentials

_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


async def login() -> Configuration:
    """Return the client configuration of the kubeconfig that KUBECONFIG names, else of the pod's service account, else of the
    user's default kubeconfig.

    Raises OperatorError if that configuration cannot be loaded.
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
    return configuration


def in_cluster() -> bool:
    """Whether `login` uses the pod's service account: this process runs in a pod, and KUBECONFIG is not set."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and not os.environ.get("KUBECONFIG")


def own_namespace() -> str | None:
    """Return the namespace of the pod in which this process runs; None if `login` does not use the pod's service account."""
    return _NAMESPACE.read_text().strip() if in_cluster() and _NAMESPACE.exists() else None


async def credentials() -> Credentials:
    """Log in, and return the address of the API server and the credentials for kopf. Raises OperatorError if the login fails."""
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
