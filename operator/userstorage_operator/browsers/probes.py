"""Probes of a file browser: frequent during the start, infrequent afterwards."""

from collections.abc import Mapping
from typing import Any

from userstorage_operator.browsers.browser import FILES_MOUNT

Probe = dict[str, Any]


def http(path: str, port: int) -> Probe:
    """Return a check that GETs the URL path `path`; a status from 200 to 399 is success."""
    return {"httpGet": {"path": path, "port": port, "scheme": "HTTP"}}


def tcp(port: int) -> Probe:
    """Return a check that succeeds if the program listens on the port."""
    return {"tcpSocket": {"port": port}}


def sees_volume(path: str, port: int) -> Probe:
    """Return a check that lists the files of the volume, then GETs the URL path `path`, both in a shell of the image.

    GET alone does not suffice: a health page succeeds even if the volume is gone.
    """
    script = f"ls {FILES_MOUNT}/ >/dev/null && wget -q -O /dev/null http://127.0.0.1:{port}{path}"
    return {"exec": {"command": ["/bin/sh", "-c", script]}}


def startup(check: Mapping[str, Any]) -> Probe:
    """Return a startup probe that runs `check` every second for up to five minutes, as a volume may be slow to respond."""
    return {**check, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 300}


def readiness(check: Mapping[str, Any]) -> Probe:
    """Return a readiness probe that runs `check` every 10 s; after two failures in a row the pod is not ready."""
    return {**check, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 2}


def liveness(check: Mapping[str, Any]) -> Probe:
    """Return a liveness probe that runs `check` every 20 s; after three failures in a row the container is restarted."""
    return {**check, "periodSeconds": 20, "timeoutSeconds": 5, "failureThreshold": 3}
