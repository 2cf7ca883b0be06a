"""Sets up the whole way in on the local node: login, gateway, gate, and the file browsers of alice and bob."""

import secrets
import sys
from pathlib import Path

import yaml

from demo import clusters, steps
from demo.kubectl import Kubectl
from localcluster import ClusterError, processes
from localcluster.addresses import free_port
from localcluster.background import Background
from localcluster.progress import Report
from testservers import redis
from testservers.frontdoor import DOMAIN, LOCAL_DOMAIN, Gateway, Login, Pods, replaced

EXAMPLES = steps.ROOT / "examples/gateways"
USERS = ("alice", "bob")
NAMESPACE = "users"


def up(directory: Path, report: Report) -> None:
    """Start what `steps.up` starts, and the front door of examples/gateways with nginx. Leave all of it running.

    Each step is reported. Raises ClusterError at the first step that fails.
    """
    own = directory / "demo"
    own.mkdir(parents=True, exist_ok=True)
    kubectl = clusters.start("local", directory, own, report).kubectl
    steps.install_definitions(kubectl, report)
    operator = steps.start_operator(own, kubectl, redis.up(directory, report), report)
    down(own)
    text = replaced((EXAMPLES / "userstorageclass.yaml").read_text(), {DOMAIN: LOCAL_DOMAIN})
    (own / "userstorageclass.yaml").write_text(text)
    kubectl.run("apply", "-f", str(own / "userstorageclass.yaml"))
    (own / "namespace.yaml").write_text(
        yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    )
    kubectl.run("apply", "-f", str(own / "namespace.yaml"), "-f", str(EXAMPLES / "userstorages.yaml"))
    report("class, alice and bob applied: examples/gateways/userstorageclass.yaml, userstorages.yaml")
    gate, key = _start_gate(own, kubectl, report)
    statuses = {user: steps.until_ready(kubectl, operator, report, user, NAMESPACE) for user in USERS}
    gateway = Gateway("nginx", EXAMPLES, own, local=True)
    login = Login(EXAMPLES, own, gate, key, local_port=gateway.port).start(list(USERS))
    report(f"oauth2-proxy and an OpenID Connect provider run: {login.provider.url}")
    addresses = {
        user: str(kubectl.get("service", status["serviceName"], NAMESPACE)["spec"]["clusterIP"])
        for user, status in statuses.items()
    }
    gateway.start(login.proxy, Pods(addresses))
    report(f"nginx runs with examples/gateways/nginx.conf; its files: {own}")
    print(_next_commands({user: f"http://{user}.files.{LOCAL_DOMAIN}:{gateway.port}/" for user in USERS}, own))


def down(own: Path) -> None:
    """Stop what `up` started beside cluster, Redis and operator; `own` is the folder with the files of the demo."""
    for name in ("nginx", "name-server", "oauth2-proxy", "oidc-provider", "gate"):
        Background(name, own).stop()


def _start_gate(own: Path, kubectl: Kubectl, report: Report) -> tuple[str, str]:
    """Start the gate as a process of this machine, and return its URL and its key."""
    key = secrets.token_urlsafe(32)
    key_file = own / "gate-keys"
    key_file.touch(mode=0o600)
    key_file.write_text(f"{key}\n")
    port = free_port()
    program = Path(sys.executable).with_name("userstorage-operator")
    options = [f"--port={port}", f"--key-file={key_file}", "--http-port=0"]
    gate = Background("gate", own)
    gate.start(["/usr/bin/env", f"KUBECONFIG={kubectl.kubeconfig}", str(program), "gate", *options])
    if not gate.alive():
        raise ClusterError(f"the gate exited: {processes.last_line(gate.log)} (log: {gate.log})")
    report(f"gate started; its log: {gate.log}")
    return f"http://127.0.0.1:{port}", key


def _next_commands(urls: dict[str, str], own: Path) -> str:
    listed = "\n".join(f"    {url}" for url in urls.values())
    return f"""
Open in a browser of this machine, and choose id-of-alice or id-of-bob at the login:

{listed}

alice sees her files at the first address, and is refused at the second; bob the other way round.
A private window is a second login. Watch what the gate decides:

    tail -f {own / "gate.log"}

Stop everything: make demo-down"""
