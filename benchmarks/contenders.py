"""The programs that are compared, and a cluster with what they need: CRDs and the rights of the operator."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from measuring import ROOT

import localcluster
from localcluster.builds import GoProgram, build_go
from localcluster.progress import Report, silent

PEER = GoProgram("peer", ".", modules=Path(__file__).parent)
_PEERS = {"peer": ("Go peer",), "peer-json": ("Go peer, JSON", "--content-type=application/json")}
"""Contender -> its name in the results, and its options."""
OPERATOR = Path(sys.executable).with_name("userstorage-operator")


@dataclass(frozen=True)
class Contender:
    """A program that serves UserStorages, and the kustomizations that its cluster has besides CRDs and RBAC."""

    name: str
    command: tuple[str, ...]
    kustomizations: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, report: Report) -> "Contender":
        """Return a contender.

        `operator`, `peer`, `peer-json` (JSON for all kinds, as the operator), or `NAME=PATH`: an operator of another tree, PATH its command. `+DIRECTORY` after it, repeatable: a
        kustomization of the repository for its clusters.
        """
        program, *kustomizations = text.split("+")
        name, _, path = program.partition("=")
        command: tuple[str, ...]
        if program in _PEERS:
            name, *options = _PEERS[program]
            command = (str(build_go(PEER, report)), *options)
        else:
            command = operator(path or str(OPERATOR), "--http-port=0")
        return cls(" + ".join((name, *kustomizations)), command, tuple(kustomizations))


def operator(command: str, *options: str) -> tuple[str, ...]:
    """Return the command that runs an operator with these options. It logs warnings only, as the peer logs nothing about an object.

    USERSTORAGE_RUN_LOG_LEVEL=info shows what the default costs; other options are variables of the environment, too.
    """
    level = os.environ.get("USERSTORAGE_RUN_LOG_LEVEL", "warning")
    return (command, "run", f"--log-level={level}", *options)


def kubectl(cluster: localcluster.Cluster, *arguments: str, text: str | None = None) -> str:
    """Run kubectl as the administrator, and return what it prints. Raises CalledProcessError if it fails."""
    command = [str(cluster.kubectl), f"--kubeconfig={cluster.kubeconfig}", *arguments]
    return subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, check=True).stdout


def login(cluster: localcluster.Cluster) -> Path:
    """Return a kubeconfig with a token of the operator's account: the audit log records all its requests."""
    token = kubectl(cluster, "create", "token", "userstorage-operator", "-n", "userstorage-system", "--duration=12h").strip()
    config = json.loads(cluster.kubeconfig.read_text())
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    path = cluster.directory / "contender.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))
    return path


@contextmanager
def new_cluster(apply: Sequence[str] = (), report: Report = silent) -> Iterator[localcluster.Cluster]:
    """Run a new cluster with the CRDs, the operator's account and rights, and the kustomizations `apply`.

    From here on, SIGTERM ends this process as an exception does, so that neither the cluster nor a contender outlives it.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="userstorage-bench-") as directory:
        cluster = localcluster.start("control-plane", Path(directory), report)
        try:
            for kustomization in ("deploy/crds", "deploy/rbac", *apply):
                kubectl(cluster, "apply", "-k", str(ROOT / kustomization))
            kubectl(cluster, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
            yield cluster
        finally:
            localcluster.stop(Path(directory))


@contextmanager
def running(contender: Contender, kubeconfig: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a contender for the `with` block."""
    with log.open("a") as output:
        process = subprocess.Popen(
            contender.command, env={**os.environ, "KUBECONFIG": str(kubeconfig)}, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=60)
