"""What `explain` says about a UserStorage, its class, and what guards the files."""

from typing import Any

import pytest

from kubectl_userstorage.explaining import class_in_effect, explain, explain_class, guards

SINCE = "2026-01-01T00:00:00Z"


def storage(*conditions: tuple[str, str, str], user: str = "alice", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "users", "name": "alice", "generation": 3},
        "spec": {"userID": user},
        "status": {
            "observedGeneration": 3,
            "conditions": [
                {"type": kind, "status": state, "reason": reason, "lastTransitionTime": SINCE, "message": f"about {reason}"}
                for kind, state, reason in conditions
            ],
            **status,
        },
    }


def cls(name: str = "standard", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "creationTimestamp": SINCE, "uid": name}, "spec": spec}


READY = (
    ("Ready", "True", "PodReady"),
    ("StorageReady", "True", "ClaimBound"),
    ("NetworkReady", "True", "Synced"),
    ("PodUpToDate", "True", "UpToDate"),
    ("Suspended", "False", "Running"),
    ("Reconciling", "False", "Done"),
    ("Stalled", "False", "NotStalled"),
    ("Paused", "False", "NotPaused"),
)


def test_one_line_if_all_is_well() -> None:
    assert list(explain(storage(*READY, phase="Ready", url="https://alice.example.org/"), "")) == [
        "users/alice: Ready at https://alice.example.org/"
    ]


def test_one_line_if_suspended_on_purpose() -> None:
    raw = storage(
        ("Ready", "False", "Suspended"),
        ("PodUpToDate", "Unknown", "Suspended"),
        ("Suspended", "True", "Requested"),
        ("Reconciling", "False", "Done"),
        phase="Suspended",
    )
    raw["spec"]["replicas"] = 0
    assert list(explain(raw, "")) == ["users/alice: Suspended"]


def test_cause_actor_and_next_command_are_named_once() -> None:
    raw = storage(
        ("Ready", "False", "ClassNotFound"),
        ("Reconciling", "False", "Done"),
        ("Stalled", "True", "ClassNotFound"),
        phase="Failed",
    )
    assert list(explain(raw, "")) == [
        "users/alice: Failed",
        f"  Stalled=True ClassNotFound since {SINCE}",
        "      about ClassNotFound",
        "      who: the tenant",
        "      Set spec.className to a class that exists, or have a platform admin create it.",
        "      $ kubectl get userstorageclasses",
    ]


def test_reason_of_the_storage_is_shown_instead_of_what_follows_from_it() -> None:
    raw = storage(
        ("Ready", "False", "StorageNotReady"), ("StorageReady", "False", "ClaimLost"), ("Reconciling", "True", "Progressing")
    )
    lines = "\n".join(explain(raw, ""))
    assert "StorageReady=False ClaimLost" in lines
    assert "StorageNotReady" not in lines
    assert "Progressing" not in lines


def test_paused_hides_what_was_true_at_that_moment() -> None:
    raw = storage(("Paused", "True", "Paused"), ("Ready", "False", "CrashLoopBackOff"), phase="Ready")
    lines = "\n".join(explain(raw, ""))
    assert lines.startswith("users/alice: Ready at the moment it was paused\n")
    assert "$ kubectl annotate userstorage alice -n users userstorage.dev/paused-" in lines
    assert "CrashLoopBackOff" not in lines


def test_reason_of_a_newer_operator_is_shown_without_a_step() -> None:
    lines = "\n".join(explain(storage(("Ready", "False", "NewReason")), ""))
    assert "Ready=False NewReason" in lines
    assert "unknown to this version of the plugin" in lines


@pytest.mark.parametrize("reason", ["ClaimDeleted", "ClaimReplaced"])
def test_volume_of_a_lost_claim_is_looked_for_before_its_loss_is_accepted(reason: str) -> None:
    raw = storage(("StorageReady", "False", reason), storage={"lostClaim": {"uid": "1-2-3", "volumeName": "pvc-1"}})
    lines = "\n".join(explain(raw, ""))
    assert "$ kubectl get pv pvc-1" in lines
    assert "acceptedClaimLoss" not in lines


NOTHING_YET = (
    ("StorageReady", "False", "ClaimNotFound"),
    ("NetworkReady", "False", "Pending"),
    ("PodUpToDate", "False", "Recreating"),
)


def test_what_follows_from_the_cause_is_not_shown() -> None:
    lines = "\n".join(explain(storage(("Stalled", "True", "ClassNotFound"), *NOTHING_YET), ""))
    assert "Stalled=True ClassNotFound" in lines
    assert "StorageReady" not in lines
    assert "NetworkReady" not in lines
    assert "PodUpToDate" not in lines


def test_what_does_not_exist_yet_is_shown_without_another_cause() -> None:
    lines = "\n".join(explain(storage(*NOTHING_YET), ""))
    assert "Wait: the operator creates the claim." in lines
    assert "PodUpToDate=False Recreating" in lines


def test_missing_claim_that_the_spec_names_is_a_cause() -> None:
    raw = storage(*NOTHING_YET)
    raw["spec"]["storage"] = {"claimName": "homes"}
    lines = "\n".join(explain(raw, ""))
    assert "Create the claim that spec.storage.claimName names" in lines
    assert "PodUpToDate" not in lines


@pytest.mark.parametrize(
    ("message", "attempts", "line"),
    [
        ("about Forbidden", 1, "  Last error: Forbidden (1 attempt)"),
        ("another one", 2, "  Last error: Forbidden: another one (2 attempts)"),
    ],
)
def test_message_of_the_last_error_is_shown_once(message: str, attempts: int, line: str) -> None:
    error = {"reason": "Forbidden", "message": message, "attempts": attempts}
    assert line in list(explain(storage(("Ready", "False", "Forbidden"), lastError=error), ""))


def test_user_id_is_quoted_for_the_shell() -> None:
    raw = storage(("Ready", "False", "UserIDConflict"), user="$(reboot) x")
    assert "--user '$(reboot) x'" in "\n".join(explain(raw, ""))


@pytest.mark.parametrize(("sub_path", "value"), [(None, "true"), ("${slug}", "Directories")])
def test_label_of_consent_is_the_one_that_the_spec_needs(sub_path: str | None, value: str) -> None:
    raw = storage(("StorageReady", "False", "ClaimNotAllowed"))
    raw["spec"]["storage"] = {"claimName": "homes"} | ({"subPath": sub_path} if sub_path else {})
    command = f"$ kubectl label pvc homes -n users --overwrite userstorage.dev/shareable={value}"
    assert command in "\n".join(explain(raw, ""))


@pytest.mark.parametrize(("found", "shown"), [("files-system", "files-system"), ("", "OPERATOR_NAMESPACE")])
def test_commands_about_the_operator_name_its_namespace(found: str, shown: str) -> None:
    lines = "\n".join(explain(storage(("Ready", "False", "APIError")), "", found))
    assert f"$ kubectl logs -n {shown} -l " in lines
    lines = "\n".join(explain(storage(("Ready", "False", "Forbidden")), "", found))
    assert f"$ kubectl userstorage doctor --operator-namespace {shown}" in lines


def test_guards_of_a_class_that_cannot_be_read_are_unknown() -> None:
    lines = "\n".join(guards(storage(), None))
    assert lines.count("unknown: no right to read classes") == 2
    assert "yes" not in lines
    assert "does the gateway ask the gate? not visible in the cluster" in lines


def test_unprocessed_spec_is_reported() -> None:
    raw = storage(*READY) | {"metadata": {"namespace": "users", "name": "alice", "generation": 4}}
    assert "  The operator has not processed the current spec yet." in list(explain(raw, ""))


def test_class_is_explained() -> None:
    raw = cls() | storage(("Ready", "False", "DryRunRefused"), ("ImagePinned", "True", "Digest"))
    raw["metadata"] = {"name": "standard"}
    lines = list(explain_class(raw))
    assert lines[0] == "userstorageclass standard: DryRunRefused"
    assert lines[-1] == "      $ kubectl edit userstorageclass standard"


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        ({"browser": {"flavor": "FileBrowser"}}, "in the header X-Forwarded-User? yes: File Browser"),
        (
            {"browser": {"flavor": "Copyparty"}, "auth": {"headerName": "X-Files-User"}},
            "in the header X-Files-User? yes: Copyparty",
        ),
        ({"browser": {"flavor": "Quantum"}}, "in part"),
        ({"browser": {"flavor": "Custom"}}, "up to its image"),
        ({"browser": {"flavor": "Dufs"}, "auth": {"mode": "None"}}, "name? no: every client"),
        ({"browser": {"flavor": "FileBrowser"}, "auth": {"mode": "None"}}, "name? no"),
        ({}, "only from namespaces labelled userstorage.dev/gateway=true"),
        ({"network": {"allowedFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}}, "only from network.allowedFrom of the class"),
        ({"network": {"policy": "None"}}, "not restricted by the operator"),
        ({}, "does the gateway ask the gate? not visible in the cluster"),
    ],
)
def test_guards_say_what_the_cluster_shows(spec: dict[str, Any], answer: str) -> None:
    assert answer in "\n".join(guards(storage(), cls(**spec)))


def test_class_in_effect_is_the_named_the_default_or_the_built_in_one() -> None:
    marked = cls("marked")
    marked["metadata"]["annotations"] = {"userstorage.dev/is-default-class": "true"}
    named = cls("named")
    unnamed = storage()
    assert class_in_effect(unnamed, [named, marked]) is marked
    asks = {**unnamed, "spec": {"userID": "alice", "className": "named"}}
    assert class_in_effect(asks, [named, marked]) is named
    assert class_in_effect(asks, [marked]) is None
    assert (class_in_effect(unnamed, [named]) or {})["metadata"]["name"] == ""
