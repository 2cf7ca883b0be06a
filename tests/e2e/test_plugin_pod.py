"""`kubectl userstorage open` and `logs`, with a real pod."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import yaml

from support.backend import account
from support.cluster_access import ClusterAccess
from support.kubectl import PATIENCE, eventually
from support.plugin import Plugin
from support.users import FILE_BROWSER, NamespaceUsers

BASE = "/files/${slug}/"


@pytest.fixture
def plugin(cluster: ClusterAccess, users: NamespaceUsers) -> Plugin:
    return Plugin(cluster.kubectl.kubeconfig, users.namespace)


def listening(process: subprocess.Popen[str]) -> set[tuple[str, int]]:
    """Return the addresses (as in /proc/net/tcp) and ports on which a process accepts connections."""
    proc = Path(f"/proc/{process.pid}")
    links = []
    for entry in (proc / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            links.append(str(entry.readlink()))
    inodes = {link.removeprefix("socket:[").rstrip("]") for link in links}
    rows = [line.split() for family in ("tcp", "tcp6") for line in (proc / "net" / family).read_text().splitlines()[1:]]
    found = [row[1].split(":") for row in rows if row[3] == "0A" and row[9] in inodes]
    return {(address, int(port, 16)) for address, port in found}


@contextmanager
def opened(plugin: Plugin, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `open` and yield the address that it prints, and the process; it ends at an interrupt."""
    process = plugin.start("open", "alice", "--no-browser", *options)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process
    finally:
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, complaint
    assert "Traceback" not in complaint


def test_open_lets_the_caller_in_as_the_owner(users: NamespaceUsers, plugin: Plugin) -> None:
    users.apply_user("alice", users.create_class(FILE_BROWSER, basePath=BASE))
    users.until_ready("alice")
    with opened(plugin) as (url, process):
        assert url.startswith("http://127.0.0.1:")
        assert url.endswith("/files/alice/")
        with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client:
            assert client.get("health").status_code == 200
            # File Browser gives a session to its owner alone, whom this client does not name.
            session = client.post("api/login", headers={"X-Forwarded-User": "bob"})
            assert session.status_code == 200, session.text
            login = {"X-Auth": session.text}
            assert client.get("api/resources/", headers=login).status_code == 200
            content = os.urandom(3_000_000)
            assert client.post("api/resources/big", content=content, headers=login).status_code == 200
            assert client.get("api/raw/big", headers=login).content == content
            assert client.get("health", headers={"Host": "evil.example.org"}).status_code == 403
            assert client.get("health", headers={"Origin": "https://evil.example.org"}).status_code == 403
            # Nothing else of the command leads to the pod.
            assert listening(process) == {("0100007F", client.base_url.port)}
            users.apply_user("alice", users.classes[-1], replicas=0)
            eventually(lambda: client.get("health").status_code == 502)
            assert "is its pod still running?" in client.get("health").text
            # The command goes on, and so does the page when the pod is back.
            users.apply_user("alice", users.classes[-1], replicas=1)
            eventually(lambda: client.get("health").status_code == 200)


def test_open_without_the_right_ends_before_it_prints_an_address(
    users: NamespaceUsers, cluster: ClusterAccess, tmp_path: Path
) -> None:
    users.apply_user("alice", users.create_class(FILE_BROWSER))
    users.until_ready("alice")
    kubectl, namespace = cluster.kubectl, users.namespace
    config = yaml.safe_load(kubectl.kubeconfig.read_text())
    token = account(kubectl, namespace, "opener", everywhere=True)
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    path = tmp_path / "opener"
    path.write_text(yaml.safe_dump(config))
    plugin = Plugin(path, namespace)

    def grant(name: str, verbs: str, resource: str) -> None:
        kubectl.run("create", "role", name, "-n", namespace, f"--verb={verbs}", f"--resource={resource}")
        kubectl.run("create", "rolebinding", name, "-n", namespace, f"--role={name}", f"--serviceaccount={namespace}:opener")

    grant("pods", "get", "pods")
    refused = plugin("open", "alice", "--no-browser")
    assert (refused.returncode, refused.stdout) == (3, "")
    [line] = refused.stderr.splitlines()
    assert line.startswith("error: pods/portforward of 'user-storage-alice'")
    assert "needs the rights get and create" in line
    grant("forward", "get,create", "pods/portforward")
    with opened(plugin) as (url, _):
        assert httpx.get(f"{url}health", timeout=PATIENCE, trust_env=False).status_code == 200
    kubectl.delete("clusterrolebinding", f"{namespace}-opener")


def test_open_without_a_pod_says_so(users: NamespaceUsers, plugin: Plugin) -> None:
    users.apply_user("alice", users.create_class(FILE_BROWSER), replicas=0)
    refused = plugin("open", "alice", "--no-browser")
    assert refused.returncode == 1
    assert "UserStorage 'alice' has no pod; next: kubectl userstorage explain alice" in refused.stderr


def test_logs_are_those_of_the_browser(users: NamespaceUsers, plugin: Plugin) -> None:
    users.apply_user("alice", users.create_class(FILE_BROWSER))
    users.until_ready("alice")
    eventually(lambda: "Listening on" in plugin("logs", "alice").stdout)
    assert len(plugin("logs", "alice", "--tail=1").stdout.splitlines()) == 1
    stamped = plugin("logs", "alice", "--tail=1", "--timestamps").stdout
    assert stamped.startswith("20")
    missing = plugin("logs", "alice", "-c", "nothing")
    assert missing.returncode == 3
    assert "nothing" in missing.stderr
    following = plugin.start("logs", "alice", "-f")
    assert following.stdout is not None
    assert following.stdout.readline()
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=PATIENCE)
    assert following.returncode == 130
