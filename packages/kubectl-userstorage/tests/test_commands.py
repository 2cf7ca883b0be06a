"""What commands do if the API server refuses a part, is away for a while, or holds what is not as they expect."""

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from kubectl_userstorage import errors, listing
from kubectl_userstorage.cli import group
from kubectl_userstorage.cluster import Answer, Cluster
from kubectl_userstorage.commands import cache, changing, doctor, report, top
from kubectl_userstorage.commands.claims import named_by, plan_adoption, refuse_changes
from kubectl_userstorage.diagnosis import State
from kubectl_userstorage.listing import Query, Row
from kubectl_userstorage.options import until_done

BUSY = errors.Unavailable("etcdserver: request timed out, password=hunter2hunter2")


class BusyTransport:
    """A Transport to an API server that answers each request with 500."""

    namespace = "n"

    async def version(self) -> str:
        raise BUSY

    async def request(self, *_: object) -> Answer:
        return Answer(b"", BUSY)


def ready(name: str = "alice") -> dict[str, Any]:
    condition = {"type": "Ready", "status": "True", "reason": "PodReady"}
    return {
        "metadata": {"name": name, "namespace": "n", "generation": 1},
        "spec": {"userID": name},
        "status": {"observedGeneration": 1, "conditions": [condition]},
    }


def claim(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "n", "uid": "1", "labels": labels}}


def shared(value: str) -> dict[str, Any]:
    return claim("homes", **{"userstorage.dev/shareable": value})


def row(name: str) -> Row:
    values = dict.fromkeys(Row.__dataclass_fields__, "")
    return Row(**{**values, "name": name, "namespace": "n", "phase": "Ready", "ready": "True"})


async def test_doctor_reports_a_check_that_the_server_does_not_answer_as_unknown() -> None:
    found = await doctor.checks(Cluster(BusyTransport()), "system")  # type: ignore[arg-type]
    assert {check.state for check in found} == {State.UNKNOWN}
    assert {check.name for check in found} >= {"Kubernetes", "CRDs", "operator", "your rights"}


async def test_report_names_what_it_could_not_read_without_secrets() -> None:
    files = await report.collect(Cluster(BusyTransport()), "n", "system", lambda _: None)  # type: ignore[arg-type]
    assert set(files) == {"doctor.json", "missing.txt"}
    assert "classes.yaml: etcdserver: request timed out" in files["missing.txt"]
    assert "operator logs: " in files["missing.txt"]
    assert "hunter2" not in "".join(files.values())


def test_report_has_the_lines_of_the_log_about_its_namespace_or_none() -> None:
    about = [{"event": "a", "namespace": "n"}, {"event": "b", "namespace": "other"}, {"event": "leader_elected"}]
    log = "".join(f"{json.dumps(line)}\n" for line in about) + "Traceback about other\n17\n"
    assert [json.loads(line)["event"] for line in report.log_lines(log, "n")] == ["a", "leader_elected"]


def test_report_into_a_directory_that_does_not_exist_names_the_option(tmp_path: Path) -> None:
    done = CliRunner().invoke(report.report, ["-f", str(tmp_path / "no/such/x.tgz")])
    assert done.exit_code == 2
    assert "--file" in done.output


async def test_wait_goes_on_while_the_server_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changing, "_POLL", 0.0)
    answers: list[Any] = [BUSY, errors.Unreachable("away"), ready()]

    class Once:
        async def get(self, *_: object) -> dict[str, Any]:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            found: dict[str, Any] = answer
            return found

    starting = ready() | {"status": {}}
    done = await changing._until(Once(), starting, "Ready", lambda raw: bool(raw["status"]), 60)  # type: ignore[arg-type]
    assert done == ready()
    assert answers == []
    answers[:] = [BUSY] * 1_000_000
    with pytest.raises(errors.Problem, match=r"not Ready within 0.1 s \(etcdserver: request timed out"):
        await changing._until(Once(), starting, "Ready", lambda raw: bool(raw["status"]), 0.1)  # type: ignore[arg-type]
    answers[:] = [errors.Forbidden("no right")]
    with pytest.raises(errors.Forbidden):
        await changing._until(Once(), starting, "Ready", lambda raw: bool(raw["status"]), 60)  # type: ignore[arg-type]


async def test_top_shows_that_the_server_is_away_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(top, "is_terminal", lambda: True)
    monkeypatch.setattr(top, "console", lambda: Console(file=shown, force_terminal=True, width=200))
    looks: list[Any] = [[row("a")], BUSY, [row("a"), row("b")]]

    async def look() -> list[Row]:
        if not looks:
            raise asyncio.CancelledError
        answer = looks.pop(0)
        if isinstance(answer, Exception):
            raise answer
        found: list[Row] = answer
        return found

    with pytest.raises(asyncio.CancelledError):
        await top._show(look, "state", 20, 0.01)
    text = shown.getvalue()
    assert text.index("1 UserStorages") < text.index("etcdserver: request timed out") < text.index("2 UserStorages")


@pytest.mark.parametrize(("code", "ended"), [(0, 0), (1, 1), (2, 3), (137, 3), (-1, 3)])
def test_exit_codes_of_cache_are_those_of_the_plugin(monkeypatch: pytest.MonkeyPatch, code: int, ended: int) -> None:
    monkeypatch.setattr(cache, "run", lambda *_: (code, "printed\n", ""))
    done = CliRunner().invoke(cache.cache, [])
    assert (done.exit_code, done.output) == (ended, "printed\n")


@pytest.mark.parametrize(
    ("user", "value"), [("alice", "alice"), ("CORP\\alice", "CORP\\\\alice"), ("cn=a,o=b", "cn\\=a\\,o\\=b")]
)
def test_user_id_is_escaped_in_the_field_selector(user: str, value: str) -> None:
    assert Query("n", phase="Ready", user=user).params() == {"fieldSelector": f"spec.userID={value},status.phase=Ready"}
    assert listing.escaped(user) == value


def test_other_users_of_a_whole_claim_are_named_before_it_is_adopted() -> None:
    def storage(name: str, **options: str) -> dict[str, Any]:
        return {"metadata": {"name": name}, "spec": {"userID": name, "storage": options}}

    storages = [
        storage("alice", claimName="team"),
        storage("bob", claimName="team"),
        storage("carol", claimName="team", subPath="carol"),
        storage("dave"),
    ]
    assert named_by("team", "alice", storages) == ["bob"]


def test_claim_that_many_share_is_adopted_only_with_a_directory() -> None:
    with pytest.raises(errors.Problem, match="--sub-path: claim 'homes' is shared by directories"):
        plan_adoption(shared("Directories"), None, "alice", "alice", None, None)
    patch, created = plan_adoption(shared("Directories"), None, "alice", "alice", None, "${slug}")
    assert patch is None
    assert created is not None
    assert created["spec"]["storage"] == {"claimName": "homes", "subPath": "${slug}"}
    own = claim("user-storage-alice", **{"userstorage.dev/shareable": "Directories"})
    with pytest.raises(errors.Problem, match="served as a whole"):
        plan_adoption(own, None, "alice", "alice", None, "${slug}")


@pytest.mark.parametrize("value", ["false", "", "True", "directories"])
def test_only_the_label_values_of_the_operator_are_consent(value: str) -> None:
    patch, _ = plan_adoption(shared(value), None, "alice", "alice", None, None)
    assert patch == {"metadata": {"labels": {"userstorage.dev/shareable": "true"}}}
    assert plan_adoption(shared("true"), None, "alice", "alice", None, None)[0] is None


@pytest.mark.parametrize("option", ["--user", "--class", "--sub-path"])
def test_adopt_changes_no_existing_user_storage(option: str) -> None:
    existing = ready() | {"spec": {"userID": "alice", "className": "a", "storage": {"claimName": "homes", "subPath": "a"}}}
    refuse_changes(existing, None, None, None)
    refuse_changes(existing, "alice", "a", "a")
    asked = [("other" if name == option else None) for name in ("--user", "--class", "--sub-path")]
    with pytest.raises(errors.Problem, match=f"{option} other: UserStorage 'alice' exists"):
        refuse_changes(existing, *asked)


def test_option_before_the_verb_is_refused_with_the_place_where_it_belongs() -> None:
    done = CliRunner().invoke(group, ["-n", "team-a", "list"])
    assert done.exit_code == 2
    assert "no such option before the verb: -n; options come after it" in done.output


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_client_key_is_deleted_if_the_command_is_stopped(number: int, tmp_path: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in what it starts in the background
    key = tmp_path / "key"

    async def work() -> None:
        try:
            key.touch()
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            key.unlink()

    with pytest.raises(click.exceptions.Exit) as ended:
        until_done(work())
    assert ended.value.exit_code == errors.INTERRUPTED
    assert not key.exists()


def test_command_ends_quietly_if_its_output_is_read_no_more() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "kubectl_userstorage", "--help"]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_connection_that_is_over_does_not_end_the_command() -> None:
    program = """
import os
from kubectl_userstorage import cli

@cli.group.command()
def write_to_nobody():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        os.write(writer, b"request")
    except BrokenPipeError:
        print("went on")

cli.main()
"""
    ended = subprocess.run([sys.executable, "-c", program, "write-to-nobody"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "went on\n"), ended.stderr


def test_restart_of_a_suspended_user_storage_does_not_claim_a_restart() -> None:
    assert changing.restart_outcome(ready()) == "restarted"
    suspended = ready() | {"spec": {"userID": "alice", "replicas": 0}}
    assert changing.restart_outcome(suspended).startswith("suspended: nothing to restart")


def test_readme_has_no_relative_links_which_the_package_index_cannot_follow() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    targets = re.findall(r"\]\(([^)]+)\)", readme)
    assert targets
    assert [target for target in targets if not target.startswith("https://")] == []
