"""The definition of HTTPRoutes, from the Gateway API's own Go module: its version and checksum are pinned as the others."""

import json
import subprocess
from pathlib import Path

from localcluster.builds import MODULES
from localcluster.errors import ClusterError

_MODULE = "sigs.k8s.io/gateway-api"
_DEFINITION = "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"


def http_route_definition() -> Path:
    """The file with the CustomResourceDefinition. ClusterError where it cannot be had."""
    command = ["go", "mod", "download", "-json", _MODULE]
    try:
        done = subprocess.run(command, cwd=MODULES / "gatewayapi", capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise ClusterError(f"Go could not fetch {_MODULE}: {getattr(error, 'stdout', None) or error}") from error
    return Path(json.loads(done.stdout)["Dir"]) / _DEFINITION
