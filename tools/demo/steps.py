"""Runs the demo: `up` starts and shows everything, `down` stops it."""

import hashlib
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from demo import browser, clusters, files
from demo.kubectl import Kubectl
from localcluster import ClusterError, processes
from localcluster.background import Background
from localcluster.progress import Report
from testservers import redis

ROOT = Path(__file__).parents[2]
USER = "alice"
FILE = "hello.txt"
PICTURE = "page.png"
"""The name of the picture of the user's page, in the folder with the demo's files."""

_READY_SECONDS = 300.0
_SECONDS_BETWEEN_POLLS = 0.25


def up(choice: str, directory: Path, report: Report) -> None:
    """Start cluster, Redis and operator unless they run, and show that a user's file is kept when the pod is deleted.

    Each step is reported. Raises ClusterError at the first step that fails.
    """
    own = directory / "demo"
    own.mkdir(parents=True, exist_ok=True)
    cluster = clusters.start(choice, directory, own, report)
    kubectl = cluster.kubectl
    install_definitions(kubectl, report)
    kubectl.run("apply", "-f", str(ROOT / "examples/copyparty-class.yaml"))
    report("default class applied: examples/copyparty-class.yaml")
    operator = start_operator(own, kubectl, redis.up(directory, report), report)
    kubectl.run("apply", "-f", str(ROOT / f"examples/{USER}.yaml"))
    report(f"examples/{USER}.yaml applied: its whole spec is `userID: {USER}`")
    first = until_ready(kubectl, operator, report, USER)

    content = f"written by the demo at {datetime.now(UTC).isoformat()}"
    url = _url(cluster, first)
    files.upload(url + FILE, content.encode())
    _expect(url + FILE, content)
    report(f"{FILE} uploaded and read back through the Service: {url}{FILE}")

    kubectl.run("delete", "pod", first["podName"], "--wait=false")
    report(f"pod {first['podName']} deleted")
    second = until_ready(kubectl, operator, report, USER, not_pod=first["podUID"])
    url = _url(cluster, second)
    _expect(url + FILE, content)
    report(f"the new pod has the same file: {FILE}")
    _show_page(url, own / PICTURE, report)
    report("all steps succeeded; cluster, Redis and operator keep running")
    print(f"\n{kubectl.run('get', 'us')}")
    print(_next_commands(url, kubectl, operator))


def install_definitions(kubectl: Kubectl, report: Report) -> None:
    """Apply CRDs and permissions, and wait until the API server serves both kinds. Raises ClusterError if it does not."""
    kubectl.run("apply", "-k", str(ROOT / "deploy/crds"))
    # Its namespace is the one in which the operator tries the pods of a class; its roles are those of tenants.
    kubectl.run("apply", "-k", str(ROOT / "deploy/rbac"))
    kubectl.wait_established(*(f"crd/userstorage{s}.userstorage.dev" for s in ("s", "classes")))
    report("both kinds are served: UserStorage, UserStorageClass")


def down(directory: Path, report: Report) -> None:
    """Stop the operator, Redis and the cluster, and delete their files.

    Raises ClusterError if one of them does not stop. A missing directory is reported and is no error.
    """
    if not directory.is_dir():
        report(f"nothing to stop: {_shown(directory)} does not exist")
        return
    own = directory / "demo"
    report("operator stopped" if Background("operator", own).stop() else "no operator was running")
    redis.down(directory)
    clusters.stop(directory, own)
    shutil.rmtree(own, ignore_errors=True)
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()
    report("Redis and cluster stopped")


def start_operator(own: Path, kubectl: Kubectl, redis_url: str | None, report: Report) -> Background:
    """Start the operator as a process of this machine, unless it runs already. Return that background process."""
    program = Path(sys.executable).with_name("userstorage-operator")
    if not program.exists():
        raise ClusterError(f"{program} does not exist: run `make install` first")
    operator = Background("operator", own)
    # A new cluster in the same directory has new keys: an operator of the old one cannot log in.
    login = hashlib.sha256(kubectl.kubeconfig.read_bytes()).hexdigest()
    context = f"{login} {redis_url}"
    if operator.alive(context):
        report("operator is running")
        return operator
    # Port 0 disables the HTTP server: its default port may be in use.
    options = ["--http-port=0", *([f"--redis-url={redis_url}"] if redis_url else [])]
    operator.start(["/usr/bin/env", f"KUBECONFIG={kubectl.kubeconfig}", str(program), "run", *options], context)
    report(f"operator started; its log: {_shown(operator.log)}")
    return operator


def until_ready(
    kubectl: Kubectl, operator: Background, report: Report, user: str, namespace: str = "default", *, not_pod: str = ""
) -> dict[str, Any]:
    """Wait until the user's UserStorage is Ready with a pod whose uid is not `not_pod`, and return its status.

    Every change of phase or reason is reported. Raises ClusterError if the operator exits, or after five minutes.
    """
    summary = ""
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        status: dict[str, Any] = kubectl.get("userstorage", user, namespace)["status"]
        ready = next(entry for entry in status["conditions"] if entry["type"] == "Ready")
        current = f"{user}: {status['phase']} ({ready['reason']})"
        if current != summary:
            report(f"{current} {ready['message']}".rstrip())
            summary = current
        if ready["status"] == "True" and status["podUID"] != not_pod:
            return status
        if not operator.alive():
            raise ClusterError(f"the operator exited: {processes.last_line(operator.log)} (log: {operator.log})")
        time.sleep(_SECONDS_BETWEEN_POLLS)
    raise ClusterError(f"{summary}, and not Ready within {_READY_SECONDS:.0f} s (log of the operator: {operator.log})")


def _show_page(url: str, picture: Path, report: Report) -> None:
    """Open the user's page in a real browser, and keep a picture of it. Without a browser, report why there is no picture."""
    if not browser.is_installed():
        report("no browser yet: Debian's chromium and the libraries that it needs are 80 to 230 MB to download")
    try:
        program = browser.find_or_install(report)
    except ClusterError as error:
        report(f"no picture of the page: {error}")
        return
    browser.take_picture(program, url, FILE, picture)
    report(f"the page opened in a browser and lists {FILE}; its picture: {_shown(picture)}")


def _url(cluster: clusters.DemoCluster, status: dict[str, Any]) -> str:
    return cluster.service_url(status["serviceName"]) + urlsplit(str(status["url"])).path


def _expect(url: str, content: str) -> None:
    found = files.download(url)
    if found != content:
        raise ClusterError(f"{url} has {found!r}, but {content!r} was uploaded")


def _next_commands(url: str, kubectl: Kubectl, operator: Background) -> str:
    return f"""Open in a browser of this machine:

    {url}

Watch it:

    export KUBECONFIG={_shown(kubectl.kubeconfig)}
    {_shown(kubectl.program)} get us --watch
    {_shown(kubectl.program)} describe us {USER}
    tail -f {_shown(operator.log)}

Stop everything: make demo-down"""


def _shown(path: Path) -> str:
    """Return a file path as text: relative to the working directory if the file is below it, else as it is."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
