"""Users, their pods and their files, as they can be seen from outside."""

import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.cluster_access import ClusterAccess
from support.kubectl import Kubectl, eventually
from support.web import Web

Object = dict[str, Any]

POLL_SECONDS = 0.4
"""Seconds; a look is a run of kubectl, and the pods need the processor more than the tests do."""
READY_SECONDS = 180.0
"""For a pod on a slow machine; where an image has to be pulled, too."""
NOT_READY_SECONDS = 90.0
"""For what is promised within half a minute, on a machine three times slower."""

DUFS: Object = {"browser": {"flavor": "Dufs"}, "auth": {"mode": "None", "acknowledgeUnauthenticated": True}}
FILE_BROWSER: Object = {"browser": {"flavor": "FileBrowser"}}


class Users:
    """One namespace, and the classes that a test makes for it."""

    def __init__(self, kubectl: Kubectl, namespace: str, cluster: ClusterAccess) -> None:
        self.kubectl = kubectl
        self.namespace = namespace
        self.cluster = cluster
        self.classes: list[str] = []

    def create_class(self, spec: Object, **browser: Any) -> str:
        """The name of a new class of that spec, with more fields of `browser`."""
        name = f"e2e-{uuid.uuid4().hex[:8]}"
        self.classes.append(name)
        self.apply_class(name, spec, **browser)
        return name

    def apply_class(self, name: str, spec: Object, **browser: Any) -> None:
        """Make a class what it should be; fields that are not named go away."""
        body = {**spec, "browser": {**spec["browser"], **browser}}
        metadata = {"name": name}
        self.kubectl.apply({"apiVersion": "userstorage.dev/v1", "kind": "UserStorageClass", "metadata": metadata, "spec": body})

    def apply_user(self, name: str, class_name: str, **spec: Any) -> None:
        """Apply a UserStorage; a second time it is changed."""
        body = {"userID": name, "className": class_name, "storage": {"size": "1Gi"}, **spec}
        metadata = {"name": name, "namespace": self.namespace}
        self.kubectl.apply({"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "metadata": metadata, "spec": body})

    def get(self, kind: str, name: str) -> Object | None:
        return self.kubectl.get(kind, name, self.namespace)

    def pod(self, user: str) -> Object | None:
        return self.get("pod", f"user-storage-{user}")

    def claim(self, user: str) -> Object | None:
        return self.get("persistentvolumeclaim", f"user-storage-{user}")

    def ready_condition(self, user: str) -> tuple[str, str, str]:
        """Status, reason and message of the condition Ready."""
        found = self.get("userstorage", user)
        assert found is not None
        [entry] = [entry for entry in found["status"]["conditions"] if entry["type"] == "Ready"]
        return entry["status"], entry["reason"], entry["message"]

    def until_ready(self, user: str, not_pod: str = "") -> Object:
        """The status once it is Ready, for the present spec and with another pod than `not_pod`."""
        found: Object = {}

        def look() -> bool:
            nonlocal found
            found = self.get("userstorage", user) or {}
            status = found["status"]
            told = {entry["type"]: entry["status"] for entry in status["conditions"]}
            current = status.get("observedGeneration") == found["metadata"]["generation"]
            settled = told.get("Ready") == told.get("PodUpToDate") == "True"
            return bool(current and settled and status["podUID"] != not_pod)

        try:
            eventually(look, within=READY_SECONDS, every=POLL_SECONDS)
        except AssertionError:
            pytest.fail(f"not Ready within {READY_SECONDS:.0f} s: {found}\npod: {self.pod(user)}")
        status: Object = found["status"]
        return status

    def until_not_ready(self, user: str, reason: str) -> str:
        """The message of Ready once it is False with that reason."""
        seen = ("", "", "")

        def look() -> bool:
            nonlocal seen
            seen = self.ready_condition(user)
            return seen[:2] == ("False", reason)

        try:
            eventually(look, within=NOT_READY_SECONDS, every=POLL_SECONDS)
        except AssertionError:
            pytest.fail(f"not {reason} within {NOT_READY_SECONDS:.0f} s but {seen}\npod: {self.pod(user)}")
        return seen[2]

    def delete_pod(self, user: str) -> Object:
        """Delete the pod as a drained node would, and wait for the next; the status with that one."""
        pod = self.pod(user)
        assert pod is not None
        self.kubectl.run("delete", "pod", pod["metadata"]["name"], "-n", self.namespace, "--wait=false")
        return self.until_ready(user, not_pod=pod["metadata"]["uid"])

    def web(self, user: str) -> Web:
        """The user's server, at the path that the status names."""
        return Web(lambda: self.address(user), self.path(user))

    def address(self, user: str) -> str:
        """host:port of the user's Service, as seen from here."""
        return self.cluster.address(self.namespace, f"user-storage-{user}")

    def path(self, user: str) -> str:
        """The path of the URL in the status."""
        found = self.get("userstorage", user)
        assert found is not None
        return urlsplit(str(found["status"]["url"])).path

    def volume(self, user: str) -> Path:
        """The directory that is the user's volume; the test is skipped where it is not one of this machine."""
        if not self.cluster.has_local_volumes:
            pytest.skip("volumes can be looked into only on the local node (--cluster=local, as root)")
        claim = self.claim(user)
        assert claim is not None
        volume = self.kubectl.run("get", "pv", claim["spec"]["volumeName"], "-o", "jsonpath={.spec.local.path}")
        return Path(volume.stdout)

    def exec(self, user: str, *command: str) -> tuple[int, str]:
        """Exit code and output, of both kinds, of a command in the user's container."""
        done = self.kubectl.run(
            "exec", f"user-storage-{user}", "-c", "filebrowser", "-n", self.namespace, "--", *command, check=False
        )
        return done.returncode, (done.stdout + done.stderr).strip()
