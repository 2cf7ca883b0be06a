"""`kubectl userstorage` against a real API server: reading and changing UserStorages, and where it looks for them."""

import asyncio
import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.inprocess import RecordedMetrics
from support.kubectl import Kubectl
from support.live import Live
from support.plugin import COMPLETE, Plugin
from userstorage_operator.api.names import ANNOTATION_PAUSED
from userstorage_operator.api.resources import Kind

pytestmark = pytest.mark.kwok


@pytest.fixture
def plugin(api: Kubectl, namespace: str) -> Plugin:
    return Plugin(api.kubeconfig, namespace)


async def done(call: Any, *arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(call, *arguments, **options)


async def test_list_shows_what_kubectl_shows(live: Live, operator: RecordedMetrics, plugin: Plugin) -> None:
    await live.create()
    await live.create("bob", replicas=0)
    await live.until_ready()
    await live.until_condition("Suspended", "True", "Requested", "bob")
    listed = await done(plugin, "list")
    assert listed.returncode == 0, listed.stderr
    assert "\x1b" not in listed.stdout
    header, *rows = listed.stdout.splitlines()
    assert header.split() == ["NAME", "USER", "PHASE", "READY", "REASON", "CAPACITY", "AGE"]
    assert [row.split()[:5] for row in rows] == [
        ["alice", "alice", "Ready", "True", "PodReady"],
        ["bob", "bob", "Suspended", "False", "Suspended"],
    ]
    wide = await done(plugin, "list", "-o", "wide")
    assert wide.stdout.splitlines()[0].split()[7:] == ["URL", "NODE", "CLAIM", "USED%", "CLASS", "PAUSED"]
    everywhere = await done(plugin.anywhere, "list", "-A")
    assert everywhere.stdout.splitlines()[0].split()[:2] == ["NAMESPACE", "NAME"]
    assert [live.namespace, "alice", "alice", "Ready"] in [row.split()[:4] for row in everywhere.stdout.splitlines()]


async def test_list_is_filtered_and_written_as_asked(live: Live, operator: RecordedMetrics, plugin: Plugin) -> None:
    await live.create()
    await live.create("bob", replicas=0, user_id="bob@example.org")
    await live.until_ready()
    await live.until_condition("Suspended", "True", "Requested", "bob")
    for option in ("--not-ready", "--phase=Suspended", "--user=bob@example.org"):
        assert (await done(plugin, "list", "-o", "name", option)).stdout == "userstorage.userstorage.dev/bob\n"
    listed = json.loads((await done(plugin, "list", "-o", "json", "--not-ready")).stdout)
    assert [item["metadata"]["name"] for item in listed["items"]] == ["bob"]
    assert "managedFields" not in listed["items"][0]["metadata"]
    assert yaml.safe_load((await done(plugin, "list", "-o", "yaml")).stdout)["items"][0]["spec"]["userID"] == "alice"
    none = await done(plugin, "list", "--user=nobody")
    assert (none.returncode, none.stdout) == (0, "")
    assert f"No UserStorages found in namespace {live.namespace}." in none.stderr


@pytest.mark.parametrize("user_id", ["CORP\\alice", "cn=alice,o=example", "alice\\,=x"])
async def test_user_of_any_id_is_found(live: Live, plugin: Plugin, user_id: str) -> None:
    await live.create("alice", user_id=user_id)
    await live.create("bob")
    listed = await done(plugin, "list", "-o", "name", f"--user={user_id}")
    assert (listed.returncode, listed.stdout) == (0, "userstorage.userstorage.dev/alice\n"), listed.stderr


async def test_status_and_explain_of_a_ready_user(live: Live, operator: RecordedMetrics, plugin: Plugin) -> None:
    await live.create()
    await live.until_ready()
    status = await done(plugin, "status", "alice")
    assert status.returncode == 0, status.stderr
    assert "Phase:      Ready\n" in status.stdout
    assert ["Ready", "True", "PodReady"] in [line.split()[:3] for line in status.stdout.splitlines()]
    as_json = json.loads((await done(plugin, "status", "alice", "-o", "json")).stdout)
    assert as_json["status"]["phase"] == "Ready"
    explained = await done(plugin, "explain", "alice")
    assert (explained.returncode, explained.stdout) == (
        0,
        f"{live.namespace}/alice: Ready at http://user-storage-alice.{live.namespace}.svc/\n",
    )
    guarded = await done(plugin, "explain", "alice", "--guards")
    assert "does the pod compare the name, in the header X-Forwarded-User? yes: Copyparty" in guarded.stdout


async def test_explain_names_cause_actor_and_next_command(live: Live, operator: RecordedMetrics, plugin: Plugin) -> None:
    await live.create("bob", className="no-such-class")
    await live.until_condition("Ready", "False", "ClassNotFound", "bob")
    for verb in ("explain", "status"):
        assert (await done(plugin, verb, "bob")).returncode == 1
    explained = (await done(plugin, "explain", "bob")).stdout
    assert "ClassNotFound" in explained
    assert "no-such-class" in explained
    assert "who: the tenant" in explained
    assert "$ kubectl get userstorageclasses" in explained


async def test_class_is_explained(live: Live, operator_of_all: RecordedMetrics, plugin: Plugin) -> None:
    async def is_valid() -> bool:
        return (await done(plugin.anywhere, "explain", f"usc/{live.lab_class}")).returncode == 0

    await live.until(is_valid)
    explained = await done(plugin.anywhere, "explain", f"userstorageclass/{live.lab_class}")
    first, *others = explained.stdout.splitlines()
    assert first == f"userstorageclass {live.lab_class}: Valid"
    assert "  ImagePinned=False NoDigest since " in "\n".join(others)  # built-in images are named by tags
    assert others[-1] == f"      $ kubectl edit userstorageclass {live.lab_class}"


async def test_missing_object_and_missing_rights_have_their_exit_codes(
    live: Live, plugin: Plugin, tmp_path: Path, api: Kubectl
) -> None:
    for verb in ("status", "explain", "suspend", "resume", "restart", "logs"):
        missing = await done(plugin, verb, "nobody")
        assert missing.returncode == 4, verb
        assert missing.stderr == f"error: there is no UserStorage 'nobody' in namespace '{live.namespace}'\n"
    config = yaml.safe_load(api.kubeconfig.read_text())
    config["users"] = [{"name": user["name"], "user": {"token": "not-a-token"}} for user in config["users"]]
    stranger = tmp_path / "stranger"
    stranger.write_text(yaml.safe_dump(config))
    refused = await done(plugin, "list", "--kubeconfig", str(stranger))
    assert refused.returncode == 3
    assert "Unauthorized" in refused.stderr
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    stranger.write_text(yaml.safe_dump(config))
    away = await done(plugin, "list", "--kubeconfig", str(stranger))
    assert away.returncode == 3
    assert "the API server does not answer" in away.stderr
    for option in (["--context", "nowhere"], ["--kubeconfig", str(tmp_path / "missing")]):
        wrong = await done(plugin, "list", *option)
        assert wrong.returncode == 3
        assert f"error: {option[0]} {option[1]}: " in wrong.stderr
        assert "Traceback" not in wrong.stderr
    both = await done(plugin, "list", "-A")
    assert both.returncode == 2
    assert "--all-namespaces: cannot be used with --namespace" in both.stderr


async def test_namespace_comes_from_the_context(live: Live, plugin: Plugin, tmp_path: Path, api: Kubectl) -> None:
    await live.create()
    config = yaml.safe_load(api.kubeconfig.read_text())
    config["contexts"].append({"name": "other", "context": {**config["contexts"][0]["context"], "namespace": live.namespace}})
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    listed = await done(plugin.anywhere, "list", "--kubeconfig", str(path), "--context", "other", "-o", "name")
    assert listed.stdout == "userstorage.userstorage.dev/alice\n"


async def test_credentials_of_an_exec_plugin_are_used_and_leave_no_file(
    live: Live, plugin: Plugin, tmp_path: Path, api: Kubectl
) -> None:
    await live.create()
    config = yaml.safe_load(api.kubeconfig.read_text())
    user = config["users"][0]["user"]
    if "client-certificate-data" in user:
        given = {
            "clientCertificateData": base64.b64decode(user["client-certificate-data"]).decode(),
            "clientKeyData": base64.b64decode(user["client-key-data"]).decode(),
        }
    else:
        given = {"token": user["token"]}
    answer = tmp_path / "credential.json"
    version = "client.authentication.k8s.io/v1"
    answer.write_text(json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": given}))
    config["users"][0]["user"] = {
        "exec": {"apiVersion": version, "command": "cat", "args": [str(answer)], "interactiveMode": "Never"}
    }
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    left = tmp_path / "tmp"
    left.mkdir()
    listed = await done(plugin, "list", "-o", "name", "--kubeconfig", str(path), TMPDIR=str(left))
    assert listed.stdout == "userstorage.userstorage.dev/alice\n", listed.stderr
    assert list(left.iterdir()) == []


async def test_create_suspend_and_resume(live: Live, operator: RecordedMetrics, plugin: Plugin) -> None:
    created = await done(plugin, "create", "alice", "--user=alice@example.org", "--size=2Gi", "--wait")
    assert (created.returncode, created.stdout) == (0, "userstorage.userstorage.dev/alice created\n"), created.stderr
    raw = await live.until_ready()
    assert raw["spec"]["userID"] == "alice@example.org"
    assert raw["spec"]["storage"]["size"] == "2Gi"
    suspended = await done(plugin, "suspend", "alice", "--wait")
    assert (suspended.returncode, suspended.stdout) == (0, "userstorage.userstorage.dev/alice suspended\n")
    assert await live.condition("Suspended") == ("True", "Requested")
    pods = [pod["metadata"]["name"] for pod in (await live.client.list_all(Kind.POD.resource, live.namespace))[0]]
    assert pods == []
    resumed = await done(plugin, "resume", "alice", "--wait")
    assert (resumed.returncode, resumed.stdout) == (0, "userstorage.userstorage.dev/alice resumed\n")
    assert await live.condition("Ready") == ("True", "PodReady")


async def test_create_refuses_what_the_api_server_refuses_and_names_the_field(live: Live, plugin: Plugin) -> None:
    refused = await done(plugin, "create", "alice", "--user= alice")
    assert refused.returncode == 3
    assert "spec.userID" in refused.stderr
    assert (await done(plugin, "create", "alice", "--sub-path=a")).returncode == 2
    for dry in ("client", "server"):
        shown = await done(plugin, "create", "alice", f"--dry-run={dry}", "-o", "yaml", "--suspended", "--class=standard")
        assert yaml.safe_load(shown.stdout)["spec"]["className"] == "standard"
    assert await live.get() is None
    assert (await done(plugin, "create", "alice", "--suspended")).returncode == 0
    again = await done(plugin, "create", "alice")
    assert again.returncode == 3
    assert "already exists" in again.stderr


async def test_wait_that_ends_without_success_says_why(live: Live, operator: RecordedMetrics, plugin: Plugin) -> None:
    created = await done(plugin, "create", "alice", "--class=no-such-class", "--wait", "--timeout=10s")
    assert created.returncode == 1
    assert f"next: kubectl userstorage explain alice -n {live.namespace}" in created.stderr


@pytest.mark.parametrize("verb", ["suspend", "resume", "restart"])
async def test_paused_object_is_left_alone(live: Live, plugin: Plugin, verb: str) -> None:
    await live.create()
    await live.change({"metadata": {"annotations": {ANNOTATION_PAUSED: "true"}}})
    before = await live.get()
    refused = await done(plugin, verb, "alice")
    assert refused.returncode == 1
    assert "UserStorage 'alice' is paused; remove the annotation userstorage.dev/paused first" in refused.stderr
    assert await live.get() == before


async def test_names_verbs_and_values_are_completed(live: Live, plugin: Plugin, api: Kubectl) -> None:
    await live.create()
    await live.create("bob")

    async def words(*typed: str) -> list[str]:
        answer = await done(lambda *given: plugin.anywhere(*given, program=COMPLETE), *typed)
        assert answer.returncode == 0, answer.stderr
        *lines, directive = answer.stdout.splitlines()
        assert directive in (":0", ":4")
        return [line.split("\t")[0] for line in lines]

    assert await words("su") == ["suspend"]
    assert await words("status", "-n", live.namespace, "") == ["alice", "bob"]
    assert await words("restart", "-n", live.namespace, "a") == ["alice"]
    assert await words("list", "--phase", "Rea") == ["Ready"]
    assert live.namespace in await words("list", "-n", "")
    api_away = await done(lambda *given: plugin.anywhere(*given, program=COMPLETE, KUBECONFIG="/nowhere"), "status", "")
    assert api_away.stdout == ":4\n"
