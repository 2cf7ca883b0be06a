"""How many users are without a ready pod at the same time, from the watch events of their pods."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.kubectl import PATIENCE, Kubectl, eventually


@contextmanager
def recorded_pod_events(api: Kubectl, namespace: str, log: Path) -> Iterator[None]:
    """Write every watch event of the namespace's pods to `log`, as the API server sends them."""
    command = api.command("get", "pods", "-n", namespace, "--watch", "--output-watch-events", "-o", "json")
    with log.open("w") as out:
        watch = subprocess.Popen(command, stdout=out)
        try:
            eventually(lambda: log.stat().st_size > 0)
            yield
        finally:
            watch.terminate()
            watch.wait(timeout=PATIENCE)


def max_unavailable(log: Path, pods: set[str]) -> int:
    """Return the largest number of `pods` that were not ready at any time after all of them were."""
    available: set[str] = set()
    complete, most = False, 0
    for event in _events(log.read_text()):
        pod = event["object"]
        conditions = {entry["type"]: entry["status"] for entry in pod.get("status", {}).get("conditions", ())}
        exists = event["type"] != "DELETED" and "deletionTimestamp" not in pod["metadata"]
        (available.add if exists and conditions.get("Ready") == "True" else available.discard)(pod["metadata"]["name"])
        complete = complete or available >= pods
        most = max(most, len(pods - available)) if complete else 0
    assert complete
    return most


def _events(text: str) -> Iterator[dict[str, Any]]:
    decoder, position = json.JSONDecoder(), 0
    while (position := text.find("{", position)) >= 0:
        event, position = decoder.raw_decode(text, position)
        yield event
