"""The profile `node`: control groups, volumes, progress reports and deleted files."""

import io
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from localcluster import cgroups, nodeconfig, provisioner
from localcluster.errors import ClusterError
from localcluster.layout import Layout
from localcluster.progress import MORE, Console

CLAIM: dict[str, Any] = {
    "metadata": {
        "name": "data",
        "namespace": "default",
        "uid": "u1",
        "annotations": {
            "volume.kubernetes.io/storage-provisioner": provisioner.PROVISIONER,
            "volume.kubernetes.io/selected-node": "localnode",
        },
    },
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "standard",
        "resources": {"requests": {"storage": "1Gi"}},
    },
    "status": {"phase": "Pending"},
}


def changed(item: dict[str, Any], part: str, **fields: object) -> dict[str, Any]:
    return {**item, part: {**item[part], **fields}}


def test_claim_gets_a_volume_once_its_pod_is_scheduled_to_the_node() -> None:
    assert provisioner.wants_volume(CLAIM, "localnode")
    assert not provisioner.wants_volume(CLAIM, "other")
    assert not provisioner.wants_volume(changed(CLAIM, "metadata", annotations=None), "localnode")
    assert not provisioner.wants_volume(changed(CLAIM, "spec", volumeName="pvc-u1"), "localnode")
    assert not provisioner.wants_volume(changed(CLAIM, "metadata", deletionTimestamp="now"), "localnode")


def test_volume_is_reserved_for_its_claim_and_deleted_when_released() -> None:
    volume = provisioner.volume_for(CLAIM, Path("/volumes/pvc-u1"), "localnode")
    assert volume["spec"]["claimRef"]["uid"] == "u1"
    assert volume["spec"]["local"]["path"] == "/volumes/pvc-u1"
    assert provisioner.is_released({**volume, "status": {"phase": "Released"}})
    assert not provisioner.is_released({**volume, "status": {"phase": "Bound"}})
    kept = changed(volume, "spec", persistentVolumeReclaimPolicy="Retain")
    assert not provisioner.is_released({**kept, "status": {"phase": "Released"}})
    foreign = changed(volume, "metadata", annotations={})
    assert not provisioner.is_released({**foreign, "status": {"phase": "Released"}})


@pytest.fixture
def hierarchies(tmp_path: Path) -> Path:
    for name in ("cpu", "memory"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").touch()
    (tmp_path / "not-a-hierarchy").mkdir()
    return tmp_path


def test_control_group_is_created_in_every_hierarchy_of_cgroup_version_1(hierarchies: Path) -> None:
    cgroups.create("node-0", hierarchies)
    assert sorted(path.parent.name for path in hierarchies.glob("*/node-0")) == ["cpu", "memory"]
    (hierarchies / "memory" / "node-0" / "kubepods" / "pod1").mkdir(parents=True)
    cgroups.remove("node-0", hierarchies)
    assert not list(hierarchies.glob("*/node-0"))


def test_control_group_of_cgroup_version_2_delegates_controllers(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu memory rdma pids\n")
    cgroups.create("node-0", tmp_path)
    assert cgroups.is_unified(tmp_path)
    assert (tmp_path / "node-0" / "cgroup.subtree_control").read_text() == "+cpuset +cpu +memory +pids"


def test_clearing_a_directory_keeps_files_that_are_not_of_the_cluster(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "cluster")
    layout.keys.mkdir(parents=True)
    layout.kubeconfig.touch()
    (layout.directory / "notes").touch()
    layout.clear()
    assert [path.name for path in layout.directory.iterdir()] == ["notes"]
    (layout.directory / "notes").unlink()
    layout.clear()
    assert not layout.directory.exists()


def test_progress_is_written_every_twenty_seconds_without_a_terminal() -> None:
    stream, seconds = io.StringIO(), iter([0.0, 1.0, 2.0, 21.0, 22.0, 23.0])
    console = Console(stream, clock=lambda: next(seconds))
    for line in ("started", "a" + MORE, "b" + MORE, "c" + MORE, "done"):
        console(line)
    assert [line.split("s  ")[1] for line in stream.getvalue().splitlines()] == ["started", "b" + MORE, "done"]


@pytest.mark.parametrize(("length", "fits"), [(70, True), (71, False)])
def test_directory_too_deep_for_sockets_is_refused(length: int, fits: bool) -> None:
    layout = Layout(Path("/" + "d" * (length - 1)))
    with nullcontext() if fits else pytest.raises(ClusterError, match="1 bytes too long"):
        nodeconfig.check_length(layout)
