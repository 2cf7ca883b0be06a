"""`kubectl userstorage` for those who run the platform, against a real API server: top, orphans, adopt, doctor, report, cache."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster.addresses import free_port
from support.backend import account
from support.inprocess import RecordedMetrics, serving
from support.kubectl import Kubectl
from support.live import Live
from support.plugin import Plugin
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.config import Config

pytestmark = pytest.mark.kwok
PLANTED = {
    "env": "planted-in-the-environment",
    "url": "planted-in-a-url",
    "args": "planted-in-an-argument",
    "user": "admin:planted-in-a-user@/:rw",
    "copy": "planted-in-a-copy-of-the-object",
    "annotation": "planted-in-an-annotation",
    "event": "planted-in-an-event",
    "secret": "planted-in-a-secret",
}


@pytest.fixture
def plugin(api: Kubectl, namespace: str) -> Plugin:
    return Plugin(api.kubeconfig, namespace)


async def done(call: Any, *arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(call, *arguments, **options)


async def test_top_counts_states_and_shows_problems_first(live: Live, operator: RecordedMetrics, plugin: Plugin) -> None:
    await live.create()
    await live.create("bob", replicas=0)
    await live.create("carol", className="no-such-class")
    await live.until_ready()
    await live.until_condition("Suspended", "True", "Requested", "bob")
    await live.until_condition("Ready", "False", "ClassNotFound", "carol")
    shown = await done(plugin, "top")
    assert shown.returncode == 0, shown.stderr
    first, second, _, header, *rows = shown.stdout.splitlines()
    assert first.startswith("3 UserStorages: ")
    assert second == "not Ready because of: 1 ClassNotFound"
    assert header.split()[:3] == ["NAMESPACE", "NAME", "USER"]
    assert [row.split()[1] for row in rows] == ["carol", "alice", "bob"]
    limited = await done(plugin, "top", "--limit=1", "--sort=name")
    assert [line.split()[1] for line in limited.stdout.splitlines()[4:]] == ["alice"]


async def test_top_is_live_on_a_terminal_until_interrupted(live: Live, plugin: Plugin) -> None:
    await live.create()
    ours, terminal = pty.openpty()
    process = plugin.start_on(terminal, "top", "--interval=1")
    os.close(terminal)

    def shown_until(text: str) -> str:
        shown = ""
        while text not in shown:
            shown += os.read(ours, 65536).decode(errors="replace")
        return shown

    await asyncio.to_thread(shown_until, "1 UserStorages")
    await live.create("bob")
    assert "\x1b[" in await asyncio.to_thread(shown_until, "2 UserStorages")
    process.send_signal(signal.SIGINT)
    while process.poll() is None:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(os.read, ours, 65536)
    os.close(ours)
    assert process.returncode == 130


async def test_list_and_top_ask_the_read_api(live: Live, plugin: Plugin, api: Kubectl, tmp_path: Path) -> None:
    port, token = free_port(), tmp_path / "token"
    token.write_text(account(api, live.namespace, everywhere=True))
    options = [f"--read-api=http://127.0.0.1:{port}", f"--read-api-token-file={token}"]
    closed = await done(plugin, "list", *options)
    assert closed.returncode == 3
    assert f"--read-api http://127.0.0.1:{port}: " in closed.stderr
    with serving(Config(namespaces=(live.namespace,), http_port=port, sweep_period=3600)):
        await live.create()
        await live.create("bob", replicas=0)
        await live.until_ready()
        await live.until_condition("Suspended", "True", "Requested", "bob")

        async def agrees() -> bool:
            answers = [await done(plugin, "list", "-o", "wide", *given) for given in (options, [])]
            columns = [[line.split()[:6] for line in answer.stdout.splitlines()] for answer in answers]
            return bool(columns[0]) and columns[0] == columns[1]

        await live.until(agrees)
        assert (await done(plugin, "list", "--not-ready", "-o", "name", *options)).stdout == "userstorage.userstorage.dev/bob\n"
        assert (await done(plugin, "top", *options)).stdout.startswith("2 UserStorages: ")
        token.write_text("not-a-token")
        refused = await done(plugin, "list", *options)
        assert refused.returncode == 3
        assert "--read-api" in refused.stderr
    assert (await done(plugin, "list", options[0])).returncode == 2
    assert (await done(plugin, "list", *options, "-o", "json")).returncode == 2
    api.delete("clusterrolebinding", f"{live.namespace}-backend")


async def test_orphans_are_found_and_deleted_only_when_asked(live: Live, operator: RecordedMetrics, plugin: Plugin) -> None:
    for name in ("alice", "bob"):
        await live.create(name)
        await live.until_ready(name)
    none = await done(plugin, "orphans")
    assert (none.returncode, none.stdout) == (0, "")
    await live.delete(USER_STORAGES, "bob")
    await live.until_gone("bob")
    found = await done(plugin, "orphans")
    assert found.returncode == 1, found.stderr
    assert [line.split()[1:3] for line in found.stdout.splitlines()[1:]] == [["user-storage-bob", "bob"]]
    assert await live.child(Kind.PVC, "bob") is not None
    asked = await done(plugin, "orphans", "--delete")  # standard input is empty: the question is not answered
    assert asked.returncode == 1
    assert await live.child(Kind.PVC, "bob") is not None
    deleted = await done(plugin, "orphans", "--delete", "--yes")
    assert deleted.returncode == 0, deleted.stderr
    assert "persistentvolumeclaim/user-storage-bob deleted" in deleted.stdout

    async def is_gone() -> bool:
        return await live.child(Kind.PVC, "bob") is None

    await live.until(is_gone)
    claim = await live.child(Kind.PVC, "alice")
    assert claim is not None
    assert "deletionTimestamp" not in claim["metadata"]


async def test_orphan_that_a_pod_mounts_is_kept(live: Live, operator: RecordedMetrics, plugin: Plugin) -> None:
    await live.create()
    await live.until_ready()
    claim = await live.child(Kind.PVC)
    assert claim is not None
    ours = {key: claim["metadata"][key] for key in ("labels", "annotations")}
    await live.create_object(Kind.PVC, "of-bob", {key: claim["spec"][key] for key in ("accessModes", "resources")}, **ours)
    bobs = {"metadata": {"annotations": {"userstorage.dev/user-id": "bob"}}}
    await live.client.merge_patch(Kind.PVC.resource, live.namespace, "of-bob", bobs)
    spec = (await live.pod())["spec"]
    volumes = [{"name": "files", "persistentVolumeClaim": {"claimName": "of-bob"}}]
    kept = {key: spec[key] for key in ("securityContext", "automountServiceAccountToken")}
    containers = [{**spec["containers"][0], "volumeMounts": [{"name": "files", "mountPath": "/files"}]}]
    await live.create_object(Kind.POD, "backup", {**kept, "containers": containers, "volumes": volumes})
    found = await done(plugin, "orphans", "--delete", "--yes")
    assert found.returncode == 1, found.stdout
    [row] = found.stdout.splitlines()[1:]
    assert row.split()[1:3] + row.split()[-1:] == ["of-bob", "bob", "backup"]
    assert "deletionTimestamp" not in (await live.client.get(Kind.PVC.resource, live.namespace, "of-bob"))["metadata"]


async def test_claim_is_adopted_by_its_name_or_by_the_spec(live: Live, operator: RecordedMetrics, plugin: Plugin) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}
    await live.create_object(Kind.PVC, "user-storage-alice", claim)
    await live.create_object(Kind.PVC, "old-home", claim)
    planned = await done(plugin, "adopt", "user-storage-alice", "--name=alice")
    assert planned.returncode == 0, planned.stderr
    assert planned.stderr == "dry run; --yes does it:\n"
    assert await live.get() is None
    for name, user, given in (("alice", "alice", "user-storage-alice"), ("bob", "bob@example.org", "old-home")):
        adopted = await done(plugin, "adopt", given, f"--name={name}", f"--user={user}", "--yes")
        assert adopted.returncode == 0, adopted.stderr
        raw = await live.until_ready(name)
        assert raw["status"]["storage"]["claimName"] == given
        again = await done(plugin, "adopt", given, f"--name={name}", "--yes")
        assert (again.returncode, again.stdout) == (0, "")
    stolen = await done(plugin, "adopt", "user-storage-alice", "--name=mallory", "--yes")
    assert stolen.returncode == 1
    assert "has the files of user 'alice'" in stolen.stderr
    missing = await done(plugin, "adopt", "nothing", "--name=carol")
    assert missing.returncode == 4
    assert "there is no claim 'nothing'" in missing.stderr


async def test_shared_claim_is_adopted_with_a_directory_only(live: Live, plugin: Plugin, api: Kubectl) -> None:
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "10Gi"}}}
    await live.create_object(Kind.PVC, "homes", claim)
    api.run("label", "pvc", "homes", "-n", live.namespace, "userstorage.dev/shareable=Directories")
    refused = await done(plugin, "adopt", "homes", "--name=alice", "--yes")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "--sub-path" in refused.stderr
    assert await live.get() is None
    adopted = await done(plugin, "adopt", "homes", "--name=alice", "--sub-path=${slug}", "--yes")
    assert adopted.returncode == 0, adopted.stderr
    raw = await live.get()
    assert raw is not None
    assert raw["spec"]["storage"].items() >= {"claimName": "homes", "subPath": "${slug}"}.items()
    other = await done(plugin, "adopt", "homes", "--name=alice", "--class=other", "--yes")
    assert other.returncode == 1
    assert "--class other" in other.stderr


async def test_doctor_finds_what_is_missing_and_what_is_not_visible(live: Live, plugin: Plugin) -> None:
    found = await done(plugin.anywhere, "doctor", f"--operator-namespace={live.namespace}", "-o", "json")
    assert found.returncode == 1, found.stderr
    states = {check["name"]: check for check in json.loads(found.stdout)}
    for name in ("Kubernetes", "CRD userstorages", "CRD userstorageclasses", "admission policies", "your rights"):
        assert states[name]["state"] == "ok", states[name]
    assert states["operator"]["state"] == "failed"
    assert states["leader election"]["message"] == "there is no Lease: no operator has ever led"
    assert states["gate"]["state"] == "warning"
    assert states["gate wiring"]["state"] == "unknown"
    table = await done(plugin.anywhere, "doctor", f"--operator-namespace={live.namespace}")
    assert table.stdout.split("\n")[0].split() == ["CHECK", "STATE", "MESSAGE"]


async def test_doctor_of_a_tenant_reports_what_the_tenant_may_not_read(
    live: Live, plugin: Plugin, api: Kubectl, tmp_path: Path
) -> None:
    config = yaml.safe_load(api.kubeconfig.read_text())
    config["users"] = [
        {"name": user["name"], "user": {"token": account(api, live.namespace, everywhere=False)}} for user in config["users"]
    ]
    tenant = tmp_path / "tenant"
    tenant.write_text(yaml.safe_dump(config))
    found = await done(plugin.anywhere, "doctor", "--kubeconfig", str(tenant), "-o", "json")
    states = {check["name"]: check for check in json.loads(found.stdout)}
    assert states["CRDs"]["state"] == "unknown"
    assert "forbidden" in states["CRDs"]["message"]
    assert states["your rights"]["state"] == "warning"


async def test_report_has_objects_and_events_and_no_secret(
    live: Live, operator: RecordedMetrics, plugin: Plugin, api: Kubectl, tmp_path: Path
) -> None:
    await live.create()
    await live.until_ready()
    name = f"planted-{live.namespace}"
    await live.create_class(
        name,
        browser={
            "flavor": "Custom",
            "image": "example.org/browser:1",
            "env": [{"name": "UPSTREAM", "value": PLANTED["env"]}],
            "args": [
                f"--store=https://root:{PLANTED['url']}@example.org/",
                f"--password={PLANTED['args']}",
                "-a",
                PLANTED["user"],
            ],
        },
        auth={"mode": "None", "acknowledgeUnauthenticated": True},
    )
    copied = json.dumps({"env": [{"name": "A", "value": PLANTED["copy"]}]})
    planted = {"example.org/api-token": PLANTED["annotation"], "kapp.k14s.io/original": copied}
    await live.change({"metadata": {"annotations": planted}})
    api.run("create", "secret", "generic", "planted", "-n", live.namespace, f"--from-literal=key={PLANTED['secret']}")
    api.apply(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "planted", "namespace": live.namespace},
            "involvedObject": {"kind": "Pod", "name": "x", "namespace": live.namespace},
            "message": f"Authorization: Bearer {PLANTED['event']}",
            "reason": "Planted",
            "type": "Normal",
        }
    )
    path = tmp_path / "report.tar.gz"
    written = await done(plugin, "report", "-f", str(path), f"--operator-namespace={live.namespace}")
    assert written.returncode == 0, written.stderr
    assert path.stat().st_mode & 0o077 == 0
    with tarfile.open(path) as archive:
        files = {
            member.name.removeprefix("userstorage-report/"): archive.extractfile(member) for member in archive.getmembers()
        }
        texts = {file: content.read().decode() for file, content in files.items() if content is not None}
    assert [raw["metadata"]["name"] for raw in yaml.safe_load(texts["userstorages.yaml"])] == ["alice"]
    assert name in texts["classes.yaml"]
    assert "UPSTREAM" in texts["classes.yaml"]
    assert "user-storage-alice" in texts["children/pods.yaml"]
    assert "Planted" in texts["events.yaml"]
    for secret in PLANTED.values():
        assert [file for file, text in texts.items() if secret in text] == []
    again = await done(plugin, "report", "-f", str(path))
    assert again.returncode == 2
    assert "--file" in again.stderr
    await live.delete_class(name)


async def test_cache_without_a_replica_names_the_option(live: Live, plugin: Plugin) -> None:
    refused = await done(plugin.anywhere, "cache", f"--operator-namespace={live.namespace}")
    assert refused.returncode == 1
    assert f"--operator-namespace {live.namespace}: no replica of the operator is ready there" in refused.stderr
