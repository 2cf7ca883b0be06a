"""The operator as `kubectl apply -k` installs it, observed through kubectl."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operatorimage import BUILDAH
from support.kubectl import WAIT, Kubectl, eventually

ROOT = Path(__file__).parents[2]
SYSTEM = "userstorage-system"
OPERATOR = "app.kubernetes.io/name=userstorage-operator"
GATE = "userstorage-gate"
IMAGE = "userstorage-operator:0.1.0"
"""The name in deploy/manager."""
SCRIPT_TIMEOUT = 600
"""Seconds: only ends a script that hangs. A deploy waits for a build, two rollouts and their timeouts."""

Object = dict[str, Any]


@dataclass(frozen=True)
class Installation:
    """An operator on the node cluster of `directory`."""

    kubectl: Kubectl
    directory: Path
    registry: str

    def system(self, *arguments: str) -> str:
        """Run kubectl in the operator's namespace and return its output."""
        return self.kubectl.run(*arguments, "-n", SYSTEM).stdout

    def install(self) -> None:
        """Apply deploy/overlays/demo, with a host alias for Redis, since the node cluster has no DNS; wait for the rollout."""
        self.kubectl.run("apply", "-k", str(ROOT / "deploy/overlays/demo"))
        service = self.kubectl.get("service", "userstorage-redis", SYSTEM)
        assert service is not None
        names = [{"ip": service["spec"]["clusterIP"], "hostnames": [f"userstorage-redis.{SYSTEM}.svc"]}]
        patch = {"spec": {"template": {"spec": {"hostAliases": names}}}}
        self.system("patch", "deployment", "userstorage-operator", "-p", json.dumps(patch))
        self.until_rolled_out()

    def until_rolled_out(self) -> None:
        """Wait until the Deployment is rolled out and no pod of an earlier revision is left."""
        self.system("rollout", "status", "deployment/userstorage-operator", WAIT)
        eventually(lambda: len(self.pods()) == 3 and all(is_ready(pod) for pod in self.pods()))

    def pods(self) -> list[Object]:
        """Return the operator's pods, including terminating ones."""
        found: list[Object] = json.loads(self.system("get", "pods", "-l", OPERATOR, "-o", "json"))["items"]
        return found

    def leader(self) -> str:
        """Wait for a leader and return the name of its pod."""

        def holder() -> str:
            lease = self.kubectl.get("lease", "userstorage-operator", SYSTEM) or {"spec": {}}
            return str(lease["spec"].get("holderIdentity") or "").rpartition("_")[0]

        return eventually(holder)

    def exec(self, pod: str, *command: str) -> tuple[int, str]:
        """Run a command in the operator's container; return its exit code, and stdout and stderr together."""
        done = self.kubectl.run("exec", pod, "-n", SYSTEM, "--", *command, check=False)
        return done.returncode, (done.stdout + done.stderr).strip()

    def script(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a script of scripts/ with stderr redirected to stdout."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # kubectl is among the development dependencies
        environment = {**os.environ, "KUBECONFIG": str(self.kubectl.kubeconfig), "PATH": path}
        return subprocess.Popen(
            [str(ROOT / "scripts" / name), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run_script(self, name: str, *arguments: str) -> tuple[int, str]:
        """Run a script of scripts/; return its exit code and output."""
        running = self.script(name, *arguments)
        output, _ = running.communicate(timeout=SCRIPT_TIMEOUT)
        return running.returncode, output


@dataclass(frozen=True)
class InstalledGate:
    """The gate as `kubectl apply -k deploy/gate` installs it: two replicas behind a Service."""

    kubectl: Kubectl

    def install(self, key: str) -> None:
        """Create the Secret with that key, and apply deploy/gate."""
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": GATE, "namespace": SYSTEM}}
        self.kubectl.apply({**secret, "stringData": {"keys": f"{key}\n"}})
        self.kubectl.run("apply", "-k", str(ROOT / "deploy/gate"))

    @property
    def url(self) -> str:
        """The URL of the door."""
        service = self.kubectl.get("service", GATE, SYSTEM)
        assert service is not None
        return f"http://{service['spec']['clusterIP']}:8444"

    def start(self) -> None:
        """Wait for the rollout."""
        self.kubectl.run("rollout", "status", f"deployment/{GATE}", "-n", SYSTEM, WAIT)

    def stop(self) -> None:
        """Delete the installation."""
        self.kubectl.run("delete", "-k", str(ROOT / "deploy/gate"), WAIT)

    def restart(self) -> None:
        """Replace both replicas, one after the other, and wait until the former ones have ended."""
        before = self.pods()
        self.kubectl.run("rollout", "restart", f"deployment/{GATE}", "-n", SYSTEM)
        self.start()
        eventually(lambda: not before & self.pods())

    def pods(self) -> set[str]:
        """Return the names of the pods, including terminating ones."""
        selector = ["-n", SYSTEM, "-l", f"app.kubernetes.io/name={GATE}", "-o", "name"]
        return set(self.kubectl.run("get", "pods", *selector).stdout.split())

    def kill(self) -> None:
        """Kill one of the replicas without a graceful shutdown, and wait until there are two others."""
        victim, *_ = self.pods()
        self.kubectl.run("delete", victim, "-n", SYSTEM, "--grace-period=0", "--force")
        self.start()


def is_ready(pod: Object) -> bool:
    """Whether the pod is Ready and not terminating."""
    conditions = {entry["type"]: entry["status"] for entry in pod["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def push_image(registry: str, tag: str, *entrypoint: str) -> str:
    """Push the operator's image with another entry point; return its reference in the registry.

    The entry point makes it another image for the node as well. If the node had pulled the loaded image under a second name,
    it would ask a registry for the first name, too.
    """
    reference = f"{registry}/userstorage-operator:{tag}"
    container = _buildah("from", IMAGE).strip()
    _buildah("config", "--entrypoint", json.dumps(entrypoint), container)
    _buildah("commit", "--rm", container, reference)
    BUILDAH.push(reference, plain_http=True)
    return reference


def _buildah(*arguments: str) -> str:
    done = subprocess.run([*BUILDAH.program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
