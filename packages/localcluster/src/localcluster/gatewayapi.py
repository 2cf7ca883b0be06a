"""The CRD of HTTPRoute, from the Go module of the Gateway API, pinned by version and checksum in go/gatewayapi."""

import json
import subprocess
from pathlib import Path

from localcluster.builds import MODULES
from localcluster.errors import ClusterError

_MODULE = "sigs.k8s.io/gateway-api"
_DEFINITION = "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"


def http_route_definition() -> Path:
    """Return the path of the YAML file with the CRD of HTTPRoute. Raises ClusterError if Go cannot download the module."""
    command = ["go", "mod", "download", "-json", _MODULE]
    try:
        done = subprocess.run(command, cwd=MODULES / "gatewayapi", capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise ClusterError(f"Go could not fetch {_MODULE}: {getattr(error, 'stdout', None) or error}") from error
    return Path(json.loads(done.stdout)["Dir"]) / _DEFINITION
