"""What the children of a UserStorage share: metadata, the labels of the pod, and the claim with the files."""

from userstorage_operator.api import names
from userstorage_operator.api.subpath import directory
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.observed.claim_usage import ClaimUse


def selector(storage: UserStorage) -> dict[str, str]:
    """Return the labels by which the Service and the NetworkPolicy select the pod."""
    return {names.LABEL_SLUG: storage.slug}


def claim_name(storage: UserStorage) -> str:
    """Return the name of the claim that holds the files."""
    return storage.storage.claim_name or names.child_name(storage.slug)


def claim_use(storage: UserStorage) -> ClaimUse:
    """Return the claim and the directory of it that the UserStorage wants."""
    files = storage.storage
    return ClaimUse(claim_name(storage), directory(files.sub_path, storage.slug), files.read_only)


def owner_reference(storage: UserStorage) -> Unstructured:
    """Return the controller ownerReference of the children."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": storage.meta.name,
        "uid": storage.meta.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def metadata(storage: UserStorage) -> Unstructured:
    """Return the metadata of a child that goes with its UserStorage."""
    return {
        "name": names.child_name(storage.slug),
        "namespace": storage.meta.namespace,
        "labels": {
            **selector(storage),
            names.LABEL_APP: names.APP,
            names.LABEL_USER: storage.slug,
            names.LABEL_MANAGED_BY: names.MANAGED_BY,
            names.LABEL_RECOMMENDED_MANAGED_BY: names.MANAGED_BY,
            names.LABEL_OWNER_UID: storage.meta.uid,
        },
        "annotations": {names.ANNOTATION_USER_ID: storage.user_id},
        "ownerReferences": [owner_reference(storage)],
    }


def manifest(api_version: str, kind: str, meta: Unstructured, spec: Unstructured) -> Unstructured:
    """Return an object of that kind."""
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, "spec": spec}
