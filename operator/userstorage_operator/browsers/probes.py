"""Probes of a file browser: frequent during the start, infrequent afterwards."""

import shlex
from collections.abc import Mapping
from typing import Any

from userstorage_operator.browsers.browser import FILES_MOUNT

Probe = dict[str, Any]

_PROXY_VARIABLES = tuple(
    spelling for scheme in ("http", "https", "all") for spelling in (f"{scheme}_proxy", f"{scheme}_proxy".upper())
)
"""Variables of a class or a webhook that would send the request of a probe to a proxy: not every wget knows `no_proxy`."""


def http(path: str, port: int) -> Probe:
    """Return a check that GETs the URL path `path`; a status from 200 to 399 is success."""
    return {"httpGet": {"path": path, "port": port, "scheme": "HTTP"}}


def tcp(port: int) -> Probe:
    """Return a check that succeeds if the program listens on the port."""
    return {"tcpSocket": {"port": port}}


def sees_volume(path: str, port: int) -> Probe:
    """Return a check that reads the directory of the volume, then GETs the URL path `path`, both in a shell of the image.

    GET alone does not suffice: a health page succeeds even if the volume is gone.
    """
    url = shlex.quote(f"http://127.0.0.1:{port}{path}")
    return {"exec": {"command": ["/bin/sh", "-c", f"{_READS_VOLUME} && exec wget -q -O /dev/null {url}"]}}


_READS_VOLUME = f"""unset {" ".join(_PROXY_VARIABLES)}
read -r last 2>/dev/null </dev/shm/volume-check
if [ "$(cat "/proc/$last/comm" 2>/dev/null)" = find ] && [ -e "/proc/$last/exe" ]
then echo "the last check of the volume has not returned" >&2; exit 1; fi
find {FILES_MOUNT}/ -mindepth 1 -maxdepth 1 -quit & echo $! >/dev/shm/volume-check
wait $!"""
"""Reads one entry of the directory: a list of it would cost more with each file.

A process that reads a network volume whose server hangs cannot be killed, but the shell that waits for it can. So the script starts no
second one: the probes of a day would use up the process ids of the container. A process that is gone, or a zombie, has no `exe`; after
a restart of the container, its id may be that of another program. Every container can write to /dev/shm.
"""


def startup(check: Mapping[str, Any]) -> Probe:
    """Return a startup probe that runs `check` every second for up to five minutes, as a volume may be slow to respond."""
    return {**check, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 300}


def readiness(check: Mapping[str, Any]) -> Probe:
    """Return a readiness probe that runs `check` every 10 s; after two failures in a row the pod is not ready."""
    return {**check, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 2}


def liveness(check: Mapping[str, Any]) -> Probe:
    """Return a liveness probe that runs `check` every 20 s; after three failures in a row the container is restarted."""
    return {**check, "periodSeconds": 20, "timeoutSeconds": 5, "failureThreshold": 3}
