"""The admission policies in deploy/admission repeat the images of the drivers and must match them."""

import ast
import importlib
import pkgutil
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from support.released import VERSIONS, ReleasedObjects
from userstorage_operator import browsers
from userstorage_operator.api import names
from userstorage_operator.plan.pod_builder import DIRECTORY_IMAGE

ADMISSION = Path(__file__).parent.parent.parent / "deploy/admission"


def policies() -> dict[str, Any]:
    documents = [doc for path in sorted(ADMISSION.glob("*.yaml")) for doc in yaml.safe_load_all(path.read_text())]
    kind = "ValidatingAdmissionPolicy"
    return {doc["metadata"]["name"].removeprefix("userstorage-operator-"): doc for doc in documents if doc["kind"] == kind}


def variable(policy: str, name: str) -> Any:
    [found] = [entry["expression"] for entry in policies()[policy]["spec"]["variables"] if entry["name"] == name]
    return found


def built_in_images() -> set[str]:
    modules = [
        importlib.import_module(f"{browsers.__name__}.{found.name}") for found in pkgutil.iter_modules(browsers.__path__)
    ]
    return {module.IMAGE for module in modules if hasattr(module, "IMAGE")}


def test_built_in_images_of_the_policy_equal_those_of_the_flavors() -> None:
    by_flavor = ast.literal_eval(variable("class-images", "builtIn"))  # CEL's literals of these are Python's
    assert {images[0] for images in by_flavor.values()} == built_in_images()
    assert by_flavor.keys() == {str(flavor) for flavor in browsers._RENDERERS} - {"Custom"}
    assert set(ast.literal_eval(variable("class-names", "builtIn"))) == {*chain(*by_flavor.values())}


def test_image_that_creates_directories_is_allowed() -> None:
    assert ast.literal_eval(variable("class-names", "directoryImage")) == DIRECTORY_IMAGE
    assert f"orValue('{DIRECTORY_IMAGE}')" in variable("class-images", "directoryImage")
    for policy in ("class-images", "class-names"):
        assert f"c.name == '{names.DIRECTORY_CONTAINER}'" in str(policies()[policy]["spec"]["validations"])


def test_images_of_previous_release_are_allowed_after_rollback() -> None:
    left = ReleasedObjects(VERSIONS[-1])
    named = {raw["spec"].get("browser", {}).get("image") for raw in left.classes}
    made = {c["image"] for raw in left.children if raw["kind"] == "Pod" for c in raw["spec"]["containers"]}
    assert made - named
    assert made - named <= set(ast.literal_eval(variable("class-names", "builtIn")))


def test_every_policy_fails_closed_and_applies_to_the_operator_only() -> None:
    assert len(policies()) == 4
    for policy in policies().values():
        assert policy["spec"]["failurePolicy"] == "Fail"
        [condition] = policy["spec"]["matchConditions"]
        assert condition["expression"].endswith("'system:serviceaccount:userstorage-system:userstorage-operator'")


def test_policies_read_the_annotation_that_the_operator_writes() -> None:
    for policy in ("class-images", "class-names", "class-pods"):
        assert f"'{names.ANNOTATION_CLASS}'" in variable(policy, "named")


def test_policies_select_by_the_label_that_the_operator_enforces() -> None:
    """Check that no policy selects by the recommended label, which policies of a platform may own."""
    constraints = {name: policy["spec"]["matchConstraints"] for name, policy in policies().items()}
    selectors = {name: found["objectSelector"] for name, found in constraints.items() if "objectSelector" in found}
    assert selectors.keys() == {"class-images", "class-pods"}
    for name, selector in selectors.items():
        assert selector == {"matchLabels": {names.LABEL_MANAGED_BY: names.MANAGED_BY}}, name
    enforced = f"labels['{names.LABEL_MANAGED_BY}'].orValue('') == '{names.MANAGED_BY}'"
    expressions = [entry["expression"] for entry in policies()["class-names"]["spec"]["validations"]]
    assert any(expression == f"object.metadata.?{enforced}" for expression in expressions)


def test_policies_allow_no_further_keys_as_shipped() -> None:
    """Check where the patch of docs/security.md finds the list, too."""
    for policy in ("class-names", "class-pods"):
        [first, *_] = policies()[policy]["spec"]["variables"]
        assert first == {"name": "platformKeys", "expression": "[]"}
