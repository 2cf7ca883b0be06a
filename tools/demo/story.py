"""What the demo shows, step by step."""

import hashlib
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from demo import files, places
from demo.kubectl import Kubectl
from localcluster import ClusterError, processes
from localcluster.background import Background
from localcluster.progress import Report
from testservers import redis

ROOT = Path(__file__).parents[2]
USER = "alice"
FILE = "hello.txt"

_READY_SECONDS = 300.0
_SECONDS_BETWEEN_LOOKS = 0.25


def up(choice: str, directory: Path, report: Report) -> None:
    """Start what does not run yet and show all of it. ClusterError, at the first thing that is not as it should be."""
    own = directory / "demo"
    own.mkdir(parents=True, exist_ok=True)
    place = places.start(choice, directory, own, report)
    kubectl = place.kubectl
    kubectl.run("apply", "-k", str(ROOT / "deploy/crds"))
    kubectl.wait_established(*(f"crd/userstorage{s}.userstorage.dev" for s in ("s", "classes")))
    report("both kinds are served: UserStorage, UserStorageClass")
    kubectl.run("apply", "-f", str(ROOT / "examples/dufs-class.yaml"))
    report("default class applied: examples/dufs-class.yaml")
    operator = _operator(own, kubectl, redis.up(directory, report), report)
    kubectl.run("apply", "-f", str(ROOT / f"examples/{USER}.yaml"))
    report(f"examples/{USER}.yaml applied: all it says is `userID: {USER}`")
    first = _until_ready(kubectl, operator, report)

    content = f"written by the demo at {datetime.now(UTC).isoformat()}"
    url = _url(place, first)
    files.upload(url + FILE, content)
    _expect(url + FILE, content)
    report(f"{FILE} uploaded and read back through the Service: {url}{FILE}")

    kubectl.run("delete", "pod", first["podName"], "--wait=false")
    report(f"pod {first['podName']} deleted")
    second = _until_ready(kubectl, operator, report, not_pod=first["podUID"])
    url = _url(place, second)
    _expect(url + FILE, content)
    report(f"another pod, the same file: {FILE} is still there")
    report("all seen; cluster, Redis and operator go on running")
    print(f"\n{kubectl.run('get', 'us', '-o', 'wide')}")
    print(_how_to_look_on(url, kubectl, operator))


def down(directory: Path, report: Report) -> None:
    """End the operator, then Redis and the cluster, and delete their files. ClusterError where one does not end."""
    if not directory.is_dir():
        report(f"nothing runs: there is no {_shown(directory)}")
        return
    own = directory / "demo"
    report("operator ended" if Background("operator", own).stop() else "no operator runs")
    redis.down(directory)
    places.stop(directory, own)
    shutil.rmtree(own, ignore_errors=True)
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()
    report("Redis and cluster ended")


def _operator(own: Path, kubectl: Kubectl, redis_url: str | None, report: Report) -> Background:
    """The operator, outside of the cluster, as a process of this machine."""
    program = Path(sys.executable).with_name("userstorage-operator")
    if not program.exists():
        raise ClusterError(f"{program} is not there: run `make install` first")
    operator = Background("operator", own)
    # A new cluster in the same place has new keys: an operator of the old one cannot log in.
    login = hashlib.sha256(kubectl.kubeconfig.read_bytes()).hexdigest()
    context = f"{login} {redis_url}"
    if operator.alive(context):
        report("operator runs already")
        return operator
    # Port 0: it serves no metrics here, so that no other program's port is in the way.
    options = ["--http-port=0", *([f"--redis-url={redis_url}"] if redis_url else [])]
    operator.start(["/usr/bin/env", f"KUBECONFIG={kubectl.kubeconfig}", str(program), "run", *options], context)
    report(f"operator started; its log: {_shown(operator.log)}")
    return operator


def _until_ready(kubectl: Kubectl, operator: Background, report: Report, not_pod: str = "") -> dict[str, Any]:
    """The status, once it is Ready with another pod than `not_pod`; every change on the way is told."""
    told = ""
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        status: dict[str, Any] = kubectl.get("userstorage", USER)["status"]
        ready = next(entry for entry in status["conditions"] if entry["type"] == "Ready")
        now = f"{USER}: {status['phase']} ({ready['reason']})"
        if now != told:
            report(f"{now} {ready['message']}".rstrip())
            told = now
        if ready["status"] == "True" and status["podUID"] != not_pod:
            return status
        if not operator.alive():
            raise ClusterError(f"the operator ended: {processes.last_line(operator.log)} (log: {operator.log})")
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    raise ClusterError(f"{told}, and not Ready within {_READY_SECONDS:.0f} s (log of the operator: {operator.log})")


def _url(place: places.Place, status: dict[str, Any]) -> str:
    return place.reach(status["serviceName"]) + urlsplit(str(status["url"])).path


def _expect(url: str, content: str) -> None:
    found = files.download(url)
    if found != content:
        raise ClusterError(f"{url} holds {found!r} where {content!r} was written")


def _how_to_look_on(url: str, kubectl: Kubectl, operator: Background) -> str:
    return f"""Open in a browser of this machine:

    {url}

Look on:

    export KUBECONFIG={kubectl.kubeconfig}
    {_shown(kubectl.program)} get us --watch
    {_shown(kubectl.program)} describe us {USER}
    tail -f {_shown(operator.log)}

End it all: make demo-down"""


def _shown(path: Path) -> str:
    """A path as short as it can be typed here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
