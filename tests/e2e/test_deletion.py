"""`kubectl delete us` on real containers."""

import time

import pytest

from support.kubectl import eventually
from support.users import World

PLENTY = 25.0
"""Seconds; less than the grace period, which a program that does not hear the signal to end would take."""


@pytest.mark.parametrize(("flavor", "policy"), [("filebrowser", "Retain"), ("dufs", "Delete")])
def test_the_pod_goes_gracefully_then_the_object_and_the_claim_as_asked(
    world: World, request: pytest.FixtureRequest, flavor: str, policy: str
) -> None:
    world.make_user("alice", request.getfixturevalue(flavor), storage={"size": "1Gi", "reclaimPolicy": policy})
    world.until_ready("alice")
    pod, claim = world.pod("alice"), world.claim("alice")
    assert pod is not None
    assert claim is not None
    assert pod["spec"]["terminationGracePeriodSeconds"] == 30

    begin = time.monotonic()
    world.kubectl.run("delete", "us", "alice", "-n", world.namespace, "--wait=false")
    while world.get("userstorage", "alice") is not None:
        time.sleep(0.1)
        assert time.monotonic() - begin < PLENTY
    assert world.pod("alice") is None, "the object went before its pod"

    if policy == "Retain":
        kept = world.claim("alice")
        assert kept is not None
        assert kept["metadata"]["uid"] == claim["metadata"]["uid"]
        assert "deletionTimestamp" not in kept["metadata"]
    else:
        # By the garbage collector, which takes note of a new kind up to half a minute late.
        eventually(lambda: world.claim("alice") is None)


def test_files_stay_for_the_next_object_or_go_with_the_last(world: World, dufs: str) -> None:
    world.make_user("alice", dufs)
    world.until_ready("alice")
    assert world.web("alice").ask("PUT", "notes.txt", b"of alice").code == 201
    volume = world.volume("alice")
    world.kubectl.run("delete", "us", "alice", "-n", world.namespace)
    assert (volume / "notes.txt").read_bytes() == b"of alice"

    world.make_user("alice", dufs, storage={"size": "1Gi", "reclaimPolicy": "Delete"})
    world.until_ready("alice")
    assert world.volume("alice") == volume
    assert world.web("alice").ask("GET", "notes.txt").body == b"of alice"
    world.kubectl.run("delete", "us", "alice", "-n", world.namespace)
    eventually(lambda: not volume.exists())
