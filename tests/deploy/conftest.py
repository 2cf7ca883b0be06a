"""One node cluster for all deployment tests, with the image built here and deploy/overlays/demo applied unchanged."""

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import localcluster
from conftest import chosen_cluster
from localcluster import registry
from localcluster.progress import silent
from manifests.render import render
from operatorimage import BUILDAH, engines
from support.cluster_access import can_create_namespaces
from support.installation import IMAGE, ROOT, Installation
from support.kubectl import WAIT, Kubectl
from testservers.redis import image_archive


@pytest.fixture(scope="session")
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The operator with three replicas and a Redis, rolled out."""
    if chosen_cluster(request.config) != "local":
        pytest.skip("the Deployment is tested only on a node cluster of this test run (--cluster=local, as root)")
    directory = tmp_path_factory.mktemp("node")
    try:
        cluster = localcluster.start("node", directory)
    except localcluster.ClusterError as error:
        if can_create_namespaces():
            raise
        pytest.skip(f"the Deployment on real containers: {error}")
    try:
        with Kubectl(cluster.kubeconfig) as kubectl:
            found = Installation(kubectl, directory, registry.start(directory))
            subprocess.run([ROOT / "scripts/redis-secret.sh"], check=True)
            load_images(directory, tmp_path_factory.mktemp("images") / "operator.tar")
            found.install()
            yield found
    finally:
        localcluster.stop(directory)


def load_images(directory: Path, archive: Path) -> None:
    """Load the images of the demo's pods onto the node, as if it had pulled them."""
    engines.choose(silent)
    BUILDAH.build(IMAGE, engines.debian_base(silent))
    BUILDAH.save(IMAGE, archive)
    [redis] = {
        container["image"]
        for manifest in render("deploy/overlays/demo")
        if manifest["kind"] == "Deployment" and manifest["metadata"]["name"] == "userstorage-redis"
        for container in manifest["spec"]["template"]["spec"]["containers"]
    }
    localcluster.load_images(directory, [archive, image_archive(redis, silent)])


@pytest.fixture
def user_namespace(installation: Installation) -> Iterator[str]:
    """A new namespace that enforces Pod Security `restricted`; the examples' class is applied and is the default."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    installation.kubectl.run("apply", "-f", str(ROOT / "examples/dufs-class.yaml"))
    installation.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    yield name
    installation.kubectl.run("delete", "namespace", name, WAIT)
