"""A pod as the operator creates it, for dry runs against the API server's admission."""

import copy

from support.builders import desired_of, filebrowser_class, storage_object
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.plan.diff import without_absent

FILEBROWSER = "docker.io/filebrowser/filebrowser:v2.63.23"


def pod(image: str = FILEBROWSER, class_name: str = "") -> Unstructured:
    """Return the pod that the operator creates for alice, without ownerReferences.

    The API server would look for the owner in the namespace.
    """
    pod_object = without_absent(desired_of(storage_object(), filebrowser_class()).pod)
    pod_object["metadata"] = {
        "name": "user-storage-alice",
        "labels": pod_object["metadata"]["labels"],
        "annotations": {"userstorage.dev/class": class_name},
    }
    for container in (*pod_object["spec"]["containers"], *pod_object["spec"]["initContainers"]):
        container["image"] = image
    return copy.deepcopy(pod_object)
