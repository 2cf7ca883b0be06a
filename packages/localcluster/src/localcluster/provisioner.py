"""Creates volumes for the PersistentVolumeClaims of a node: `python -m localcluster.provisioner SERVER KEYS VOLUMES NODE`.

A volume is a directory and a PersistentVolume of type `local`. kubelet applies fsGroup to that type, as to the volumes of a
cloud, but not to hostPath. Sizes are recorded and not enforced.
"""

import logging
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from localcluster.api import Api, ApiError, Object

PROVISIONER = "localcluster.userstorage.dev/local"
STORAGE_CLASS: dict[str, Any] = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": PROVISIONER,
    "volumeBindingMode": "WaitForFirstConsumer",
    "reclaimPolicy": "Delete",
}

SECONDS_BETWEEN_POLLS = 0.3

log = logging.getLogger("provisioner")


def wants_volume(claim: Object, node: str) -> bool:
    """Whether this provisioner has to create a volume: the claim has none yet, and its pod is scheduled to the node."""
    annotations = claim["metadata"].get("annotations") or {}
    return (
        annotations.get("volume.kubernetes.io/storage-provisioner") == PROVISIONER
        and annotations.get("volume.kubernetes.io/selected-node") == node
        and not claim["spec"].get("volumeName")
        and not claim["metadata"].get("deletionTimestamp")
    )


def is_released(volume: Object) -> bool:
    """Whether this provisioner has to delete the volume.

    True if it created the volume, the claim is deleted, and the reclaim policy of the PersistentVolume is Delete.
    """
    metadata, spec = volume["metadata"], volume["spec"]
    return (
        (metadata.get("annotations") or {}).get("pv.kubernetes.io/provisioned-by") == PROVISIONER
        and volume["status"].get("phase") in {"Released", "Failed"}
        and spec.get("persistentVolumeReclaimPolicy") == "Delete"
        and not metadata.get("deletionTimestamp")
    )


def volume_for(claim: Object, directory: Path, node: str) -> Object:
    """Return the PersistentVolume object that stores its data in `directory` and is reserved for `claim`."""
    metadata, spec = claim["metadata"], claim["spec"]
    on_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": directory.name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": STORAGE_CLASS["reclaimPolicy"],
            "storageClassName": spec["storageClassName"],
            "volumeMode": "Filesystem",
            "local": {"path": str(directory)},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}},
        },
    }


def reconcile_once(api: Api, volumes: Path, node: str) -> None:
    """Create a volume for each claim that waits for one, and delete the volumes of deleted claims.

    Raises ApiError if the API server refuses a request.
    """
    for claim in api.get("/api/v1/persistentvolumeclaims")["items"]:
        if not wants_volume(claim, node):
            continue
        directory = volumes / f"pvc-{claim['metadata']['uid']}"
        directory.mkdir(parents=True, exist_ok=True)
        # Writable for the group, which kubelet sets to the group of the pod, but not for others.
        directory.chmod(0o770)
        try:
            api.create("/api/v1/persistentvolumes", volume_for(claim, directory, node))
        except ApiError as error:
            if error.code != 409:  # created earlier, and not bound yet
                raise
        else:
            log.info("created %s for %s/%s", directory.name, claim["metadata"]["namespace"], claim["metadata"]["name"])
    for volume in api.get("/api/v1/persistentvolumes")["items"]:
        if is_released(volume):
            name = volume["metadata"]["name"]
            shutil.rmtree(volumes / name, ignore_errors=True)
            api.delete(f"/api/v1/persistentvolumes/{name}")
            log.info("deleted %s", name)


def main() -> None:
    """Create and delete volumes until the process is killed. Failed requests are logged and repeated."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    server, keys, volumes, node = sys.argv[1:]
    api = Api(server, Path(keys), "provisioner")
    while True:
        try:
            reconcile_once(api, Path(volumes), node)
        except ApiError as error:
            log.warning("%s", error)
        time.sleep(SECONDS_BETWEEN_POLLS)


if __name__ == "__main__":
    main()
