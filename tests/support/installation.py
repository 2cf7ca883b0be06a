"""The operator as `kubectl apply -k` installs it, seen from outside."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operatorimage import BUILDAH
from support.kubectl import Kubectl, eventually

ROOT = Path(__file__).parents[2]
SYSTEM = "userstorage-system"
OPERATOR = "app.kubernetes.io/name=userstorage-operator"
IMAGE = "userstorage-operator:0.1.0"
"""The name in deploy/manager."""
ROLLOUT = "--timeout=140s"

Object = dict[str, Any]


@dataclass(frozen=True)
class Installation:
    """An operator on the node cluster of `directory`."""

    kubectl: Kubectl
    directory: Path
    registry: str

    def system(self, *arguments: str) -> str:
        """What kubectl prints, in the operator's namespace."""
        return self.kubectl.run(*arguments, "-n", SYSTEM).stdout

    def install(self) -> None:
        """Apply deploy/overlays/demo, and tell the one thing that this node lacks and the demo needs: it has no DNS."""
        self.kubectl.run("apply", "-k", str(ROOT / "deploy/overlays/demo"))
        service = self.kubectl.get("service", "userstorage-redis", SYSTEM)
        assert service is not None
        names = [{"ip": service["spec"]["clusterIP"], "hostnames": [f"userstorage-redis.{SYSTEM}.svc"]}]
        patch = {"spec": {"template": {"spec": {"hostAliases": names}}}}
        self.system("patch", "deployment", "userstorage-operator", "-p", json.dumps(patch))
        self.until_rolled_out()

    def until_rolled_out(self) -> None:
        """Until the Deployment is as it should be, and nobody of its past is left."""
        self.system("rollout", "status", "deployment/userstorage-operator", ROLLOUT)
        eventually(lambda: len(self.pods()) == 3 and all(is_ready(pod) for pod in self.pods()))

    def pods(self) -> list[Object]:
        """The operator's pods, also those that are ending."""
        found: list[Object] = json.loads(self.system("get", "pods", "-l", OPERATOR, "-o", "json"))["items"]
        return found

    def leader(self) -> str:
        """The pod that leads, once one does."""

        def holder() -> str:
            lease = self.kubectl.get("lease", "userstorage-operator", SYSTEM) or {"spec": {}}
            return str(lease["spec"].get("holderIdentity") or "").rpartition("_")[0]

        return eventually(holder)

    def exec(self, pod: str, *command: str) -> tuple[int, str]:
        """Exit code and output, of both kinds, of a command in the operator's container."""
        done = self.kubectl.run("exec", pod, "-n", SYSTEM, "--", *command, check=False)
        return done.returncode, (done.stdout + done.stderr).strip()

    def script(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        """One of scripts/ as a person would start it; what it says comes as one."""
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
        """Its exit code and what it said."""
        running = self.script(name, *arguments)
        said, _ = running.communicate(timeout=600)
        return running.returncode, said


def is_ready(pod: Object) -> bool:
    """Whether it is, and is to stay."""
    conditions = {entry["type"]: entry["status"] for entry in pod["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def push_image(registry: str, tag: str, *entrypoint: str) -> str:
    """The reference, in the registry, of an image of the operator with another entry point: another image to the node, too, which
    would ask for what it pulled by one name also where it has it by another.
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
