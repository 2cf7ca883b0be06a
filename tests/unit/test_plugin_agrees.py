"""The kubectl plugin imports nothing of the operator: what both know is compared here."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

import kubectl_userstorage.api as known
from kubectl_userstorage import listing, uninstallation
from kubectl_userstorage.cli import group
from kubectl_userstorage.commands.reading import PHASES
from kubectl_userstorage.explaining import BUILT_IN as PLUGIN_BUILT_IN
from kubectl_userstorage.explaining import variables
from kubectl_userstorage.nextsteps import CLASS_NEXT_STEPS, NEXT_STEPS, Step
from manifests.render import PARTS, display_name, render
from support.builders import storage_object
from userstorage_operator.api import names
from userstorage_operator.api.reasons import CLASS_REASONS, REASONS
from userstorage_operator.api.userstorageclass import BUILT_IN

ROOT = Path(__file__).parent.parent.parent
AS_IT_SHOULD_BE = {
    "Ready": {"PodReady", "Valid"},
    "StorageReady": {"ClaimBound"},
    "PodUpToDate": {"UpToDate", "Suspended"},
    "NetworkReady": {"Synced"},
    "Suspended": {"Running"},
    "Reconciling": {"Done"},
    "Stalled": {"NotStalled"},
    "Paused": {"NotPaused"},
    "Default": {"Default", "NotDefault"},
    "ImagePinned": {"Digest"},
    "EndOfLife": {"NoneKnown"},
}
STEPS = [
    pytest.param(step, id=f"{kind}-{condition}-{reason}")
    for kind, table in (("user", NEXT_STEPS), ("class", CLASS_NEXT_STEPS))
    for condition, reasons in table.items()
    for reason, step in reasons.items()
    if step is not None
]


@pytest.mark.parametrize(("steps", "reasons"), [(NEXT_STEPS, REASONS), (CLASS_NEXT_STEPS, CLASS_REASONS)])
def test_every_condition_reason_has_a_next_step(steps: dict[str, Any], reasons: dict[str, Any]) -> None:
    assert {kind: sorted(table) for kind, table in steps.items()} == {kind: sorted(table) for kind, table in reasons.items()}


@pytest.mark.parametrize("steps", [NEXT_STEPS, CLASS_NEXT_STEPS])
def test_only_reasons_of_what_is_as_it_should_be_have_nothing_to_do(steps: dict[str, dict[str, Step | None]]) -> None:
    for condition, table in steps.items():
        assert {reason for reason, step in table.items() if step is None} == AS_IT_SHOULD_BE[condition] & set(table)


@pytest.mark.parametrize("step", STEPS)
def test_next_command_is_complete_for_a_user(step: Step) -> None:
    command = step.command.format(**variables(storage_object(), "standard", "userstorage-system"))
    assert command.startswith("kubectl ")
    assert not re.search(r"\{[a-z_]+\}", command)
    if command.startswith("kubectl userstorage "):
        _, _, verb, *arguments = shlex.split(command)
        group.commands[verb].make_context(verb, arguments)


@pytest.mark.parametrize("user", ["alice", "Alice@example.org", "AB", "a--b", "x" * 51, "https://idp.example.org/u/1", "."])
def test_slug_is_that_of_the_operator(user: str) -> None:
    assert known.slug(user) == names.slug(user)
    assert known.child_name(user) == names.child_name(names.slug(user))


def test_names_are_those_of_the_operator() -> None:
    shared = {name for name in vars(known) if name.isupper()} & {name for name in vars(names) if name.isupper()}
    assert shared >= {"GROUP", "LABEL_SHAREABLE", "ANNOTATION_USER_ID", "ANNOTATION_PAUSED", "ANNOTATION_RESTARTED_AT"}
    for name in shared - {"FIELD_MANAGER"}:
        assert getattr(known, name) == getattr(names, name), name


def test_built_in_class_is_that_of_the_operator() -> None:
    assert PLUGIN_BUILT_IN["spec"]["browser"]["flavor"] == BUILT_IN.browser.flavor
    assert BUILT_IN.auth_header == known.DEFAULT_HEADER


def test_columns_and_phases_are_those_of_the_crd() -> None:
    version = yaml.safe_load((ROOT / "deploy/crds/userstorage.dev_userstorages.yaml").read_text())["spec"]["versions"][0]
    columns = {column["name"].upper() for column in version["additionalPrinterColumns"]}
    assert {listing.TITLES[name] for name in listing.WIDE} == columns | {"NAME"}
    phase = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["phase"]
    assert set(PHASES) == set(phase["enum"])


def test_uninstall_finds_every_object_of_an_installation() -> None:
    known_resources = {
        (resource.api_version, resource.kind)
        for resource in (*uninstallation.FINALIZER_SETTERS, known.DEPLOYMENTS, *uninstallation.REST, known.NAMESPACES)
    }
    names_of_ours = set(re.findall(r"userstorage-[a-z]+", uninstallation.SELECTOR))
    for directory in (*PARTS, "deploy", "deploy/overlays/namespaced"):
        for raw in render(directory):
            assert (raw["apiVersion"], raw["kind"]) in known_resources, display_name(raw)
            assert raw["metadata"]["labels"]["app.kubernetes.io/name"] in names_of_ours, display_name(raw)
            is_elsewhere = raw["metadata"].get("namespace") not in (None, known.OPERATOR_NAMESPACE)
            assert not is_elsewhere or raw["kind"] == uninstallation.ROLE_BINDINGS.kind, display_name(raw)


def test_uninstall_deletes_the_crds_after_what_uses_them() -> None:
    order = [resource.kind for resource in uninstallation.REST]
    users = ("Job", "NetworkPolicy", "ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy")
    assert max(order.index(kind) for kind in users) < order.index("CustomResourceDefinition")
    assert order.index("Secret") < order.index("ServiceAccount")
