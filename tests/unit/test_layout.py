"""Checks of the source tree, and of the model's defaults against the schema."""

import operator
import subprocess
import sys
import sysconfig
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.builders import class_object, storage_object
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import BUILT_IN, Permissions, UserStorageClass

ROOT = Path(__file__).parent.parent.parent


def test_operator_module_of_standard_library_is_not_shadowed() -> None:
    code = "import operator; print(operator.__file__)"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert Path(printed.strip()).is_relative_to(sysconfig.get_path("stdlib"))
    assert operator.__file__ == printed.strip()
    assert not (ROOT / "operator/__init__.py").exists()


def schema(plural: str) -> Any:
    crd = yaml.safe_load((ROOT / f"deploy/crds/userstorage.dev_{plural}.yaml").read_text())
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]


def default(section: Any, *path: str) -> Any:
    for name in path[:-1]:
        section = section[name]["properties"]
    return section[path[-1]].get("default")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("replicas",), lambda s: s.replicas),
        (("storage", "readOnly"), lambda s: s.storage.read_only),
        (("storage", "reclaimPolicy"), lambda s: s.storage.reclaim_policy),
        (("lifecycle", "terminationGracePeriodSeconds"), lambda s: s.lifecycle.termination_grace_period),
        (("lifecycle", "updateStrategy"), lambda s: s.lifecycle.update_strategy),
        (("lifecycle", "startTimeout"), lambda s: f"{s.lifecycle.start_timeout.total_seconds() / 60:g}m"),
        (("lifecycle", "deletionTimeout"), lambda s: f"{s.lifecycle.deletion_timeout.total_seconds() / 60:g}m"),
    ],
)
def test_defaults_of_parsed_spec_equal_schema_defaults(path: tuple[str, ...], value: Any) -> None:
    assert value(UserStorage.parse(storage_object())) == default(schema("userstorages"), *path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("browser", "flavor"), BUILT_IN.browser.flavor),
        (("browser", "port"), BUILT_IN.browser.port),
        (("browser", "basePath"), BUILT_IN.browser.base_path),
        (("storage", "defaultSize"), BUILT_IN.default_size),
        (("storage", "accessModes"), list(BUILT_IN.access_modes)),
        (("auth", "mode"), BUILT_IN.auth_mode),
        (("auth", "headerName"), BUILT_IN.auth_header),
        (("network", "expose"), BUILT_IN.exposure.expose),
        (("network", "policy"), BUILT_IN.policy),
        (("security", "runAsUser"), BUILT_IN.ids.user),
        (("security", "runAsGroup"), BUILT_IN.ids.group),
        (("security", "fsGroup"), BUILT_IN.ids.fs_group),
    ],
)
def test_built_in_class_equals_schema_defaults(path: tuple[str, ...], value: Any) -> None:
    assert value == default(schema("userstorageclasses"), *path)


def test_permissions_and_their_defaults_equal_the_schema() -> None:
    permissions = schema("userstorageclasses")["browser"]["properties"]["permissions"]["properties"]
    assert {name: entry["default"] for name, entry in permissions.items()} == {
        field.name: getattr(BUILT_IN.browser.permissions, field.name) for field in fields(Permissions)
    }


def test_numeric_default_size_of_class_is_accepted() -> None:
    cls = UserStorageClass.parse(class_object(storage={"defaultSize": 1073741824}))
    assert cls.default_size == "1073741824"
