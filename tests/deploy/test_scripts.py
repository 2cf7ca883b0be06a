"""scripts/, as people run them, on a healthy installation and on broken ones."""

import json
from collections.abc import Iterator

import pytest

from support.installation import ROOT, SCRIPT_TIMEOUT, Installation, push_image
from support.kubectl import WAIT, eventually

REDIS = "deployment/userstorage-redis"
NO_LEADER = """
from userstorage_operator.cli import main
from userstorage_operator.manager import Manager
Manager.run = lambda *_: 1 / 0
main()
"""


@pytest.fixture
def without_redis(installation: Installation) -> Iterator[None]:
    installation.system("scale", REDIS, "--replicas=0")
    yield
    installation.system("scale", REDIS, "--replicas=1")
    installation.system("rollout", "status", REDIS, WAIT)


@pytest.fixture
def crashing(installation: Installation) -> str:
    """The reference, in the registry, of an image that exits at once."""
    return push_image(installation.registry, "crashing", "/bin/false")


@pytest.fixture
def unfit(installation: Installation) -> str:
    """The reference, in the registry, of an image that waits for the lease but exits when it becomes leader."""
    return push_image(installation.registry, "unfit", "python", "-c", NO_LEADER)


@pytest.fixture
def without_election(installation: Installation) -> Iterator[None]:
    installation.system("delete", "rolebinding", "userstorage-operator-election")
    yield
    installation.kubectl.run("apply", "-k", str(ROOT / "deploy/rbac"))
    installation.until_rolled_out()
    eventually(lambda: installation.run_script("health-check.sh")[0] == 0)


def test_scripts_report_healthy_installation(installation: Installation, user_namespace: str) -> None:
    installation.until_rolled_out()
    leader = installation.leader()
    code, output = installation.run_script("health-check.sh")
    assert code == 0, output
    assert "ok    deployment  3 of 3 replicas available" in output
    assert f"ok    {leader}  leading" in output
    assert output.count("  standby") == 2
    assert f"ok    lease  held by {leader}" in output
    assert "BAD" not in output

    eventually(lambda: installation.run_script("monitor-cache.sh")[0] == 0)
    code, output = installation.run_script("monitor-cache.sh", "-o", "json")
    assert json.loads(output)["mirror"]["complete"] is True

    create_user(installation, user_namespace, "alice", "dufs")
    create_user(installation, user_namespace, "bob", "no-such-class")
    eventually(lambda: installation.kubectl.phase("alice", user_namespace) == "Ready")
    eventually(lambda: "1 Ready" in installation.run_script("k8s-status.sh")[1])
    code, output = installation.run_script("k8s-status.sh")
    assert code == 0
    assert "deployment.apps/userstorage-operator   3/3" in output
    _, _, troubled = output.partition("== neither Ready nor Suspended")
    assert "bob" in troubled
    assert "alice" not in troubled


def test_scripts_report_missing_redis(installation: Installation, without_redis: None) -> None:
    def is_reported() -> bool:
        code, output = installation.run_script("monitor-cache.sh")
        return code == 1 and "Redis does not answer" in output

    eventually(is_reported)
    # The operator works without Redis, and reports that.
    eventually(lambda: "degraded redis:" in installation.run_script("health-check.sh")[1])
    code, output = installation.run_script("health-check.sh")
    assert code == 0, output


def test_health_check_reports_missing_leader(installation: Installation, without_election: None) -> None:
    def is_reported() -> bool:
        code, output = installation.run_script("health-check.sh")
        return code == 1 and "which does not lead" in output

    eventually(is_reported)


def test_deploy_builds_pushes_and_rolls_out_image(installation: Installation) -> None:
    image = f"{installation.registry}/userstorage-operator:next"
    code, output = installation.run_script("deploy.sh", "--plain-http", "--overlay", "deploy/overlays/demo", image)
    assert code == 0, output
    assert output.endswith(f"deployed {image}\n")
    installation.until_rolled_out()
    assert images(installation) == {image}
    code, output = installation.run_script("deploy.sh", "--no-build", "--overlay", "deploy/overlays/demo", image)
    assert (code, output.splitlines()[-1].partition(":")[0]) == (0, "nothing to roll out")


def test_image_that_never_becomes_leader_is_rolled_back(installation: Installation, unfit: str) -> None:
    before = images(installation)
    code, output = installation.run_script(
        "deploy.sh", "--no-build", "--timeout", "120s", "--overlay", "deploy/overlays/demo", unfit
    )
    assert code == 1
    assert output.endswith(f"rolled back to {''.join(before)}\n")
    installation.until_rolled_out()
    assert images(installation) == before


def test_partly_refused_overlay_is_rolled_back(installation: Installation, unfit: str) -> None:
    """Deploy an overlay whose Prometheus CRDs are missing: the Deployment is applied before the objects that are refused."""
    before = images(installation)
    code, output = installation.run_script("deploy.sh", "--no-build", "--overlay", "deploy/overlays/monitoring", unfit)
    assert code == 1
    assert "not all of" in output
    assert output.endswith(f"rolled back to {''.join(before)}\n")
    installation.until_rolled_out()


@pytest.mark.parametrize(
    "arguments",
    [(), ("a:1", "b:1"), ("a:1", "--timeout", "300"), ("a:1", "--overlay"), ("a:1", "--overlay", "nowhere"), ("a",), ("--x",)],
)
def test_invalid_arguments_change_nothing(arguments: tuple[str, ...], installation: Installation) -> None:
    before = installation.system("get", "deployment/userstorage-operator", "-o", "jsonpath={.metadata.resourceVersion}")
    code, output = installation.run_script("deploy.sh", *arguments)
    assert code == 2
    assert output.startswith("deploy: ")
    assert "usage: " in output
    assert installation.system("get", "deployment/userstorage-operator", "-o", "jsonpath={.metadata.resourceVersion}") == before


def test_crashing_image_is_rolled_back_without_downtime(installation: Installation, crashing: str) -> None:
    installation.until_rolled_out()
    before, image = pod_names(installation), images(installation)
    options = ("--no-build", "--timeout", "60s", "--overlay", "deploy/overlays/demo")
    deploying = installation.script("deploy.sh", *options, crashing)
    try:
        eventually(lambda: len(pod_names(installation)) == 4)
        [new] = pod_names(installation) - before

        def is_reported() -> bool:
            code, output = installation.run_script("health-check.sh")
            return code == 1 and f"BAD   {new}" in output

        eventually(is_reported, every=1)
        assert before <= pod_names(installation)
    finally:
        output, _ = deploying.communicate(timeout=SCRIPT_TIMEOUT)
    assert deploying.returncode == 1, output
    assert f"{crashing} did not get ready" in output
    assert output.endswith(f"rolled back to {''.join(image)}\n")
    installation.until_rolled_out()
    assert pod_names(installation) == before
    assert images(installation) == image


def test_scripts_report_missing_installation(installation: Installation) -> None:
    """Delete the operator: this test runs last of all files."""
    installation.system("delete", "deployment", "userstorage-operator")
    code, output = installation.run_script("health-check.sh")
    assert (code, output) == (1, "BAD   deployment  not installed\n")
    eventually(lambda: not installation.pods())
    assert installation.run_script("monitor-cache.sh") == (1, "no replica of the operator runs\n")


def create_user(installation: Installation, namespace: str, name: str, class_name: str) -> None:
    metadata = {"name": name, "namespace": namespace}
    spec = {"userID": name, "className": class_name, "storage": {"size": "1Mi"}}
    installation.kubectl.apply({"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "metadata": metadata, "spec": spec})


def pod_names(installation: Installation) -> set[str]:
    return {pod["metadata"]["name"] for pod in installation.pods()}


def images(installation: Installation) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in installation.pods()}
