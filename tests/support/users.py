"""Users, their pods and their files, observed from outside the operator."""

import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.cluster_access import ClusterAccess
from support.kubectl import PATIENCE, Kubectl, eventually
from support.web import Web

Object = dict[str, Any]

POLL_SECONDS = 0.4
"""Seconds: each poll runs kubectl, and the pods need the processor more than the tests do."""
READY_SECONDS = PATIENCE
"""Seconds for a pod to become ready, including an image pull."""
NOT_READY_SECONDS = PATIENCE
"""Seconds for a failure to be reported. The product promises half a minute; a busy machine may be several times slower."""

DUFS: Object = {"browser": {"flavor": "Dufs"}, "auth": {"mode": "None", "acknowledgeUnauthenticated": True}}
FILE_BROWSER: Object = {"browser": {"flavor": "FileBrowser"}}
COPYPARTY: Object = {"browser": {"flavor": "Copyparty"}}


class NamespaceUsers:
    """The users in one namespace, and the classes that a test creates for them."""

    def __init__(self, kubectl: Kubectl, namespace: str, cluster: ClusterAccess) -> None:
        self.kubectl = kubectl
        self.namespace = namespace
        self.cluster = cluster
        self.classes: list[str] = []

    def create_class(self, spec: Object, **browser: Any) -> str:
        """Create a class with that spec and additional fields of `browser`; return its name."""
        name = f"e2e-{uuid.uuid4().hex[:8]}"
        self.classes.append(name)
        self.apply_class(name, spec, **browser)
        return name

    def apply_class(self, name: str, spec: Object, **browser: Any) -> None:
        """Apply a class; fields that are not given are removed."""
        body = {**spec, "browser": {**spec["browser"], **browser}}
        metadata = {"name": name}
        self.kubectl.apply({"apiVersion": "userstorage.dev/v1", "kind": "UserStorageClass", "metadata": metadata, "spec": body})

    def apply_user(self, name: str, class_name: str, **spec: Any) -> None:
        """Apply a UserStorage: create it, or change an existing one."""
        body = {"userID": name, "className": class_name, "storage": {"size": "1Gi"}, **spec}
        metadata = {"name": name, "namespace": self.namespace}
        self.kubectl.apply({"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "metadata": metadata, "spec": body})

    def create_volume(self, claim: str, *, mode: str, size: str, shareable: str, **source: Any) -> None:
        """Create a volume with that source, and a claim that has it and that UserStorages may use."""
        common = {"accessModes": [mode], "storageClassName": "", "volumeMode": "Filesystem"}
        reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": self.namespace, "name": claim}
        volume = {"capacity": {"storage": size}, "claimRef": reference, "persistentVolumeReclaimPolicy": "Retain", **source}
        labels = {"userstorage.dev/shareable": shareable}
        request = {"volumeName": self.namespace, "resources": {"requests": {"storage": size}}}
        self.kubectl.apply(
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": self.namespace}, "spec": common | volume},
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": claim, "namespace": self.namespace, "labels": labels},
                "spec": common | request,
            },
        )

    def get(self, kind: str, name: str) -> Object | None:
        return self.kubectl.get(kind, name, self.namespace)

    def pod(self, user: str) -> Object | None:
        return self.get("pod", f"user-storage-{user}")

    def claim(self, user: str) -> Object | None:
        return self.get("persistentvolumeclaim", f"user-storage-{user}")

    def ready_condition(self, user: str) -> tuple[str, str, str]:
        """Return status, reason and message of the condition Ready."""
        found = self.get("userstorage", user)
        assert found is not None
        [entry] = [entry for entry in found["status"]["conditions"] if entry["type"] == "Ready"]
        return entry["status"], entry["reason"], entry["message"]

    def until_ready(self, user: str, not_pod: str = "") -> Object:
        """Wait until the user is Ready for the current spec, with another pod than `not_pod`; return the status."""
        found: Object = {}

        def is_ready() -> bool:
            nonlocal found
            found = self.get("userstorage", user) or {}
            status = found["status"]
            conditions = {entry["type"]: entry["status"] for entry in status["conditions"]}
            current = status.get("observedGeneration") == found["metadata"]["generation"]
            settled = conditions.get("Ready") == conditions.get("PodUpToDate") == "True"
            return bool(current and settled and status["podUID"] != not_pod)

        try:
            eventually(is_ready, within=READY_SECONDS, every=POLL_SECONDS)
        except AssertionError:
            pytest.fail(f"not Ready within {READY_SECONDS:.0f} s: {found}\npod: {self.pod(user)}")
        status: Object = found["status"]
        return status

    def until_not_ready(self, user: str, reason: str) -> str:
        """Wait until Ready is False with that reason; return its message."""
        last = ("", "", "")

        def is_reported() -> bool:
            nonlocal last
            last = self.ready_condition(user)
            return last[:2] == ("False", reason)

        try:
            eventually(is_reported, within=NOT_READY_SECONDS, every=POLL_SECONDS)
        except AssertionError:
            pytest.fail(f"not {reason} within {NOT_READY_SECONDS:.0f} s but {last}\npod: {self.pod(user)}")
        return last[2]

    def delete_pod(self, user: str) -> Object:
        """Delete the pod as a node drain would, wait until the next pod is ready, and return the status."""
        pod = self.pod(user)
        assert pod is not None
        self.kubectl.delete("pod", pod["metadata"]["name"], namespace=self.namespace)
        return self.until_ready(user, not_pod=pod["metadata"]["uid"])

    def web(self, user: str) -> Web:
        """Return a client for the user's server, at the path of the URL in the status."""
        return Web(lambda: self.address(user), self.path(user))

    def address(self, user: str) -> str:
        """Return the current host:port at which this machine reaches the user's Service."""
        return self.cluster.address(self.namespace, f"user-storage-{user}")

    def path(self, user: str) -> str:
        """Return the path of the URL in the status."""
        found = self.get("userstorage", user)
        assert found is not None
        return urlsplit(str(found["status"]["url"])).path

    def volume(self, user: str) -> Path:
        """Return the directory of the user's volume. Skips the test if volumes are not directories of this machine."""
        if not self.cluster.has_local_volumes:
            pytest.skip("volumes can be read only on the local node (--cluster=local, as root)")
        claim = self.claim(user)
        assert claim is not None
        volume = self.kubectl.run("get", "pv", claim["spec"]["volumeName"], "-o", "jsonpath={.spec.local.path}")
        return Path(volume.stdout)

    def exec(self, user: str, *command: str) -> tuple[int, str]:
        """Run a command in the user's container; return its exit code, and stdout and stderr together."""
        done = self.kubectl.run(
            "exec", f"user-storage-{user}", "-c", "filebrowser", "-n", self.namespace, "--", *command, check=False
        )
        return done.returncode, (done.stdout + done.stderr).strip()
