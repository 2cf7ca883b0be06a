"""A pod as the operator creates it, for dry runs against the API server's admission."""

import copy

from support.builders import desired_of, storage_object
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.plan.diff import without_absent

FILEBROWSER = "docker.io/filebrowser/filebrowser:v2.63.23"


def pod(image: str = FILEBROWSER, class_name: str = "") -> Unstructured:
    """Return the pod that the operator creates for alice, without ownerReferences.

    The API server would look for the owner in the namespace.
    """
    made = without_absent(desired_of(storage_object()).pod)
    made["metadata"] = {
        "name": "user-storage-alice",
        "labels": made["metadata"]["labels"],
        "annotations": {"userstorage.dev/class": class_name},
    }
    for container in (*made["spec"]["containers"], *made["spec"]["initContainers"]):
        container["image"] = image
    return copy.deepcopy(made)
