"""Probes of a file browser: quick to see it start, slow to bother it afterwards."""

from collections.abc import Mapping
from typing import Any

from userstorage_operator.browsers.browser import FILES_MOUNT

Probe = dict[str, Any]


def http(path: str, port: int) -> Probe:
    """GET `path`; 200 to 399 is success."""
    return {"httpGet": {"path": path, "port": port, "scheme": "HTTP"}}


def tcp(port: int) -> Probe:
    """Somebody listens on the port."""
    return {"tcpSocket": {"port": port}}


def sees_volume(path: str, port: int) -> Probe:
    """List the volume, then GET `path`, with the image's own shell: a health page is green when the volume is gone."""
    script = f"ls {FILES_MOUNT}/ >/dev/null && wget -q -O /dev/null http://127.0.0.1:{port}{path}"
    return {"exec": {"command": ["/bin/sh", "-c", script]}}


def startup(check: Mapping[str, Any]) -> Probe:
    """Every second for five minutes: pods are ready as soon as they can be, and slow volumes get their time."""
    return {**check, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 300}


def readiness(check: Mapping[str, Any]) -> Probe:
    """Every 10 s; not ready after two misses."""
    return {**check, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 2}


def liveness(check: Mapping[str, Any]) -> Probe:
    """Every 20 s; restarted after a minute without an answer."""
    return {**check, "periodSeconds": 20, "timeoutSeconds": 5, "failureThreshold": 3}
