"""Probes of a file browser: frequent during the start, infrequent afterwards."""

from collections.abc import Mapping
from typing import Any

from userstorage_operator.browsers.browser import FILES_MOUNT

Probe = dict[str, Any]


def http(path: str, port: int) -> Probe:
    """GET `path`; a status from 200 to 399 is success."""
    return {"httpGet": {"path": path, "port": port, "scheme": "HTTP"}}


def tcp(port: int) -> Probe:
    """Connect to the port; success if the program listens on it."""
    return {"tcpSocket": {"port": port}}


def sees_volume(path: str, port: int) -> Probe:
    """List the volume, then GET `path`, with the shell of the image: a health page succeeds even if the volume is gone."""
    script = f"ls {FILES_MOUNT}/ >/dev/null && wget -q -O /dev/null http://127.0.0.1:{port}{path}"
    return {"exec": {"command": ["/bin/sh", "-c", script]}}


def startup(check: Mapping[str, Any]) -> Probe:
    """Probe every second for five minutes: a pod becomes ready without delay, and a slow volume has enough time."""
    return {**check, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 300}


def readiness(check: Mapping[str, Any]) -> Probe:
    """Probe every 10 s; the pod is not ready after two failures."""
    return {**check, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 2}


def liveness(check: Mapping[str, Any]) -> Probe:
    """Probe every 20 s; the container is restarted after three failures, that is a minute."""
    return {**check, "periodSeconds": 20, "timeoutSeconds": 5, "failureThreshold": 3}
