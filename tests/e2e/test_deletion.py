"""`kubectl delete us` on real containers."""

import time

import pytest

from support.kubectl import PATIENCE, eventually
from support.users import NamespaceUsers

GRACE_SECONDS = 3600
"""The grace period, after which a program that ignores SIGTERM would be killed: much longer than PATIENCE."""


@pytest.mark.parametrize(("flavor", "policy"), [("filebrowser", "Retain"), ("dufs", "Delete")])
def test_deletion_terminates_pod_gracefully_and_follows_reclaim_policy(
    users: NamespaceUsers, request: pytest.FixtureRequest, flavor: str, policy: str
) -> None:
    storage, lifecycle = {"size": "1Gi", "reclaimPolicy": policy}, {"terminationGracePeriodSeconds": GRACE_SECONDS}
    users.apply_user("alice", request.getfixturevalue(flavor), storage=storage, lifecycle=lifecycle)
    users.until_ready("alice")
    pod, claim = users.pod("alice"), users.claim("alice")
    assert pod is not None
    assert claim is not None
    assert pod["spec"]["terminationGracePeriodSeconds"] == GRACE_SECONDS

    started = time.monotonic()
    users.kubectl.delete("us", "alice", namespace=users.namespace)
    while users.get("userstorage", "alice") is not None:
        time.sleep(0.1)
        assert time.monotonic() - started < PATIENCE
    assert users.pod("alice") is None, "the object was gone before its pod"

    if policy == "Retain":
        kept = users.claim("alice")
        assert kept is not None
        assert kept["metadata"]["uid"] == claim["metadata"]["uid"]
        assert "deletionTimestamp" not in kept["metadata"]
    else:
        # The garbage collector deletes the claim; it discovers a new kind up to half a minute late.
        eventually(lambda: users.claim("alice") is None)


def test_files_are_kept_or_deleted_by_reclaim_policy(users: NamespaceUsers, dufs: str) -> None:
    users.apply_user("alice", dufs)
    users.until_ready("alice")
    assert users.web("alice").request("PUT", "notes.txt", b"of alice").code == 201
    volume = users.volume("alice")
    users.kubectl.run("delete", "us", "alice", "-n", users.namespace)
    assert (volume / "notes.txt").read_bytes() == b"of alice"

    users.apply_user("alice", dufs, storage={"size": "1Gi", "reclaimPolicy": "Delete"})
    users.until_ready("alice")
    assert users.volume("alice") == volume
    assert users.web("alice").request("GET", "notes.txt").body == b"of alice"
    users.kubectl.run("delete", "us", "alice", "-n", users.namespace)
    eventually(lambda: not volume.exists())
