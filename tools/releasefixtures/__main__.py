"""`python -m releasefixtures`: write tests/fixtures/released/VERSION, from an operator of this version on a cluster of its own."""

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
CAST = Path(__file__).with_name("cast.yaml")
PHASES = {"alice": "Ready", "bob": "Ready", "carol": "Suspended", "dave": "Ready", "erin": "Ready"}
CHILDREN = ("networkpolicies", "persistentvolumeclaims", "services", "ingresses", "pods")
COPIES = 200
"""Users like alice, of whose pods only the hash is kept: the name of the claim is in it, and all else is alice's."""
_PATIENCE = 300.0


def main() -> int:
    """Exit code 1 where the cluster or the operator does not come as far."""
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
    """One file for each user with all that is theirs, one for classes, and the definitions as they are now."""
    cluster = localcluster.start("control-plane", directory / "cluster", report)
    kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig, directory / "cache")
    kubectl.run("apply", "-k", str(ROOT / "deploy/crds"))
    kubectl.wait_established(*(f"crd/userstorage{s}.userstorage.dev" for s in ("s", "classes")))
    kubectl.run("apply", "-f", str(CAST))
    copies = {f"u{number}": "Ready" for number in range(COPIES)}
    save(directory / "copies.yaml", [copy_of(name) for name in copies])
    kubectl.run("create", "-f", str(directory / "copies.yaml"))
    program = Path(sys.executable).with_name("userstorage-operator")
    command = [str(program), "run", "--http-port=0", "--log-level=error"]
    operator = subprocess.Popen(command, env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)})
    try:
        wait_for_phases(kubectl, PHASES | copies)
        time.sleep(2)  # the last status of a class is gathered for a second
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
    """A user who says as little as alice does."""
    return {"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "metadata": {"name": name}, "spec": {"userID": name}}


def hashes(objects: list[dict[str, Any]], copies: Iterable[str]) -> dict[str, str]:
    """Of the pods of alice and of those like her. ClusterError where they differ in more than name and hash."""
    pods = {user_of(raw): raw for raw in objects if raw["kind"] == "Pod"}
    found = {name: pods[name]["metadata"]["annotations"]["userstorage.dev/pod-hash"] for name in ("alice", *copies)}
    alice = yaml.safe_dump(pods["alice"])
    for name in copies:
        if yaml.safe_dump(pods[name]) != alice.replace("alice", name).replace(found["alice"], found[name]):
            raise ClusterError(f"the pod of {name} is not like that of alice")
    return found


def wait_for_phases(kubectl: Kubectl, wanted: dict[str, str]) -> None:
    """Until everybody is where they belong."""
    deadline, seen = time.monotonic() + _PATIENCE, dict[str, str]()
    while seen != wanted:
        if time.monotonic() > deadline:
            raise ClusterError(f"the phases are {seen}")
        time.sleep(0.5)
        found = json.loads(kubectl.run("get", "userstorages", "-o", "json"))["items"]
        seen = {raw["metadata"]["name"]: raw["status"].get("phase", "") for raw in found}


def listed(kubectl: Kubectl) -> list[dict[str, Any]]:
    """Classes, users and all that was made for them, in the order in which the operator makes it."""
    kinds = ",".join(("userstorageclasses", "userstorages", *CHILDREN))
    found: list[dict[str, Any]] = json.loads(kubectl.run("get", kinds, "-o", "json"))["items"]
    return [raw for raw in found if raw["kind"] != "Service" or raw["metadata"]["name"] != "kubernetes"]


def user_of(raw: dict[str, Any]) -> str:
    """Whose it is."""
    if raw["kind"] == "UserStorage":
        return str(raw["metadata"]["name"])
    if raw["metadata"]["name"] == "shared":
        return "dave"
    return str(raw["metadata"].get("annotations", {}).get("userstorage.dev/user-id", "")).partition("@")[0]


def save(path: Path, objects: list[dict[str, Any]]) -> None:
    """As a manifest."""
    path.write_text(yaml.safe_dump_all(objects, sort_keys=True, width=128))


if __name__ == "__main__":
    sys.exit(main())
