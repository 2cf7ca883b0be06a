"""`kubectl userstorage open` and `logs`, with a real pod."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from support.cluster_access import ClusterAccess
from support.kubectl import PATIENCE, eventually
from support.plugin import Plugin
from support.users import FILE_BROWSER, NamespaceUsers

BASE = "/files/${slug}/"


@pytest.fixture
def plugin(cluster: ClusterAccess, users: NamespaceUsers) -> Plugin:
    return Plugin(cluster.kubectl.kubeconfig, users.namespace)


@contextmanager
def opened(plugin: Plugin, *options: str) -> Iterator[str]:
    """Run `open` and yield the address that it prints; it ends at an interrupt."""
    process = plugin.start("open", "alice", "--no-browser", *options)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, complaint
    assert "Traceback" not in complaint


def test_open_lets_the_caller_in_as_the_owner(users: NamespaceUsers, plugin: Plugin) -> None:
    users.apply_user("alice", users.create_class(FILE_BROWSER, basePath=BASE))
    users.until_ready("alice")
    with opened(plugin) as url:
        assert url.startswith("http://127.0.0.1:")
        assert url.endswith("/files/alice/")
        with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client:
            assert client.get("health").status_code == 200
            # File Browser gives a session to its owner alone, whom this client does not name.
            session = client.post("api/login", headers={"X-Forwarded-User": "bob"})
            assert session.status_code == 200, session.text
            assert client.get("api/resources/", headers={"X-Auth": session.text}).status_code == 200
            assert client.get("health", headers={"Host": "evil.example.org"}).status_code == 403


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
