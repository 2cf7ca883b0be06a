"""An image registry on the node of a cluster: Docker's registry from the Debian package.

It is one of the cluster's programs and stops with the cluster. It has no TLS, and the node's containerd is configured for that.
"""

import json
import urllib.error
import urllib.request
from pathlib import Path

from localcluster import cache, nodeconfig, packages, state
from localcluster.errors import ClusterError
from localcluster.layout import Layout
from localcluster.netns import Namespace
from localcluster.progress import Report, silent
from localcluster.starter import Starter

PORT = 5000
_PACKAGE = "docker-registry"


def start(directory: Path, report: Report = silent) -> str:
    """Start the image registry of the cluster in `directory` unless it runs. Return its address as host:port.

    The address is the first part of image names, and is the same on the node and on this machine. Raises ClusterError if
    `directory` has no cluster of the profile `node`, or if the registry does not start.
    """
    layout = Layout(directory.absolute())
    with cache.locked(layout.lock):
        found = state.read(layout.state)
        if found is None or "namespace" not in found.processes:
            raise ClusterError(f"{directory} has no cluster of profile node to put a registry on")
        address = found.server.removeprefix("https://").partition(":")[0]
        host = f"{address}:{PORT}"
        if "registry" not in found.processes:
            _write(layout, host)
            program = cache.entry("debian-registry", [_PACKAGE], lambda unpacked: packages.unpack(_PACKAGE, unpacked))
            command = [str(program / "usr/bin/docker-registry"), "serve", str(layout.run / "registry.json")]
            starter = Starter(layout, found, report)
            starter.run("registry", command, Namespace(found.processes["namespace"].pid).launch)
            starter.wait(f"registry at {host}", lambda: _answers(host))
    return host


def _write(layout: Layout, host: str) -> None:
    settings = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(layout.run / "registry")}},
        "http": {"addr": host},
    }
    (layout.run / "registry.json").write_text(json.dumps(settings))
    hosts = layout.run / nodeconfig.REGISTRIES / host
    hosts.mkdir(parents=True)
    (hosts / "hosts.toml").write_text(f'[host."http://{host}"]\ncapabilities = ["pull", "resolve"]\n')


def _answers(host: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{host}/v2/", timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False
