"""Downloads the CRDs of the Gateway API, which are in its Go module.

The files in go/gatewayapi pin the version and the checksum of that module.
"""

import json
import subprocess
from pathlib import Path

from localcluster.builds import MODULES
from localcluster.errors import ClusterError

_MODULE = "sigs.k8s.io/gateway-api"
_DEFINITIONS = "config/crd/standard"


def definition(plural: str) -> Path:
    """Return the path of the YAML file with the CRD of a resource, such as `httproutes`.

    Raises ClusterError if Go cannot download the module.
    """
    command = ["go", "mod", "download", "-json", _MODULE]
    try:
        done = subprocess.run(command, cwd=MODULES / "gatewayapi", capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise ClusterError(f"Go could not fetch {_MODULE}: {getattr(error, 'stdout', None) or error}") from error
    return Path(json.loads(done.stdout)["Dir"]) / _DEFINITIONS / f"gateway.networking.k8s.io_{plural}.yaml"
