"""The pod of every flavor is admitted under Pod Security `restricted`, and options that a flavor does not support are reported."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.live import Live
from userstorage_operator.api.resources import USER_STORAGE_CLASSES

pytestmark = [pytest.mark.kwok]

OPEN = {"mode": "None", "acknowledgeUnauthenticated": True}
FLAVORS = [
    pytest.param({"browser": {"flavor": "FileBrowser"}}, id="FileBrowser"),
    pytest.param({"browser": {"flavor": "Quantum"}}, id="Quantum 1"),
    pytest.param({"browser": {"flavor": "Quantum", "image": "gtstef/filebrowser:2.0.0-stable"}}, id="Quantum 2"),
    pytest.param({"browser": {"flavor": "Quantum"}, "auth": OPEN}, id="Quantum, open"),
    pytest.param({"browser": {"flavor": "Copyparty"}}, id="Copyparty"),
    pytest.param({"browser": {"flavor": "Copyparty"}, "auth": OPEN}, id="Copyparty, open"),
    pytest.param({"browser": {"flavor": "Dufs"}, "auth": OPEN}, id="Dufs"),
    pytest.param({"browser": {"flavor": "Custom", "image": "example.org/files:1"}, "auth": OPEN}, id="Custom"),
]


@pytest.fixture
async def class_name(live: Live) -> AsyncIterator[str]:
    """The name for a class that the test creates; the class is deleted after the test."""
    name = f"flavor-{uuid.uuid4().hex[:8]}"
    yield name
    await live.delete(USER_STORAGE_CLASSES, name)


@pytest.mark.parametrize("spec", FLAVORS)
async def test_restricted_pod_of_each_flavor_becomes_ready_and_is_not_replaced(
    live: Live, operator: None, class_name: str, spec: dict[str, Any]
) -> None:
    await live.create_class(class_name, **spec)
    await live.create(className=class_name)
    before = (await live.until_ready())["status"]["podUID"]
    await live.change({"spec": {"lifecycle": {"startTimeout": "9m"}}})
    assert (await live.until_ready())["status"]["podUID"] == before


@pytest.mark.parametrize(
    ("browser", "field"),
    [
        ({"flavor": "Quantum", "image": "gtstef/filebrowser:latest"}, "class spec.browser.image"),
        ({"flavor": "Quantum", "permissions": {"rename": False}}, "class spec.browser.permissions.rename"),
        ({"flavor": "Quantum", "permissions": {"delete": False}}, "class spec.browser.permissions.delete"),
        ({"flavor": "Dufs", "permissions": {"delete": False}}, "class spec.browser.permissions"),
        ({"flavor": "Copyparty", "permissions": {"delete": False}}, "class spec.browser.permissions.delete"),
        (
            {"flavor": "Custom", "image": "example.org/files:1", "permissions": {"share": True}},
            "class spec.browser.permissions.share",
        ),
    ],
)
async def test_unsupported_option_is_reported_until_the_class_is_corrected(
    live: Live, operator: None, class_name: str, browser: dict[str, Any], field: str
) -> None:
    await live.create_class(class_name, browser=browser, auth=OPEN)
    await live.create(className=class_name)
    assert field in await live.until_condition("Ready", "False", "InvalidSpec")
    fields = dict.fromkeys(["create", "modify", "rename", "delete", "download"], True) | {"share": False}
    repaired = {"image": "gtstef/filebrowser:1.5.6-stable", "permissions": fields}
    await live.client.merge_patch(USER_STORAGE_CLASSES, "", class_name, {"spec": {"browser": repaired}})
    await live.until_ready()
