"""Runs real Caddy and Envoy servers on the loopback address. Both programs are wheels of PyPI."""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from localcluster.errors import ClusterError
from testservers.server import Server


class Caddy(Server):
    """One Caddy. The addresses of its sites name its port."""

    name = "caddy"

    def start(self, caddyfile: str) -> Self:
        """Start Caddy with that Caddyfile, and return this object. Raises ClusterError if it does not start."""
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "Caddyfile"
        config.write_text(caddyfile)
        # Caddy keeps its data and the last configuration in the home directory.
        home = [f"XDG_DATA_HOME={self.directory}", f"XDG_CONFIG_HOME={self.directory}"]
        return self.run(["/usr/bin/env", *home, _program("caddy"), "run", "--adapter=caddyfile", f"--config={config}"])


class Envoy(Server):
    """One Envoy. The socket address of its listener names its port."""

    name = "envoy"

    def start(self, config: Mapping[str, Any]) -> Self:
        """Start Envoy with that bootstrap configuration, and return this object. Raises ClusterError if it does not start."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "bootstrap.json"
        path.write_text(json.dumps(config))
        # One worker, and no shared memory, which only a hot restart needs and which other Envoys of this machine use.
        options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
        return self.run([_program("envoy"), "--config-path", str(path), *options])


def _program(name: str) -> str:
    """Return the path of a program that is installed with this package. Raises ClusterError if it is not there."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ClusterError(f"{name} is not installed: run `make install`")
    return found
