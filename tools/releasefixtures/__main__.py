"""`python -m releasefixtures`: run the operator of this version on a new cluster and write tests/fixtures/released/VERSION."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

import localcluster
from demo.kubectl import Kubectl
from localcluster import ClusterError
from localcluster.progress import Console, Report
from releasefixtures.masks import masked

ROOT = Path(__file__).parents[2]
OBJECTS = Path(__file__).with_name("objects.yaml")
PHASES = {"alice": "Ready", "bob": "Ready", "carol": "Suspended", "dave": "Ready", "erin": "Ready"}
CHILDREN = ("networkpolicies", "persistentvolumeclaims", "services", "ingresses", "pods")
COPIES = 200
"""Number of further users whose spec is like that of alice.

Only the pod hashes of these users are recorded, which depend on the claim name. All else is like that of alice but the name.
"""
_TIMEOUT = 300.0


def main() -> int:
    """Write the fixtures of this version of the operator. Return 1 if the cluster or the operator fails, else 0."""
    parser = argparse.ArgumentParser(prog="releasefixtures", description=__doc__)
    parser.parse_args()
    target = ROOT / "tests/fixtures/released" / version("userstorage-operator")
    report = Console(sys.stdout)
    with tempfile.TemporaryDirectory(prefix="released-") as scratch:
        directory = Path(scratch)
        try:
            write(target, directory, report)
        except ClusterError as error:
            print(f"releasefixtures: {error}", file=sys.stderr)
            return 1
        finally:
            localcluster.stop(directory / "cluster")
    report(f"written: {target.relative_to(ROOT)}")
    return 0


def write(target: Path, directory: Path, report: Report) -> None:
    """Run the operator on a new cluster, whose files are in `directory`, and write the fixtures to `target`.

    The fixtures are one file per user with all objects of that user, the classes, the pod hashes and a copy of the CRDs. Raises
    ClusterError if the cluster does not start, or if a UserStorage does not get to the expected phase.
    """
    cluster = localcluster.start("control-plane", directory / "cluster", report)
    kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig, directory / "cache")
    kubectl.run("apply", "-k", str(ROOT / "deploy/crds"))
    kubectl.wait_established(*(f"crd/userstorage{s}.userstorage.dev" for s in ("s", "classes")))
    kubectl.run("apply", "-f", str(OBJECTS))
    copies = {f"u{number}": "Ready" for number in range(COPIES)}
    save(directory / "copies.yaml", [copy_of(name) for name in copies])
    kubectl.run("create", "-f", str(directory / "copies.yaml"))
    program = Path(sys.executable).with_name("userstorage-operator")
    command = [str(program), "run", "--http-port=0", "--log-level=error"]
    operator = subprocess.Popen(command, env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)})
    try:
        wait_for_phases(kubectl, PHASES | copies)
        time.sleep(2)  # the operator delays the status of a class by a second
        objects = masked(listed(kubectl))
    finally:
        operator.terminate()
        operator.wait(timeout=60)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shutil.copytree(ROOT / "deploy/crds", target / "definitions")
    for name in PHASES:
        save(target / f"{name}.yaml", [raw for raw in objects if user_of(raw) == name])
    (target / "hashes.json").write_text(json.dumps(hashes(objects, copies), indent=0, sort_keys=True) + "\n")
    save(target / "classes.yaml", [raw for raw in objects if raw["kind"] == "UserStorageClass"])


def copy_of(name: str) -> dict[str, Any]:
    """Return a UserStorage of the user `name` whose spec is like that of alice."""
    return {"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "metadata": {"name": name}, "spec": {"userID": name}}


def hashes(objects: list[dict[str, Any]], copies: Iterable[str]) -> dict[str, str]:
    """Return the pod hashes of alice and of the users `copies`, whose specs are like that of alice, by user.

    Raises ClusterError if one of their pods differs from that of alice in more than name and hash.
    """
    pods = {user_of(raw): raw for raw in objects if raw["kind"] == "Pod"}
    found = {name: pods[name]["metadata"]["annotations"]["userstorage.dev/pod-hash"] for name in ("alice", *copies)}
    alice = json.dumps(pods["alice"])
    for name in copies:
        if json.dumps(pods[name]) != alice.replace("alice", name).replace(found["alice"], found[name]):
            raise ClusterError(f"the pod of {name} differs from that of alice in more than name and hash")
    return found


def wait_for_phases(kubectl: Kubectl, expected: dict[str, str]) -> None:
    """Wait until every UserStorage has its phase in `expected`, by name. Raises ClusterError after five minutes."""
    deadline, phases = time.monotonic() + _TIMEOUT, dict[str, str]()
    while phases != expected:
        if time.monotonic() > deadline:
            raise ClusterError(f"UserStorages did not get to the expected phases: {phases}")
        time.sleep(0.5)
        found = json.loads(kubectl.run("get", "userstorages", "-o", "json"))["items"]
        phases = {raw["metadata"]["name"]: raw["status"].get("phase", "") for raw in found}


def listed(kubectl: Kubectl) -> list[dict[str, Any]]:
    """Return all UserStorageClasses, UserStorages and their children, kind by kind: the pods are last."""
    kinds = ",".join(("userstorageclasses", "userstorages", *CHILDREN))
    found: list[dict[str, Any]] = json.loads(kubectl.run("get", kinds, "-o", "json"))["items"]
    return [raw for raw in found if raw["kind"] != "Service" or raw["metadata"]["name"] != "kubernetes"]


def user_of(raw: dict[str, Any]) -> str:
    """Return the name of the UserStorage to which the object belongs; empty if it belongs to none."""
    if raw["kind"] == "UserStorage":
        return str(raw["metadata"]["name"])
    if raw["metadata"]["name"] == "shared":
        return "dave"
    return str(raw["metadata"].get("annotations", {}).get("userstorage.dev/user-id", "")).partition("@")[0]


def save(path: Path, objects: list[dict[str, Any]]) -> None:
    """Write the objects to the file `path` as a YAML manifest."""
    path.write_text(yaml.safe_dump_all(objects, sort_keys=True, width=128))


if __name__ == "__main__":
    sys.exit(main())
